"""One small pool of threads for compiled loops that release the interpreter lock.

It follows `torch.get_num_threads()`, so it stays out of the way in DataLoader workers, which have one.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

_SHARES = 4  # chunks a thread: enough to even out threads that are held up, few enough to cost nothing

_pool: tuple[int, int, ThreadPoolExecutor] | None = None  # process id, threads, pool


def run(function: Callable[..., Any], n: int, *args: Any) -> None:
    """Call `function(*args, start, stop)` on contiguous chunks that cover 0 to n-1, from several threads.

    The caller's thread works too, and alone where torch has one thread or n is 1. Chunks are handed out as threads
    come free, so their order is not fixed. May be called from inside itself.

    Raises:
        Whatever `function` raises; chunks that were not begun are then left out.
    """
    threads = min(torch.get_num_threads(), n)
    if threads <= 1:
        if n > 0:
            function(*args, 0, n)
        return
    size = -(-n // (threads * _SHARES))
    starts = iter(range(0, n, size))

    def work() -> None:
        try:
            for start in starts:  # a range iterator gives each start to one thread only
                function(*args, start, min(start + size, n))
        except BaseException:
            for _ in starts:
                pass
            raise

    pool = _executor(torch.get_num_threads() - 1)
    helpers = [pool.submit(work) for _ in range(threads - 1)]
    try:
        work()
    finally:
        # one that has not begun finds nothing left to do; waiting for it could wait for ourselves
        begun = [helper for helper in helpers if not helper.cancel()]
        failures = [failure for helper in begun if (failure := helper.exception())]
    if failures:
        raise failures[0]


def _executor(threads: int) -> ThreadPoolExecutor:
    """Return this process's pool: a fork leaves its threads behind, so a child makes its own."""
    global _pool
    pool = _pool
    if pool is None or pool[0] != os.getpid() or pool[1] < threads:
        pool = (os.getpid(), threads, ThreadPoolExecutor(threads, thread_name_prefix="robustaug"))
        _pool = pool
    return pool[2]
