"""How our fast path scales: time by batch size, image size and threads; peak memory; the wait before the first result.

Run: python benchmarks/augment_scaling.py [--json benchmarks/results/augment_scaling.json]

The pipeline is P1 of augment.py, uint8 in, float32 normalised out at 7/8 of the side. Times are medians of `--runs`
runs, each of `--seconds` or longer, into memory that is there. Peak memory is what a fresh process holds at its highest
above what it held before it had any image, relative to input and output together, results allocated by us. The first
result is timed in fresh processes too: with an empty cache of compiled kernels, and once more with the one just filled.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from augment import TASKS, seconds
from augment_peers import MEAN, STD
from machine import describe, write_json
from torch import Tensor

import robustaug

BATCHES = (1, 4, 16, 64, 256, 1024, 4096)
SIZES = (32, 64, 128, 256, 512, 1024)
BATCH, SIZE = 64, 256
PEAKS = ((64, 256), (512, 256), (32, 1024))
CACHES = ("ROBUSTAUG_CACHE", "NUMBA_CACHE_DIR", "TRITON_CACHE_DIR")


def shrunk(size: int) -> int:
    return size * 7 // 8


def compiled(size: int) -> Any:
    """Return P1 for images of `size` px."""
    [crop, *rest] = TASKS["P1"].ours
    crop = {name: {**params, "size": shrunk(size)} for name, params in crop.items()}
    return robustaug.Pipeline([crop, *rest]).compile(backend="auto", mean=MEAN, std=STD)


def noise(batch: int, size: int, device: str) -> Tensor:
    """Return (batch, 3, size, size) uint8; what is in the images does not matter here."""
    return (
        torch.arange(batch * 3 * size * size, dtype=torch.int32)
        .mul_(747796405)
        .to(torch.uint8)
        .to(device)
        .view(batch, 3, size, size)
    )


def bytes_in_and_out(batch: int, size: int) -> int:
    return batch * 3 * (size**2 + 4 * shrunk(size) ** 2)


def timed(batch: int, size: int, threads: int, device: str, options: Any) -> dict[str, Any]:
    """Return the time of one call."""
    torch.set_num_threads(threads)
    augment, images = compiled(size), noise(batch, size, device)
    out = torch.empty(batch, 3, shrunk(size), shrunk(size), device=device)
    call: Callable[[int], Any] = lambda epoch: augment(images, epoch=epoch, out=out)  # noqa: E731
    seconds(call, 1, 0)
    repeats = max(1, math.ceil(options.seconds / seconds(call, 1, 1)))
    times = [seconds(call, repeats, 2) / repeats for _ in range(options.runs)]
    median = statistics.median(times)
    row = {"batch": batch, "size": size, "threads": threads, "ms": round(median * 1e3, 4)}
    row["fastest_slowest_ms"] = [round(min(times) * 1e3, 4), round(max(times) * 1e3, 4)]
    row |= {"images_per_s": round(batch / median, 1), "ns_per_value": round(median * 1e9 / out.numel(), 3)}
    print("".join(f"{row[key]:>14,}" for key in ("batch", "size", "threads", "ms", "images_per_s", "ns_per_value")))
    return row


def peak(batch: int, size: int, device: str) -> dict[str, Any]:
    """Return the highest memory above what was held before, in a process of its own."""
    augment = compiled(size)
    augment(noise(2, size, device))  # compiles, starts threads
    before = _mark(device)
    images = noise(batch, size, device)
    _mark(device)  # making them took more than they take
    out = augment(images)
    above = _highest(device) - before
    needed = images.nbytes + out.nbytes
    row = {"batch": batch, "size": size, "needed_mb": round(needed / 1e6, 1), "peak_mb": round(above / 1e6, 1)}
    return row | {"peak_over_needed": round(above / needed, 3)}


def _mark(device: str) -> int:
    """Forget the highest and return the present memory in bytes."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return _status("VmRSS")


def _highest(device: str) -> int:
    return torch.cuda.max_memory_allocated() if device == "cuda" else _status("VmHWM")


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    [line] = [line for line in lines if line.startswith(key + ":")]
    return int(line.split()[1]) * 1024


def first_result(device: str) -> float:
    """Return seconds from a pipeline to its first result, imports aside."""
    images = noise(2, SIZE, device)
    started = time.perf_counter()
    compiled(SIZE)(images).cpu()
    return round(time.perf_counter() - started, 2)


def apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a fresh process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def first_results(device: str) -> dict[str, float]:
    """Time the first result with an empty and with a filled cache of kernels."""
    kept = {key: os.environ.get(key) for key in CACHES}
    with tempfile.TemporaryDirectory() as empty:
        os.environ.update(dict.fromkeys(CACHES, empty))
        found = {"empty_cache_s": apart(first_result, device), "filled_cache_s": apart(first_result, device)}
    for key, value in kept.items():
        os.environ.pop(key)
        os.environ.update({key: value} if value else {})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.3, help="least time of one run")
    parser.add_argument("--limit-gb", type=float, default=4.0, help="leave out what takes more for input and output")
    parser.add_argument("--json", help="write the result here")
    options = parser.parse_args()

    device = "cuda" if torch.cuda.is_available() else "cpu"
    cores = len(os.sched_getaffinity(0))
    print(compiled(SIZE).explain((3, SIZE, SIZE)))
    print("".join(f"{title:>14}" for title in ("batch", "size px", "threads", "ms", "images /s", "ns a value")))
    grid = [(batch, SIZE, threads) for threads in sorted({1, 2, cores}) for batch in BATCHES]
    grid += [(BATCH, size, threads) for threads in sorted({1, 2, cores}) for size in SIZES if size != SIZE]
    fitting = [row for row in grid if bytes_in_and_out(*row[:2]) <= options.limit_gb * 1e9]
    for batch, size, _ in sorted({*grid} - {*fitting}):
        print(f"left out: batch {batch} at {size} px takes more than {options.limit_gb:g} GB")
    rows = [timed(*row, device, options) for row in fitting]
    peaks = [apart(peak, batch, size, device) for batch, size in PEAKS]
    for row in peaks:
        print(
            f"peak memory of {row['batch']} images of {row['size']} px: {row['peak_mb']:,} MB, "
            f"{row['peak_over_needed']:.3f} of input and output"
        )
    first = first_results(device)
    print(f"first result after {first['empty_cache_s']} s, the next time after {first['filled_cache_s']} s")
    if options.json:
        about = {"benchmark": "augment_scaling", "device": device, "runs": options.runs, "seconds": options.seconds}
        about |= describe("robustaug", "torch", "numba", "triton", "numpy")
        write_json(options.json, about | {"times": rows, "peaks": peaks, "first_result": first})


if __name__ == "__main__":
    main()
