"""One sample's program, written instruction by instruction: plain functions that Numba compiles.

Legend: S steps, I instructions a sample, N numbers a sample, M maps a sample, K kernels.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from robustaug.engine.triton import layout
from robustaug.engine.triton.layout import AT, HEIGHT, MAP_FIRST, MAP_LAST, OP, SOURCE, STATISTIC, TAPS, WIDTH

# A kernel's row in the table.
FAMILY, OPCODE, NEED_OF, KEY, EDGE, TAPS_ROW, TAPS_COLUMN, TAPS_BASE, TAPS_COUNT = 0, 1, 2, 3, 4, 5, 6, 7, 8
TABLE = 9
MAP, FORMULA, SHARPEN, BLUR, FORK, ADD, JOIN = 0, 1, 2, 3, 4, 5, 6

# What is true of a sample's program so far.
COUNT, MAPPED, LEVEL, TURN = 0, 1, 2, 3
"""Instructions; maps; the launch that it is for; statistics since the last LOAD."""
OPEN, ORIGIN, START = 4, 5, 6
"""The last LOAD; where a program has to start to make what is in registers now; where the present job starts."""
DIRTY = 7
"""Whether a formula or a neighbourhood came behind the last LOAD's maps."""
ROWS_KEPT, FLIP = 8, 10
"""Two rows of scratch, used in turn."""
FORKED, FORK_SOURCE, FORK_LEVEL, LATEST_LEVEL, LATEST_TURN = 11, 12, 13, 14, 15
"""Whether chains of a fork are being written, from where and when they read, and the latest of them."""
SAMPLE_ROW, FRAME_HEIGHT, FRAME_WIDTH = 16, 17, 18
CODE_AT, NUMBERS_AT, MAPS_AT = 19, 20, 21
"""Where the sample's instructions, numbers and maps start among those of all samples."""
HEIGHT_AFTER, WIDTH_AFTER = 22, 23
STATE = 24

# What is counted over all samples.
ROWS, STATISTICS, TABLES, JOBS, MOST_PIXELS = 0, 1, 2, 3, 4
TOTALS = 5

_SLACK = 1e-9  # px, of rounding


@njit(error_model="numpy")
def write(picks, table, first, base, sizes, words, numbers, code, maps, metas, jobs, totals):
    """Write every sample's instructions, maps and jobs.

    Args:
        picks: (S, B) int64, positions in a step's kernels.
        table: (K, TABLE) int64; first: (S,) int64, the row of a step's first kernel.
        base: (S,) int64, a step's first number; numbers: (B, N) float64; words: (B, N) int32, their float32 bits, in
            which the words of keys are put right.
        sizes: (S + 1, 2) int64, (H, W) before each step and at the end.
        code, maps, metas: see `robustaug.engine.triton.schedule.Schedule`.
        jobs: (J, JOB + 2) int32, jobs with their level and turn; totals: (TOTALS,) int64.
    """
    steps, samples = picks.shape
    state = np.zeros(STATE, np.int64)
    for b in range(samples):
        state[:] = 0
        state[ROWS_KEPT : ROWS_KEPT + 2] = -1
        state[SAMPLE_ROW] = b
        state[CODE_AT], state[NUMBERS_AT], state[MAPS_AT] = b * code.shape[1], b * words.shape[1], b * maps.shape[1]
        # views are made once a sample: each costs as much as an instruction
        program, own_words, own_numbers, own_maps, own_metas = code[b], words[b], numbers[b], maps[b], metas[b]
        state[FRAME_HEIGHT], state[FRAME_WIDTH] = sizes[0, 0], sizes[0, 1]
        _load(state, program, layout.IMAGE)
        for s in range(steps):
            if picks[s, b] >= 0:
                state[HEIGHT_AFTER], state[WIDTH_AFTER] = sizes[s + 1, 0], sizes[s + 1, 1]
                kernel = first[s] + picks[s, b]
                _take(table, kernel, base[s], state, program, own_words, own_numbers, own_maps, own_metas, jobs, totals)
            state[FRAME_HEIGHT], state[FRAME_WIDTH] = sizes[s + 1, 0], sizes[s + 1, 1]
        _job(state, state[START], state[COUNT], layout.OUT, -1, -1, jobs, totals)


@njit(error_model="numpy")
def _take(table, kernel, at, state, program, words, numbers, maps, metas, jobs, totals):
    family = table[kernel, FAMILY]
    if family == MAP:
        if state[DIRTY]:
            _materialise(state, program, jobs, totals)
        _map(numbers, at, table[kernel, EDGE], state, program, maps, metas)
    elif family == FORMULA:
        if table[kernel, KEY] >= 0:
            for i in range(at + table[kernel, KEY], at + table[kernel, KEY] + 4):
                words[i] = np.int32(np.uint32(np.int64(numbers[i])))
        where = _emit(state, program, table[kernel, OPCODE], at)
        if table[kernel, NEED_OF] >= 0:
            _read(where, table[kernel, NEED_OF], state, program, jobs, totals)
        state[DIRTY] = 1
    elif family == SHARPEN:
        if state[DIRTY]:
            _materialise(state, program, jobs, totals)
        _around(state, program, layout.SHARPEN, at, 9)
    elif family == BLUR:
        if not _plain(state, program):  # a position behind maps is dear, and a neighbourhood asks for many
            _materialise(state, program, jobs, totals)
        _around(state, program, table[kernel, TAPS_ROW], table[kernel, TAPS_BASE], table[kernel, TAPS_COUNT])
        _materialise(state, program, jobs, totals)
        _around(state, program, table[kernel, TAPS_COLUMN], table[kernel, TAPS_BASE], table[kernel, TAPS_COUNT])
    elif family == FORK:
        if not _plain(state, program):
            _materialise(state, program, jobs, totals)
        state[FORK_SOURCE] = program[state[OPEN], SOURCE]
        state[FORK_LEVEL] = state[LATEST_LEVEL] = state[LEVEL]
        state[LATEST_TURN] = 0
        state[START] = state[ORIGIN] = state[OPEN]
        state[FORKED] = 1
    elif family == ADD:
        _emit(state, program, layout.ADD, at)
        state[LATEST_LEVEL] = max(state[LATEST_LEVEL], state[LEVEL])
        state[LATEST_TURN] = max(state[LATEST_TURN], state[TURN])
        state[LEVEL] = state[FORK_LEVEL]
        _load(state, program, state[FORK_SOURCE])
        state[ORIGIN] = state[OPEN]
    else:
        _emit(state, program, layout.JOIN, at)
        state[LEVEL], state[TURN] = state[LATEST_LEVEL], state[LATEST_TURN]
        state[ORIGIN] = state[START]
        state[FORKED] = 0
        state[DIRTY] = 1


@njit(error_model="numpy")
def _emit(state, program, op, at):
    where = state[COUNT]
    program[where, OP], program[where, AT] = op, state[NUMBERS_AT] + at
    state[COUNT] += 1
    return where


@njit(error_model="numpy")
def _load(state, program, source):
    where = _emit(state, program, layout.LOAD, 0)
    program[where, SOURCE] = source
    program[where, MAP_FIRST] = program[where, MAP_LAST] = state[MAPS_AT] + state[MAPPED]
    program[where, HEIGHT], program[where, WIDTH] = state[FRAME_HEIGHT], state[FRAME_WIDTH]
    program[where, layout.TAPS_N] = 1
    state[OPEN], state[DIRTY], state[TURN] = where, 0, 0


@njit(error_model="numpy")
def _plain(state, program):
    """Whether the last LOAD reads pixels as they are, and nothing came behind it."""
    return state[DIRTY] == 0 and program[state[OPEN], MAP_FIRST] == program[state[OPEN], MAP_LAST]


@njit(error_model="numpy")
def _job(state, begin, end, row, need, turn, jobs, totals):
    j = totals[JOBS]
    totals[JOBS] += 1
    jobs[j, layout.SAMPLE] = state[SAMPLE_ROW]
    jobs[j, layout.FIRST], jobs[j, layout.LAST] = state[CODE_AT] + begin, state[CODE_AT] + end
    jobs[j, layout.ROW_OUT], jobs[j, layout.NEED] = row, need
    jobs[j, layout.OUT_HEIGHT], jobs[j, layout.OUT_WIDTH] = state[FRAME_HEIGHT], state[FRAME_WIDTH]
    jobs[j, layout.JOB], jobs[j, layout.JOB + 1] = state[LEVEL], turn


@njit(error_model="numpy")
def _materialise(state, program, jobs, totals):
    """Write what is in registers to scratch, and go on from there."""
    row = _scratch(state, totals)
    totals[MOST_PIXELS] = max(totals[MOST_PIXELS], state[FRAME_HEIGHT] * state[FRAME_WIDTH])
    _job(state, state[ORIGIN], state[COUNT], row, -1, -1, jobs, totals)
    state[LEVEL] += 1
    if state[FORKED] and state[OPEN] != state[START]:
        # the job that joins the chains jumps over this part of one
        program[state[OPEN], layout.SKIP] = state[COUNT] - state[OPEN]
    else:
        state[START] = state[COUNT]
    _load(state, program, row)
    state[ORIGIN] = state[OPEN]


@njit(error_model="numpy")
def _scratch(state, totals):
    """Return a row: two in turn, or one more within a fork, whose parts all wait for one another."""
    kept = ROWS_KEPT + state[FLIP]
    if state[FORKED] or state[kept] < 0:
        row = totals[ROWS]
        totals[ROWS] += 1
    else:
        row = state[kept]
    if not state[FORKED]:
        state[kept] = row
        state[FLIP] = 1 - state[FLIP]
    return row


@njit(error_model="numpy")
def _read(where, need, state, program, jobs, totals):
    """Have a statistic made of the image as it is before the instruction `where`."""
    counter = TABLES if need == layout.HISTOGRAM else STATISTICS
    program[where, STATISTIC] = totals[counter]
    _job(state, state[ORIGIN], where, totals[counter], need, state[TURN], jobs, totals)
    totals[counter] += 1
    state[TURN] += 1


@njit(error_model="numpy")
def _around(state, program, kind, at, n):
    where = state[OPEN]
    program[where, TAPS], program[where, layout.TAPS_N] = kind, n
    program[where, layout.TAPS_AT] = state[NUMBERS_AT] + at
    state[DIRTY] = 1


@njit(error_model="numpy")
def _map(numbers, m, edge, state, program, maps, metas):
    """Add the map at numbers[m] to the last LOAD.

    What takes no position out of its frame needs no place of its own: the map before it goes all the way.
    """
    hides = _leaves(numbers, m, state)
    opened, at = state[OPEN], state[MAPPED]
    if not hides and program[opened, MAP_LAST] > program[opened, MAP_FIRST]:
        at -= 1
        for r in range(3):
            x, y, z = maps[at, 3 * r], maps[at, 3 * r + 1], maps[at, 3 * r + 2]
            for c in range(3):
                maps[at, 3 * r + c] = x * numbers[m + c] + y * numbers[m + 3 + c] + z * numbers[m + 6 + c]
    else:
        for i in range(9):
            maps[at, i] = numbers[m + i]
        metas[at, layout.MAP_HEIGHT], metas[at, layout.MAP_WIDTH] = state[FRAME_HEIGHT], state[FRAME_WIDTH]
        metas[at, layout.MAP_OUTSIDE] = (layout.EDGE if edge else layout.ZERO) if hides else layout.NOWHERE
        state[MAPPED] += 1
        program[opened, MAP_LAST] = state[MAPS_AT] + state[MAPPED]
    flat = maps[at, 6] == 0 and maps[at, 7] == 0 and maps[at, 8] != 0  # no perspective: no division
    if flat and maps[at, 8] != 1:
        scale = maps[at, 8]
        for i in range(9):
            maps[at, i] /= scale
    metas[at, layout.MAP_PROJECTIVE] = 0 if flat else 1


@njit(error_model="numpy")
def _leaves(numbers, m, state):
    """Return whether a map takes any position of the frame after it out of the frame before it.

    Positions between pixels lie within the corners, and so do their images, which a map keeps convex.
    """
    right, bottom = state[FRAME_WIDTH] - 1 + _SLACK, state[FRAME_HEIGHT] - 1 + _SLACK
    for corner in range(4):
        x, y = (state[WIDTH_AFTER] - 1.0) * (corner % 2), (state[HEIGHT_AFTER] - 1.0) * (corner // 2)
        depth = numbers[m + 6] * x + numbers[m + 7] * y + numbers[m + 8]
        if depth < 1e-6:
            return True
        u = (numbers[m] * x + numbers[m + 1] * y + numbers[m + 2]) / depth
        v = (numbers[m + 3] * x + numbers[m + 4] * y + numbers[m + 5]) / depth
        if u < -_SLACK or u > right or v < -_SLACK or v > bottom:
            return True
    return False
