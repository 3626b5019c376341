"""The CPU backend: steps become lists of instructions, samples are shared out among threads.

Legend: B samples, C channels, H rows, W columns, S steps, K kernels.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numba import types
from torch import Tensor

from robustaug import threads
from robustaug.engine.cpu import executor, formula, gather, statistics, store
from robustaug.engine.cpu.executor import ADD, EQUALIZE, FORK, FORMULA, JOIN, MAP, STAGE
from robustaug.engine.cpu.gather import TILE
from robustaug.engine.cpu.stage import compiled_stage
from robustaug.engine.cpu.stages import STAGES
from robustaug.engine.source import FormulaError
from robustaug.jit import dispatcher
from robustaug.ops.program import Kernel, Step

IN = {torch.uint8: gather.U8, torch.float32: gather.F32}
OUT = {torch.float32: store.F32, torch.uint8: store.U8, torch.float16: store.F16, torch.bfloat16: store.BF16}
_KINDS = {"value": FORMULA, "pixel": FORMULA, "equalize": EQUALIZE, "join": JOIN, "map": MAP, "stage": STAGE}
_KINDS |= {"fork": FORK, "add": ADD}
_DRAWS = {"": executor.NO_DRAWS, "normal": executor.NORMAL, "uniform": executor.UNIFORM}
_ARGUMENTS = 64  # what a formula or a stage may read
_local = threading.local()
_rows: dict[Kernel, tuple[int, ...]] = {}


def supports(kernel: Kernel, channels: int) -> str:
    """Return why this backend cannot run a kernel, "" if it can."""
    if kernel.kind == "stage":
        stage = STAGES.get(kernel.name)
        if stage is None:
            return "has no compiled form for the CPU"
        if stage.channels and channels not in stage.channels:
            return f"is compiled for {' or '.join(map(str, stage.channels))} channels, got {channels}"
        return ""
    if kernel.kind in ("value", "pixel"):
        try:
            _row(kernel)
        except FormulaError as error:
            return str(error)
    return ""


def run(steps: Sequence[Step], image: Tensor, out: Tensor, mean: Sequence[float], std: Sequence[float]) -> None:
    """Run steps, whose kernels are all supported.

    Args:
        image: (B, C, H, W) of any strides, uint8 or float32.
        out: (B, C, h, w) of any strides, float32, float16, bfloat16 or uint8; written as (x - mean) / std.
        mean, std: one number a channel.
    """
    (B, C, H, W) = image.shape
    codes, args, kernels = _instructions(steps, B)
    sizes = np.array([(H, W), *(step.shape[1:] for step in steps)], np.int64)
    largest = C * int(sizes.prod(1).max())
    source, target = _described(image, IN), _described(out, OUT)
    shift, scale = np.asarray(mean, np.float32), (1 / np.asarray(std, np.float64)).astype(np.float32)
    counts = np.array([B, len(steps), args.shape[2], kernels.shape[1], C, largest], np.int64)
    shared = _addresses(codes, args, sizes, kernels, source, target, shift, scale)
    entry = _entry()
    threads.run(lambda start, stop: entry(start, stop, counts, shared, _scratch(C, largest)), B)


def _instructions(steps: Sequence[Step], n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return codes (B, S), args (B, S, A) and the kernel table (6, K)."""
    width = max([_ARGUMENTS, *(step.args.shape[1] for step in steps)])
    codes, args = np.full((n, len(steps)), -1, np.int64), np.zeros((n, len(steps), width))
    place: dict[Kernel, int] = {}
    for s, step in enumerate(steps):
        at = np.array([place.setdefault(kernel, len(place)) for kernel in step.kernels] + [-1])
        codes[:, s] = at[step.pick.numpy()]  # -1 reads the last entry
        args[:, s, : step.args.shape[1]] = step.args.numpy()
    return codes, args, np.ascontiguousarray(np.array([_row(kernel) for kernel in place], np.int64).reshape(-1, 6).T)


def _row(kernel: Kernel) -> tuple[int, ...]:
    """Return a kernel's column of the executor's table; compiles what it points to."""
    row = _rows.get(kernel)
    if row is None:
        address, key = 0, 0
        if kernel.kind in ("value", "pixel"):
            address, key = formula.compiled(kernel).address, formula.count(kernel)
        elif kernel.kind == "stage":
            address = compiled_stage(kernel.name).address
        read = statistics.HISTOGRAM if kernel.kind == "equalize" else statistics.CODES[kernel.reads]
        border = gather.EDGE if kernel.outside == "edge" else gather.ZERO
        row = _rows[kernel] = (_KINDS[kernel.kind], address, read, _DRAWS[kernel.draws], key, border)
    return row


def _described(tensor: Tensor, codes: dict[torch.dtype, int]) -> np.ndarray:
    """Return address, dtype, channels, and bytes a sample, channel, row and column."""
    size = tensor.element_size()
    return np.array(
        [tensor.data_ptr(), codes[tensor.dtype], tensor.shape[1], *(size * stride for stride in tensor.stride())],
        np.int64,
    )


def _addresses(*arrays: np.ndarray) -> np.ndarray:
    return np.array([array.ctypes.data for array in arrays], np.int64)


def _scratch(channels: int, largest: int) -> np.ndarray:
    """Return the addresses of this thread's scratch; pages of it that no pass touches cost no memory."""
    kept = getattr(_local, "scratch", None)
    if kept is None or kept[0] != (channels, largest):
        each = {"": 1, "plane": largest, "tiles": channels * TILE, "channel": channels}
        arrays = [np.empty(count * each[of], dtype) for count, of, dtype in executor.SCRATCH]
        kept = _local.scratch = ((channels, largest), arrays, _addresses(*arrays))
    return kept[2]


_compiled: Any = None
_compiling = threading.Lock()


def _entry() -> Any:
    """Return the compiled executor."""
    global _compiled
    with _compiling:
        if _compiled is None:
            whole = types.Array(types.int64, 1, "C")
            signature = types.void(types.int64, types.int64, whole, whole, whole)
            _compiled = dispatcher(executor.run_samples.py_func, signature, "executor")
    return _compiled
