"""Threads of our own for compiled code that holds no GIL: as many as torch uses, safe to fork.

Numba's own are not: one layer ends a process that forks, another one a process that calls it from two threads.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch

_pool: tuple[int, int, ThreadPoolExecutor] | None = None  # process, threads, pool
_PIECES = 4  # a thread: so that one that falls behind holds up nobody for long


def split(n: int, job: Callable[[int, int], None]) -> None:
    """Call `job(start, stop)` until 0 to n is covered, on `torch.get_num_threads()` threads; here if that is one."""
    threads = min(torch.get_num_threads(), n)
    if threads <= 1:
        job(0, n)
        return
    pieces = min(n, _PIECES * threads)
    edges = [n * i // pieces for i in range(pieces + 1)]
    starts = iter(itertools.pairwise(edges))

    def work() -> None:
        for start, stop in starts:  # next() on one iterator is atomic under the GIL
            job(start, stop)

    others = [_executor(threads - 1).submit(work) for _ in range(threads - 1)]
    work()
    for other in others:
        other.result()


def _executor(threads: int) -> ThreadPoolExecutor:
    global _pool
    if _pool is None or _pool[0] != os.getpid() or _pool[1] < threads:
        # after a fork the parent's threads do not exist here
        _pool = (os.getpid(), threads, ThreadPoolExecutor(threads, thread_name_prefix="robustaug"))
    return _pool[2]
