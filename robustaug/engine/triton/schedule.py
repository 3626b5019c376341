"""From steps to instructions: every sample's own program, cut only where its image has to exist in memory.

A sample's consecutive maps become one LOAD, whatever other samples do between them; formulas, lookups and statistics
follow in registers. A new launch is needed only where a map, a sharpening or a blur comes behind a formula: it reads
neighbours of values that have to be there first. So a sample of TrivialAugment costs one read and one write, and one
of RandAugment that happens to rotate after a colour change costs two of each, without a word to the others.

All of it is arrays over the batch: the work a step does not grow with the samples' number in Python.

Legend: B samples, S steps, I instructions a sample, N numbers a sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from robustaug.engine.triton import layout
from robustaug.engine.triton.vocabulary import Blur, Vocabulary, blur_of, formula_of, is_sharpness
from robustaug.ops.program import MAP_ARGUMENTS, Kernel, Step

Rows = np.ndarray
"""Positions of samples, (n,) int64."""


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
        size: (H, W) of the result.
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
    size: tuple[int, int]


def schedule(steps: Sequence[Step], n: int, size: tuple[int, int], vocabulary: Vocabulary) -> Schedule:
    """Return what n images of `size` (H, W) do in `steps`."""
    writer = _Writer(steps, n, size)
    for position, step in enumerate(steps):
        writer.take(position, step, vocabulary)
    return writer.finished()


@dataclass
class _Jobs:
    """Jobs found so far, a few arrays a column: (rows, level, turn)."""

    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = field(default_factory=list)

    def add(self, columns: dict[int, Rows | int], level: Rows, turn: Rows | int) -> None:
        rows = np.zeros((len(level), layout.JOB), np.int32)
        for column, values in columns.items():
            rows[:, column] = values
        self.found.append((rows, level, np.broadcast_to(np.asarray(turn), level.shape)))

    def launches(self) -> list[Launch]:
        rows, levels, turns = (np.concatenate(parts) for parts in zip(*self.found, strict=True))
        last = np.where(turns < 0, np.iinfo(np.int64).max, turns)  # images are stored when all is known
        order = np.lexsort((rows[:, layout.SAMPLE], last, levels))
        rows, levels, turns, last = rows[order], levels[order], turns[order], last[order]
        cuts = np.flatnonzero((np.diff(levels) != 0) | (np.diff(last) != 0)) + 1
        starts = [0, *cuts.tolist()]
        return [
            Launch(part, int(levels[start]), int(turns[start]))
            for part, start in zip(np.split(rows, cuts), starts, strict=True)
        ]


class _Writer:
    def __init__(self, steps: Sequence[Step], n: int, size: tuple[int, int]) -> None:
        self._n, self._size = n, size
        self._most_pixels = 0
        blurs = sum(blur_of(kernel) is not None for step in steps for kernel in step.kernels)
        self._code = np.zeros((n, 2 + 2 * len(steps) + 2 * blurs, layout.INSTRUCTION), np.int32)
        self._numbers: list[np.ndarray] = []
        self._width = 0  # numbers a sample so far
        moving = sum(any(kernel.kind == "map" for kernel in step.kernels) for step in steps)
        self._maps = np.zeros((n, max(moving, 1), MAP_ARGUMENTS))
        self._metas = np.zeros((n, max(moving, 1), layout.META), np.int32)
        # offsets within a sample until `finished` knows the widths
        self._at: list[tuple[Rows, Rows, int]] = []  # (samples, instructions, field) that point into the numbers
        self._jobs = _Jobs()
        self._rows = self._statistics = self._tables = 0

        def zeros(dtype: type = np.int64) -> np.ndarray:
            return np.zeros(n, dtype)

        self._count, self._mapped, self._level, self._turn = zeros(), zeros(), zeros(), zeros()
        self._open = zeros()  # the last layout.LOAD
        self._origin = zeros()  # where a program has to start to make what is in registers now
        self._start = zeros()  # where the job that is being written starts
        self._dirty = zeros(bool)  # a formula came behind the last layout.LOAD
        self._kept = np.full((n, 2), -1, np.int64)  # two rows of scratch in turn
        self._flip = zeros()
        self._forked = zeros(bool)
        self._fork_source, self._fork_level = zeros(), zeros()
        self._latest_level, self._latest_turn = zeros(), zeros()  # over the chains of a fork
        self._load(np.arange(n), layout.IMAGE)

    # -- instructions

    def _emit(self, who: Rows, fields: dict[int, Rows | int]) -> Rows:
        at = self._count[who]
        for column, values in fields.items():
            self._code[who, at, column] = values
        self._count[who] += 1
        return at

    def _load(self, who: Rows, source: Rows | int) -> None:
        height, width = self._size
        first = self._mapped[who]
        fields = {
            layout.OP: layout.LOAD,
            layout.SOURCE: source,
            layout.MAP_FIRST: first,
            layout.MAP_LAST: first,
            layout.HEIGHT: height,
            layout.WIDTH: width,
        }
        self._open[who] = self._emit(who, {**fields, layout.TAPS_N: 1})
        self._dirty[who] = False
        self._turn[who] = 0

    def _plain(self, who: Rows) -> Rows:
        """Whether the open layout.LOAD reads pixels as they are."""
        at = self._open[who]
        row = self._code[who, at]
        return ~self._dirty[who] & (row[:, layout.MAP_FIRST] == row[:, layout.MAP_LAST]) & (row[:, layout.TAPS] == 0)

    def _neighbourless(self, who: Rows) -> Rows:
        return ~self._dirty[who] & (self._code[who, self._open[who], layout.TAPS] == 0)

    def _materialise(self, who: Rows) -> None:
        """Write what these samples have in registers to scratch, and go on from there."""
        if len(who) == 0:
            return
        rows = self._new_rows(who)
        height, width = self._size
        self._most_pixels = max(self._most_pixels, height * width)
        origin, end = self._origin[who], self._count[who]
        columns = {layout.SAMPLE: who, layout.FIRST: origin, layout.LAST: end, layout.ROW_OUT: rows}
        self._jobs.add(columns | {layout.OUT_HEIGHT: height, layout.OUT_WIDTH: width}, self._level[who].copy(), -1)
        self._level[who] += 1
        # the program of a fork starts behind this part of a chain, or jumps over it
        inside = who[self._forked[who]]
        head = self._open[inside]
        later = inside[head != self._start[inside]]
        self._code[later, self._open[later], layout.SKIP] = self._count[later] - self._open[later]
        begins = np.concatenate([who[~self._forked[who]], inside[head == self._start[inside]]])
        self._start[begins] = self._count[begins]
        self._load(who, rows)
        self._origin[who] = self._open[who]

    def _new_rows(self, who: Rows) -> Rows:
        """Return a row of scratch for each sample: two in turn, or one more within a fork, whose parts all wait."""
        flip = self._flip[who]
        rows = self._kept[who, flip]
        fresh = (rows < 0) | self._forked[who]
        rows[fresh] = self._rows + np.arange(fresh.sum())
        self._rows += int(fresh.sum())
        lasting = ~self._forked[who]
        self._kept[who[lasting], flip[lasting]] = rows[lasting]
        self._flip[who[lasting]] ^= 1
        return rows

    # -- steps

    def take(self, position: int, step: Step, vocabulary: Vocabulary) -> None:
        pick = step.pick.numpy()
        args = step.args.numpy()
        used = {int(p) for p in np.unique(pick)} - {-1}
        base = self._take_numbers(step, pick, args, used)
        groups: dict[str, list[int]] = {}
        for number in used:
            groups.setdefault(_family(step.kernels[number]), []).append(number)
        for family, numbers in groups.items():
            who = np.flatnonzero(np.isin(pick, numbers))
            self._steps[family](self, who, pick[who], step, base, vocabulary)
        self._size = step.shape[1:]

    def _take_numbers(self, step: Step, pick: np.ndarray, args: np.ndarray, used: set[int]) -> int:
        """Keep a step's arguments as bits of float32; the four words of a key are whole numbers."""
        base = self._width
        if all(kernel.kind in ("map", "equalize", "fork") for kernel in step.kernels):
            return base
        with np.errstate(over="ignore"):
            bits = args.astype(np.float32).view(np.int32)
        for number in used:
            formula = formula_of(step.kernels[number])
            if formula is not None and formula.draws:
                who, key = np.flatnonzero(pick == number), formula.arguments
                bits[who, key : key + 4] = args[who, key : key + 4].astype(np.uint64).astype(np.uint32).view(np.int32)
        self._numbers.append(bits)
        self._width += bits.shape[1]
        return base

    def _map(self, who: Rows, pick: Rows, step: Step, base: int, vocabulary: Vocabulary) -> None:
        self._materialise(who[~self._neighbourless(who)])
        matrix = step.args.numpy()[who, :MAP_ARGUMENTS].reshape(-1, 3, 3)
        edge = np.array([kernel.outside == "edge" for kernel in step.kernels])[pick]
        hides = _leaves(matrix, step.shape[1:], self._size)
        outside = np.where(hides, np.where(edge, layout.EDGE, layout.ZERO), layout.NOWHERE)
        # what hides nothing needs no place of its own: the map before it goes all the way
        joins = ~hides & (self._mapped[who] > self._code[who, self._open[who], layout.MAP_FIRST])
        self._mapped[who[~joins]] += 1
        at = self._mapped[who] - 1
        matrix[joins] = self._maps[who[joins], at[joins]].reshape(-1, 3, 3) @ matrix[joins]
        # a map without perspective needs no division
        flat = (matrix[:, 2, :2] == 0).all(axis=1) & (matrix[:, 2, 2] != 0)
        matrix = matrix / np.where(flat, matrix[:, 2, 2], 1.0)[:, None, None]
        self._maps[who, at] = matrix.reshape(-1, MAP_ARGUMENTS)
        self._metas[who, at, layout.MAP_PROJECTIVE] = ~flat
        alone = who[~joins], at[~joins]
        height, width = self._size
        for column, value in (
            (layout.MAP_HEIGHT, height),
            (layout.MAP_WIDTH, width),
            (layout.MAP_OUTSIDE, outside[~joins]),
        ):
            self._metas[(*alone, column)] = value
        self._code[who, self._open[who], layout.MAP_LAST] = self._mapped[who]

    def _formula(self, who: Rows, pick: Rows, step: Step, base: int, vocabulary: Vocabulary) -> None:
        opcodes = np.array([vocabulary.opcode(kernel) if formula_of(kernel) else 0 for kernel in step.kernels])
        needs = np.array([layout.NEEDS.get(kernel.reads, -1) for kernel in step.kernels])[pick]
        at = self._emit(who, {layout.OP: opcodes[pick]})
        self._at.append((who, at, layout.AT))
        self._code[who, at, layout.AT] = base
        self._read(who, at, needs)
        self._dirty[who] = True

    def _equalize(self, who: Rows, pick: Rows, step: Step, base: int, vocabulary: Vocabulary) -> None:
        at = self._emit(who, {layout.OP: layout.LOOKUP})
        self._read(who, at, np.full(len(who), layout.HISTOGRAM))
        self._dirty[who] = True

    def _read(self, who: Rows, at: Rows, needs: Rows) -> None:
        """Have statistics made of the image as it is before the instructions `at`; -1 needs none."""
        wanted = needs >= 0
        who, at, needs = who[wanted], at[wanted], needs[wanted]
        if len(who) == 0:
            return
        counted = needs == layout.HISTOGRAM
        rows = np.where(counted, self._tables + np.cumsum(counted) - 1, self._statistics + np.cumsum(~counted) - 1)
        self._tables += int(counted.sum())
        self._statistics += int((~counted).sum())
        self._code[who, at, layout.STATISTIC] = rows
        columns = {layout.SAMPLE: who, layout.FIRST: self._origin[who], layout.LAST: at, layout.ROW_OUT: rows}
        columns |= {layout.OUT_HEIGHT: self._size[0], layout.OUT_WIDTH: self._size[1], layout.NEED: needs}
        self._jobs.add(columns, self._level[who].copy(), self._turn[who].copy())
        self._turn[who] += 1

    def _sharpen(self, who: Rows, pick: Rows, step: Step, base: int, vocabulary: Vocabulary) -> None:
        self._materialise(who[~self._neighbourless(who)])
        self._around(who, layout.SHARPEN, base, 9)

    def _blur(self, who: Rows, pick: Rows, step: Step, base: int, vocabulary: Vocabulary) -> None:
        for number in np.unique(pick):
            some, kind = who[pick == number], blur_of(step.kernels[number])
            assert isinstance(kind, Blur)
            taps = kind.taps(step.args[torch.from_numpy(some)])
            bits = np.zeros((self._n, taps.shape[1]), np.float32)
            bits[some] = taps.numpy()
            at = self._width
            self._numbers.append(bits.view(np.int32))
            self._width += taps.shape[1]
            # a position behind maps is dear, and a neighbourhood asks for many
            self._materialise(some[~self._plain(some)])
            self._around(some, kind.row, at, taps.shape[1])
            self._materialise(some)
            self._around(some, kind.column, at, taps.shape[1])

    def _around(self, who: Rows, kind: int, at: int, n: int) -> None:
        opened = self._open[who]
        for column, value in ((layout.TAPS, kind), (layout.TAPS_AT, at), (layout.TAPS_N, n)):
            self._code[who, opened, column] = value
        self._at.append((who, opened, layout.TAPS_AT))
        self._dirty[who] = True

    def _fork(self, who: Rows, pick: Rows, step: Step, base: int, vocabulary: Vocabulary) -> None:
        self._materialise(who[~self._plain(who)])
        self._fork_source[who] = self._code[who, self._open[who], layout.SOURCE]
        self._fork_level[who] = self._latest_level[who] = self._level[who]
        self._latest_turn[who] = 0
        self._start[who] = self._open[who]
        self._forked[who] = True

    def _add(self, who: Rows, pick: Rows, step: Step, base: int, vocabulary: Vocabulary) -> None:
        at = self._emit(who, {layout.OP: layout.ADD, layout.AT: base})
        self._at.append((who, at, layout.AT))
        self._latest_level[who] = np.maximum(self._latest_level[who], self._level[who])
        self._latest_turn[who] = np.maximum(self._latest_turn[who], self._turn[who])
        self._level[who] = self._fork_level[who]
        self._load(who, self._fork_source[who])
        self._origin[who] = self._open[who]

    def _join(self, who: Rows, pick: Rows, step: Step, base: int, vocabulary: Vocabulary) -> None:
        at = self._emit(who, {layout.OP: layout.JOIN, layout.AT: base})
        self._at.append((who, at, layout.AT))
        self._level[who], self._turn[who] = self._latest_level[who], self._latest_turn[who]
        self._origin[who] = self._start[who]
        self._forked[who] = False
        self._dirty[who] = True

    _steps = {
        "map": _map,
        "formula": _formula,
        "equalize": _equalize,
        "sharpen": _sharpen,
        "blur": _blur,
        "fork": _fork,
        "add": _add,
        "join": _join,
    }

    def finished(self) -> Schedule:
        who, (height, width) = np.arange(self._n), self._size
        columns = {layout.SAMPLE: who, layout.FIRST: self._start, layout.LAST: self._count, layout.ROW_OUT: layout.OUT}
        self._jobs.add(columns | {layout.OUT_HEIGHT: height, layout.OUT_WIDTH: width}, self._level, -1)
        launches = self._jobs.launches()
        code = self._code[:, : int(self._count.max())]
        args = np.concatenate(self._numbers, axis=1) if self._numbers else np.zeros((self._n, 1), np.int32)
        for samples, at, column in self._at:
            code[samples, at, column] += (samples * args.shape[1]).astype(np.int32)
        loads = code[:, :, layout.OP] == layout.LOAD
        first_map = np.arange(self._n)[:, None] * self._maps.shape[1]
        for column in (layout.MAP_FIRST, layout.MAP_LAST):
            code[:, :, column] += np.where(loads, first_map, 0).astype(np.int32)
        for launch in launches:
            at = launch.jobs[:, layout.SAMPLE] * code.shape[1]
            launch.jobs[:, layout.FIRST] += at
            launch.jobs[:, layout.LAST] += at
        pixels = -(-self._most_pixels // 16) * 16  # so that every row of scratch is aligned
        return Schedule(
            np.ascontiguousarray(code),
            np.ascontiguousarray(args),
            self._maps,
            self._metas,
            launches,
            self._rows,
            pixels,
            self._statistics,
            self._tables,
            (height, width),
        )


def _leaves(matrix: np.ndarray, out: Sequence[int], frame: Sequence[int]) -> np.ndarray:
    """Return (n,), whether maps (n, 3, 3) take any position of the frame `out` (H, W) out of `frame` (H, W).

    Positions between pixels lie within the corners, and so do their images, which a map keeps convex.
    """
    (down, across), (height, width) = out, frame
    corners = np.array([[0, across - 1, 0, across - 1], [0, 0, down - 1, down - 1], [1, 1, 1, 1]], np.float64)
    there = matrix @ corners  # (n, 3, corners)
    depth = there[:, 2]
    ahead = (depth > 1e-6).all(axis=1)
    x, y = (there[:, i] / np.where(ahead[:, None], depth, 1.0) for i in (0, 1))
    slack = 1e-9  # px, of rounding
    within = (x >= -slack) & (x <= width - 1 + slack) & (y >= -slack) & (y <= height - 1 + slack)
    return ~(ahead & within.all(axis=1))


def _family(kernel: Kernel) -> str:
    if kernel.kind in ("value", "pixel"):
        return "formula"
    if kernel.kind == "stage":
        return "sharpen" if is_sharpness(kernel) else "blur"
    return kernel.kind


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
