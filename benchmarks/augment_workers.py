"""Worker processes for peers that take one image at a time: forked once, working on memory that all of them share.

A job travels as (peer, task, first, last), a few bytes; images and results stay where they are, so nothing that a peer
makes is pickled or copied once more. Workers run one thread each.
"""

from __future__ import annotations

import functools
import mmap
import multiprocessing
import os
import random
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

Job = Callable[[Tensor, Tensor], None]
"""Augments images (n, ...) into results (n, ...), both in the peer's layout."""

CHUNKS = 8
"""Slices a worker and run: small enough to even out, large enough that handing them out costs nothing."""


class Room(NamedTuple):
    """One task's images and the place for its results, in shared memory.

    Attributes:
        chw: (N, 3, H, W) uint8, and `hwc`, the same images as (N, H, W, 3): a peer reads what it likes best.
        out: (N, 3, h, w), float32 or uint8; `out_hwc` is the same memory as (N, h, w, 3).
    """

    chw: Tensor
    hwc: Tensor
    out: Tensor

    @property
    def out_hwc(self) -> Tensor:
        n, channels, height, width = self.out.shape
        return self.out.view(n, height, width, channels)

    def part(self, layout: str, rows: slice) -> tuple[Tensor, Tensor]:
        """Return images and results of some rows in a layout, "chw" or "hwc"."""
        images, results = (self.hwc, self.out_hwc) if layout == "hwc" else (self.chw, self.out)
        return images[rows], results[rows]


def shared(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Return zeros in memory that processes forked from here on share."""
    numbers = int(np.prod(shape))
    return torch.frombuffer(mmap.mmap(-1, numbers * dtype.itemsize), dtype=dtype, count=numbers).view(shape)


def room(images: Tensor, side: int, dtype: torch.dtype) -> Room:
    """Return a room for (N, 3, H, W) uint8 images whose results have `side` pixels a side."""
    n, channels, height, width = images.shape
    made = Room(
        shared((n, channels, height, width), torch.uint8),
        shared((n, height, width, channels), torch.uint8),
        shared((n, channels, side, side), dtype),
    )
    made.chw.copy_(images)
    made.hwc.copy_(images.permute(0, 2, 3, 1))
    return made


class Crew:
    """Persistent processes that have the rooms and know how to make each peer's job.

    Make it before anything starts threads: it forks.

    Args:
        rooms: by task.
        make: (peer, task) -> its layout and its job; called once in each worker.
        processes: how many.
    """

    def __init__(self, rooms: dict[str, Room], make: Callable[[str, str], tuple[str, Job]], processes: int) -> None:
        self.rooms, self.processes = rooms, processes
        self.pool = multiprocessing.get_context("fork").Pool(processes, _begin, (rooms, make))

    def run(self, peer: str, task: str, alone: bool = False) -> None:
        """Let a peer fill the task's results; alone, one process fills the first `portion` of them."""
        n = len(self.rooms[task].chw)
        step = max(1, n // (CHUNKS * self.processes))
        slices = [(peer, task, first, min(first + step, n)) for first in range(0, n, step)]
        self.pool.starmap(_work, [(peer, task, 0, self.portion(task))] if alone else slices, chunksize=1)

    def portion(self, task: str) -> int:
        """Return one process's share of the images."""
        return max(1, len(self.rooms[task].chw) // self.processes)

    def close(self) -> None:
        self.pool.terminate()
        self.pool.join()


_HERE: dict[str, Any] = {}


def _begin(rooms: dict[str, Room], make: Callable[[str, str], tuple[str, Job]]) -> None:
    _HERE.update(rooms=rooms, make=functools.cache(make))
    one_thread()
    # forked workers would otherwise all draw alike
    torch.manual_seed(os.getpid())
    random.seed(os.getpid())
    np.random.seed(os.getpid())  # noqa: NPY002 (imagecorruptions draws from it)


def one_thread() -> None:
    torch.set_num_threads(1)
    try:
        import cv2
    except ImportError:
        return
    cv2.setNumThreads(0)


def _work(peer: str, task: str, first: int, last: int) -> None:
    layout, job = _HERE["make"](peer, task)
    job(*_HERE["rooms"][task].part(layout, slice(first, last)))
