"""From steps to instructions: every sample's own program, cut only where its image has to exist in memory.

A sample's consecutive maps become one LOAD, whatever other samples do between them; formulas, lookups and statistics
follow in registers. A new launch is needed only where a map, a sharpening or a blur comes behind a formula: it reads
neighbours of values that have to be there first. So a sample of TrivialAugment costs one read and one write, and one
of RandAugment that happens to rotate after a colour change costs two of each, without a word to the others.

Legend: B samples, S steps, I instructions a sample, N numbers a sample, M maps a sample.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numba import types

from robustaug.engine.triton import layout, writer
from robustaug.engine.triton.vocabulary import Vocabulary, blur_of, formula_of, is_sharpness
from robustaug.jit import dispatcher
from robustaug.ops.program import MAP_ARGUMENTS, Kernel, Step


@dataclass(frozen=True)
class Launch:
    """Jobs that one kernel does at once.

    Attributes:
        jobs: (n, JOB) int32; see `robustaug.engine.triton.layout`.
        level: launches of a level come after all of lower ones.
        turn: of a statistic within its level; -1 for a launch that stores images.
    """

    jobs: np.ndarray
    level: int
    turn: int


@dataclass(frozen=True)
class Schedule:
    """What a batch does.

    Attributes:
        code: (B, I, INSTRUCTION) int32.
        args: (B, N) int32, the bits of float32 numbers, and words of random keys.
        maps, metas: (B, M, 9) float64 and (B, M, META) int32.
        launches: in order.
        scratch_rows, scratch_pixels: float32 images kept between launches, and the size of a channel of each.
        statistics, tables: how many of each there are.
    """

    code: np.ndarray
    args: np.ndarray
    maps: np.ndarray
    metas: np.ndarray
    launches: list[Launch]
    scratch_rows: int
    scratch_pixels: int
    statistics: int
    tables: int


def schedule(steps: Sequence[Step], n: int, size: tuple[int, int], vocabulary: Vocabulary) -> Schedule:
    """Return what n images of `size` (H, W) do in `steps`."""
    picks = np.stack([step.pick.numpy() for step in steps]) if steps else np.zeros((0, n), np.int64)
    numbers, base, table = _numbers(steps, n, vocabulary)
    first = np.cumsum([0, *(len(step.kernels) for step in steps)])[:-1] if steps else np.zeros(0, np.int64)
    sizes = np.array([size, *(step.shape[1:] for step in steps)], np.int64)
    # the first LOAD; then an instruction or a LOAD a step, two where a blur goes or a chain ends
    longest = 1 + sum(
        max(1 + (k.kind == "add" or blur_of(k) is not None) for k in step.kernels) for step in steps if step.kernels
    )
    moving = sum(any(kernel.kind == "map" for kernel in step.kernels) for step in steps)
    code = np.zeros((n, longest, layout.INSTRUCTION), np.int32)
    maps, metas = np.zeros((n, max(moving, 1), MAP_ARGUMENTS)), np.zeros((n, max(moving, 1), layout.META), np.int32)
    jobs, totals = np.zeros((n * longest, layout.JOB + 2), np.int32), np.zeros(writer.TOTALS, np.int64)
    with np.errstate(over="ignore"):
        args = numbers.astype(np.float32).view(np.int32)
    _compiled()(picks, table, first.astype(np.int64), base, sizes, args, numbers, code, maps, metas, jobs, totals)
    return Schedule(
        code,
        args,
        maps,
        metas,
        _launches(jobs[: totals[writer.JOBS]]),
        int(totals[writer.ROWS]),
        -(-int(totals[writer.MOST_PIXELS]) // 16) * 16,  # so that every row of scratch is aligned
        int(totals[writer.STATISTICS]),
        int(totals[writer.TABLES]),
    )


def _numbers(steps: Sequence[Step], n: int, vocabulary: Vocabulary) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the steps' arguments side by side, (B, N) float64, where each step's begin, and the table of kernels."""
    columns, base, rows, width = [np.zeros((n, 1))], [], [], 1  # one number at least
    for step in steps:
        base.append(width)
        columns.append(step.args.numpy())
        width += step.args.shape[1]
        for kernel in step.kernels:
            row = _row(kernel, vocabulary)
            if blur := blur_of(kernel):
                taps = blur.taps(step.args).numpy()
                row[writer.TAPS_BASE], row[writer.TAPS_COUNT] = width, taps.shape[1]
                columns.append(taps)
                width += taps.shape[1]
            rows.append(row)
    table = np.array(rows, np.int64).reshape(-1, writer.TABLE)
    return np.concatenate(columns, axis=1), np.array(base, np.int64), table


def _row(kernel: Kernel, vocabulary: Vocabulary) -> np.ndarray:
    """Return a kernel's row of the writer's table."""
    row = np.zeros(writer.TABLE, np.int64)
    row[writer.NEED_OF] = row[writer.KEY] = -1
    if formula := formula_of(kernel):
        row[writer.FAMILY], row[writer.OPCODE] = writer.FORMULA, vocabulary.opcodes[formula]
        row[writer.NEED_OF] = layout.NEEDS.get(kernel.reads, -1)
        row[writer.KEY] = formula.arguments if kernel.draws else -1
    elif kernel.kind == "equalize":
        row[writer.FAMILY], row[writer.OPCODE], row[writer.NEED_OF] = writer.FORMULA, layout.LOOKUP, layout.HISTOGRAM
    elif blur := blur_of(kernel):
        row[writer.FAMILY], row[writer.TAPS_ROW], row[writer.TAPS_COLUMN] = writer.BLUR, blur.row, blur.column
    else:
        families = {"map": writer.MAP, "fork": writer.FORK, "add": writer.ADD, "join": writer.JOIN}
        row[writer.FAMILY] = writer.SHARPEN if is_sharpness(kernel) else families[kernel.kind]
        row[writer.EDGE] = kernel.outside == "edge"
    return row


def _launches(jobs: np.ndarray) -> list[Launch]:
    """Sort jobs (n, JOB + 2) into launches: by level, the statistics in turn, then what stores images."""
    level, turn = jobs[:, layout.JOB].astype(np.int64), jobs[:, layout.JOB + 1].astype(np.int64)
    rank = level * (1 << 32) + np.where(turn < 0, (1 << 32) - 1, turn)
    order = np.argsort(rank, kind="stable")
    cuts = np.flatnonzero(np.diff(rank[order])) + 1
    parts = np.split(jobs[order], cuts)
    return [
        Launch(np.ascontiguousarray(part[:, : layout.JOB]), int(part[0, layout.JOB]), int(part[0, layout.JOB + 1]))
        for part in parts
    ]


@functools.cache
def _compiled() -> Any:
    """Return `writer.write`, compiled or read from disk."""
    table, small = types.Array(types.int64, 2, "C"), types.Array(types.int64, 1, "C")
    words, code = types.Array(types.int32, 2, "C"), types.Array(types.int32, 3, "C")
    numbers, maps = types.Array(types.float64, 2, "C"), types.Array(types.float64, 3, "C")
    signature = types.void(table, table, small, small, table, words, numbers, code, maps, code, words, small)
    text = [Path(module.__file__ or "").read_text(encoding="utf-8") for module in (writer, layout)]
    return dispatcher(writer.write.py_func, signature, "triton-schedule", *text)


def described(plan: Schedule, channels: int, in_bytes: int, out_bytes: int) -> list[tuple[str, int]]:
    """Return each launch in words, and the bytes of images that it reads and writes."""
    told = []
    for launch in plan.launches:
        read = written = 0
        for job in launch.jobs:
            rows = plan.code.reshape(-1, layout.INSTRUCTION)[job[layout.FIRST] : job[layout.LAST]]
            loads = rows[rows[:, layout.OP] == layout.LOAD]
            sizes = loads[:, layout.HEIGHT].astype(np.int64) * loads[:, layout.WIDTH]
            read += int((sizes * np.where(loads[:, layout.SOURCE] == layout.IMAGE, in_bytes, 4)).sum())
            pixels = int(job[layout.OUT_HEIGHT]) * int(job[layout.OUT_WIDTH])
            if launch.turn < 0:
                written += pixels * (out_bytes if job[layout.ROW_OUT] == layout.OUT else 4)
        verb = "statistic of" if launch.turn >= 0 else "pass over"
        told.append((f"{verb} {len(launch.jobs)} images", (read + written) * channels))
    return told
