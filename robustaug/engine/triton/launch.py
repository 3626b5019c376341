"""Send a schedule to the device in one copy and launch its kernels; nothing waits for the device.

Importing this module imports Triton.

Legend: B samples, C channels, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
import triton
from torch import Tensor

from robustaug.engine.triton import generate, machine
from robustaug.engine.triton.layout import BLOCK, LEVELS, OUT_HEIGHT, OUT_WIDTH, WARPS
from robustaug.engine.triton.schedule import Launch, Schedule
from robustaug.engine.triton.vocabulary import Vocabulary


def interpreted() -> bool:
    """Return whether kernels run in Triton's interpreter, which is decided when they are defined."""
    return not isinstance(machine.transform, triton.JITFunction)


def launch(
    plan: Schedule, vocabulary: Vocabulary, image: Tensor, out: Tensor, mean: Sequence[float], std: Sequence[float]
) -> None:
    """Run a schedule on (B, C, H, W) `image` and fill `out`; mean and std have one number a channel."""
    C = image.shape[1]
    device = image.device
    norm = np.concatenate([np.asarray(mean, np.float32), 1 / np.asarray(std, np.float64)]).astype(np.float32)
    jobs = np.concatenate([launch.jobs for launch in plan.launches])
    maps, metas, code, words, jobs_at, norm_at = _sent(
        [plan.maps, plan.metas, plan.code, plan.args, jobs, norm], device
    )
    scratch = torch.empty(max(plan.scratch_rows * C * plan.scratch_pixels, 16), dtype=torch.float32, device=device)
    pixels = max(int(np.prod(launch.jobs[:, _SIZE], axis=1).max()) for launch in plan.launches)
    tiles = -(-pixels // BLOCK)
    stats = torch.empty(max(plan.statistics * C * 2, 16), dtype=torch.float32, device=device)
    partial = torch.empty(max(plan.statistics * C * tiles * 2, 16), dtype=torch.float32, device=device)
    tables = torch.empty(max(plan.tables * C * LEVELS, 16), dtype=torch.float32, device=device)
    hist = torch.zeros(max(plan.tables * C * LEVELS, 16), dtype=torch.int32, device=device)

    # where nothing is gathered, four neighbours a thread make accesses of 16 bytes; a gather has its addresses one
    # pixel a thread, and passing them on to threads with four costs more than narrow stores, which coalesce as well
    aligned = _aligned(image, out, plan) and not (vocabulary.maps or vocabulary.taps)
    unit = 16 if aligned else 1

    def strides(tensor: Tensor) -> list[int]:
        return [step // unit for step in tensor.stride()[:2]] + list(tensor.stride()[2:])

    source = [image, *strides(image), scratch, plan.scratch_pixels // unit, C]
    programs = [code, words.view(torch.float32), words, maps, metas, stats, tables]
    planes = 3 if C == 3 else 1
    common: dict[str, Any] = {
        "ACT": generate.act(vocabulary),
        "FLAT": image.stride(3) == 1 and image.stride(2) == image.shape[3],
        "ALIGNED": aligned,
        "MAPS": vocabulary.maps,
        "TAPS": vocabulary.taps,
        "FORKS": vocabulary.forks,
        "PLANES": planes,
        "BLOCK": BLOCK,
        "num_warps": WARPS,
        "num_stages": 1,
    }
    transform, reduce, conclude = cast(Any, (machine.transform, machine.reduce, machine.conclude))
    first = 0
    for part in _in_parts(plan.launches):
        common["FROM_IMAGE"] = part.level == 0 or vocabulary.forks
        common["FROM_SCRATCH"] = part.level > 0
        count = len(part.jobs)
        grid = (-(-int(np.prod(part.jobs[:, _SIZE], axis=1).max()) // BLOCK), count, C // planes)
        if part.turn < 0:
            transform[grid](
                source[0], *source[1:5], out, *strides(out), *source[5:], jobs_at, first, *programs, norm_at,
                FLAT_OUT=out.stride(3) == 1 and out.stride(2) == out.shape[3], **common,
            )  # fmt: skip
        else:
            reduce[grid](
                *source, jobs_at, first, *programs, hist, partial, tiles, LOOKS_UP=vocabulary.looks_up, **common
            )
            conclude[(count, C)](
                jobs_at, first, C, stats, tables, hist, partial, tiles,
                PLANES=planes, BLOCK=BLOCK, num_warps=WARPS, num_stages=1,
            )  # fmt: skip
        first += count


_SIZE = [OUT_HEIGHT, OUT_WIDTH]
_MOST_JOBS = 65535  # what a grid's second axis holds


def _in_parts(launches: Sequence[Launch]) -> list[Launch]:
    return [
        Launch(launch.jobs[at : at + _MOST_JOBS], launch.level, launch.turn)
        for launch in launches
        for at in range(0, len(launch.jobs), _MOST_JOBS)
    ]


def _aligned(image: Tensor, out: Tensor, plan: Schedule) -> bool:
    """Whether every plane of every tensor starts at a multiple of 16 values and has a multiple of 16 pixels."""
    pixels = np.concatenate([np.prod(launch.jobs[:, _SIZE], axis=1) for launch in plan.launches])
    steps = [*image.stride()[:2], *out.stride()[:2]]
    return not (pixels % 16).any() and all(step % 16 == 0 for step in steps)


def _sent(arrays: Sequence[np.ndarray], device: torch.device) -> list[Tensor]:
    """Return these arrays on the device after one copy, each aligned to 16 bytes."""
    sizes = [-(-array.nbytes // 16) * 16 for array in arrays]
    host = torch.empty(sum(sizes), dtype=torch.uint8, pin_memory=device.type == "cuda")
    into, at = host.numpy(), 0
    for array, size in zip(arrays, sizes, strict=True):
        into[at : at + array.nbytes] = np.ascontiguousarray(array).view(np.uint8).reshape(-1)
        at += size
    sent = host.to(device, non_blocking=True)
    parts = sent.split(sizes)
    return [part.view(torch.from_numpy(array[:0].reshape(-1)).dtype) for part, array in zip(parts, arrays, strict=True)]
