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
from robustaug.engine.cpu.executor import ADD, EQUALIZE, FORK, FORMULA, JOIN, MAP, PLANES, STAGE
from robustaug.engine.cpu.gather import CHAIN, TILE
from robustaug.engine.cpu.stage import STAGES, compiled_stage
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

_i, _f, _d = types.int64, types.float32, types.float64


def _array(of: Any, rank: int) -> Any:
    return types.Array(of, rank, "C")


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
    entry = _entry()

    def job(start: int, stop: int) -> None:
        planes, tile, work = _scratch(C, largest)
        entry(start, stop, codes, args, sizes, kernels, source, target, shift, scale, planes, tile, work)

    threads.run(job, B)


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


def _scratch(channels: int, largest: int) -> Any:
    """Return this thread's planes, tile and work; pages of them that no pass touches cost no memory."""
    kept = getattr(_local, "scratch", None)
    if kept is None or kept[0] != channels or kept[1][0].shape[1] < largest or kept[1][0].shape[1] > 4 * largest:
        made = np.empty((PLANES, largest), np.float32), np.empty((2, channels, TILE), np.float32), _work(channels)
        kept = _local.scratch = (channels, made)
    return kept[1]


def _work(channels: int) -> tuple[np.ndarray, ...]:
    """Return what the executor keeps for itself: positions, offsets, taps, chains of maps, statistics."""
    tiles = [np.empty(TILE), np.empty(TILE), *(np.empty(TILE, np.float32) for _ in range(3))]
    offsets = [np.empty(TILE, np.int64), np.empty(TILE, np.int64), np.empty((4, TILE), np.uint32)]
    maps = [np.empty((CHAIN, 9)), np.empty((CHAIN + 1, 2), np.int64), np.empty(CHAIN, np.int64), np.empty((CHAIN, 9))]
    bounds = np.empty((CHAIN, 3), np.int64)
    found = [np.empty((channels, 2)), np.empty((channels, 2)), np.empty((channels, 256), np.int64)]
    return (*tiles, *offsets, *maps, bounds, *found, np.empty((channels, 256), np.float32))


_compiled: Any = None
_compiling = threading.Lock()


def _entry() -> Any:
    """Return the compiled executor."""
    global _compiled
    with _compiling:
        if _compiled is None:
            float1, float2, int1, int2 = _array(_f, 1), _array(_f, 2), _array(_i, 1), _array(_i, 2)
            double1, double2 = _array(_d, 1), _array(_d, 2)
            tiles = [double1, double1, float1, float1, float1, int1, int1, _array(types.uint32, 2)]
            maps = [double2, int2, int1, double2, int2]
            work = types.Tuple([*tiles, *maps, double2, double2, int2, float2])
            lists = (_i, _i, int2, _array(_d, 3), int2, int2)
            ends = (int1, int1, float1, float1, float2, _array(_f, 3), work)
            _compiled = dispatcher(executor.run_samples.py_func, types.void(*lists, *ends), "executor")
    return _compiled
