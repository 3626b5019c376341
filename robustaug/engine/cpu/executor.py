"""Runs a sample's list of instructions: passes over the image, tile by tile, with everything fused that can be.

A pass reads tiles of the source, through a chain of maps composed into one resampling, applies pixelwise
instructions one after another while the tile lies in the first cache, and ends where the next instruction needs the
whole image: a statistic, another resampling, a stage. The last pass writes the output. Between passes the image lies
in one of a few float32 planes of this thread.
"""

# Numba compiles what is here: annotations would say "int" where it has int64.

from __future__ import annotations

import numpy as np
from numba import njit
from numba.np.numpy_support import carray

from robustaug.engine.cpu import copying, gather
from robustaug.engine.cpu.gather import CHAIN, TILE
from robustaug.engine.cpu.memory import as_pointer, caller
from robustaug.engine.cpu.statistics import NONE, collect, finish, look_up, reset
from robustaug.engine.cpu.store import store
from robustaug.philox import fill_normal, fill_uniform

FORMULA, EQUALIZE, JOIN, MAP, STAGE, FORK, ADD = range(7)
"""What a kernel is; those before MAP work on a tile."""
NO_DRAWS, NORMAL, UNIFORM = range(3)
PLANES = 4

_NOWHERE, _TO_PLANE, _TO_SUM, _TO_OUTPUT, _TO_STATISTIC = range(5)
_RAW, _NO_PLANE = -1, -2
_NO_MAPS = np.int64(0)  # a literal is a type of its own, compiled anew
_FORMULA_ARGUMENTS = 6

call_loop = caller(_FORMULA_ARGUMENTS)
call_stage = caller(_FORMULA_ARGUMENTS)


@njit
def run_samples(start, stop, sizes_of, shared, own):
    """Run the instructions of the samples from `start` to `stop`.

    Everything comes by address: arrays that Python made are counted, and threads would wait for each other's counts.

    Args:
        sizes_of: (6,) int64: samples, instructions S, arguments A, kernels K, channels C, values of a plane.
        shared: (8,) int64, addresses of: codes (B, S) int64, rows of the kernel table or -1; args (B, S, A) float64;
            sizes (S + 1, 2) int64, height and width before each instruction and after the last; the kernel table
            (6, K) int64: what it is, address, statistic, draws, where its key begins, border; source and target (7,)
            int64: address, dtype, channels, and bytes a sample, channel, row and column; mean and scale (C,) float32.
        own: (19,) int64, addresses of what this thread alone uses: see `SCRATCH`.
    """
    n, S, A, K, C, largest = sizes_of[0], sizes_of[1], sizes_of[2], sizes_of[3], sizes_of[4], sizes_of[5]
    codes, args = _whole(shared[0], (n, S)), _double(shared[1], (n, S, A))
    sizes, kernels = _whole(shared[2], (S + 1, 2)), _whole(shared[3], (6, K))
    images, outs = _whole(shared[4], (7,)), _whole(shared[5], (7,))
    mean, scale = _real(shared[6], (C,)), _real(shared[7], (C,))
    planes, tile = _real(own[0], (PLANES, largest)), _real(own[1], (2, C, TILE))
    positions = _double(own[2], (TILE,)), _double(own[3], (TILE,))
    shares = _real(own[4], (TILE,)), _real(own[5], (TILE,)), _real(own[6], (TILE,))
    offsets = _whole(own[7], (TILE,)), _whole(own[8], (TILE,)), carray(as_pointer(own[9]), (4, TILE), np.uint32)
    maps = _double(own[10], (CHAIN, 9)), _whole(own[11], (CHAIN + 1, 2)), _whole(own[12], (CHAIN,))
    chains = _double(own[13], (CHAIN, 9)), _whole(own[14], (CHAIN, 3))
    found = _double(own[15], (C, 2)), _double(own[16], (C, 2)), _whole(own[17], (C, 256)), _real(own[18], (C, 256))
    work = positions + shares + offsets + maps + chains + found
    source, target = np.empty(7, np.int64), np.empty(7, np.int64)
    for sample in range(start, stop):
        for entry in range(7):
            source[entry], target[entry] = images[entry], outs[entry]
        source[0] += sample * images[3]
        target[0] += sample * outs[3]
        _run(codes[sample], args[sample], sizes, kernels, source, target, mean, scale, planes, tile, work)


SCRATCH = (
    *((PLANES, "plane", np.float32), (2, "tiles", np.float32)),
    *((TILE, "", np.float64),) * 2,
    *((TILE, "", np.float32),) * 3,
    *((TILE, "", np.int64),) * 2,
    (4 * TILE, "", np.uint32),
    *((9 * CHAIN, "", np.float64), (2 * (CHAIN + 1), "", np.int64), (CHAIN, "", np.int64)),
    *((9 * CHAIN, "", np.float64), (3 * CHAIN, "", np.int64)),
    *((2, "channel", np.float64), (2, "channel", np.float64), (256, "channel", np.int64), (256, "channel", np.float32)),
)
"""What a thread needs: how many values, of what, and their dtype."""


@njit(inline="always")
def _whole(address, shape):
    return carray(as_pointer(address), shape, np.int64)


@njit(inline="always")
def _double(address, shape):
    return carray(as_pointer(address), shape, np.float64)


@njit(inline="always")
def _real(address, shape):
    return carray(as_pointer(address), shape, np.float32)


@njit(inline="always")  # one function to optimise, not one in another
def _run(codes, args, sizes, kernels, source, target, mean, scale, planes, tile, work):
    kinds, addresses, reads = kernels[0], kernels[1], kernels[2]
    maps, frames, borders = work[8], work[9], work[10]
    channels, end = source[2], len(codes)
    current, fork, total, first_sum = _RAW, _NO_PLANE, _NO_PLANE, True
    known = -1  # the instruction whose statistic is known
    s = _skip(codes, 0)
    while True:
        n_maps = 0
        while s < end and kinds[codes[s]] == MAP and n_maps < CHAIN - 1:
            for entry in range(9):
                maps[n_maps, entry] = args[s, entry]
            frames[n_maps, 0], frames[n_maps, 1] = sizes[s, 0], sizes[s, 1]
            borders[n_maps] = kernels[5][codes[s]]
            n_maps += 1
            frames[n_maps, 0], frames[n_maps, 1] = sizes[s + 1, 0], sizes[s + 1, 1]
            s = _skip(codes, s + 1)
        if s < end and kinds[codes[s]] == JOIN and n_maps == 0:
            current = total
        begin = s
        while s < end and kinds[codes[s]] < MAP:
            if reads[codes[s]] != NONE and not (s == begin and s == known):
                break
            if kinds[codes[s]] == JOIN and s != begin:
                break
            s = _skip(codes, s + 1)
        idle = n_maps == 0 and s == begin
        height, width = sizes[min(s, end), 0], sizes[min(s, end), 1]
        statistic, share, sink = NONE, 0.0, _NOWHERE if idle else _TO_PLANE
        if s >= end:
            sink = _TO_OUTPUT
        elif kinds[codes[s]] == ADD:
            sink, share = _TO_SUM, args[s, 0]
            if total == _NO_PLANE:
                total = _free(current, fork, _NO_PLANE)
        elif kinds[codes[s]] < MAP and reads[codes[s]] != NONE:
            statistic, known = reads[codes[s]], s
            sink = _TO_STATISTIC if idle else _TO_PLANE
        elif kinds[codes[s]] == STAGE and current == _RAW:
            sink = _TO_PLANE  # a stage reads a plane
        goal = total if sink == _TO_SUM else _free(current, fork, total)
        if sink != _NOWHERE:
            _pass(
                codes, args, begin, s, kernels, source, target, planes, current, fork, goal, sink, first_sum, share,
                statistic, n_maps, height, width, mean, scale, tile, work,
            )  # fmt: skip
        if sink == _TO_PLANE:
            current = goal
        if s >= end:
            return
        kind = kinds[codes[s]]
        if kind == STAGE:
            goal = _free(current, fork, total)
            call_stage(
                addresses[codes[s]], planes[current].ctypes.data, planes[goal].ctypes.data, channels, height, width,
                args[s].ctypes.data,
            )  # fmt: skip
            current = goal
            s = _skip(codes, s + 1)
        elif kind == FORK:
            fork, total, first_sum = current, _NO_PLANE, True
            s = _skip(codes, s + 1)
        elif kind == ADD:
            current, first_sum = fork, False
            s = _skip(codes, s + 1)


@njit
def _skip(codes, s):
    while s < len(codes) and codes[s] < 0:
        s += 1
    return s


@njit
def _free(a, b, c):
    for plane in range(PLANES):
        if plane != a and plane != b and plane != c:
            return plane
    return 0


@njit(inline="always")
def _pass(
    codes, args, begin, end, kernels, source, target, planes, current, fork, goal, sink, first_sum, share,
    statistic, n_maps, out_height, out_width, mean, scale, tile, work,
):  # fmt: skip
    kinds, addresses, draws, keys = kernels[0], kernels[1], kernels[3], kernels[4]
    maps, frames, borders, chain, bounds, known, found, counts, table = work[8:]
    channels, pixels = source[2], out_height * out_width
    px, drawn = tile[0], tile[1]
    count = gather.compose(maps, frames, borders, n_maps, chain, bounds)
    whole = gather.whole_shift(chain, bounds, count)
    affine = gather.straight(chain, bounds, count, chain[CHAIN - 1])
    height, width = out_height, out_width
    if n_maps > 0:
        height, width = frames[0, 0], frames[0, 1]
    base, dtype, by_channel, by_row, by_column = _from(current, source, planes, height, width)
    if statistic != NONE:
        reset(statistic, channels, found, counts)
    for first in range(0, pixels, TILE):
        n = min(TILE, pixels - first)
        if whole:
            copying.copy_tile(
                base, dtype, channels, by_channel, by_row, by_column, height, width, chain, bounds, count, first, n,
                out_width, px,
            )  # fmt: skip
        else:
            gather.resample_tile(
                base, dtype, channels, by_channel, by_row, by_column, height, width, chain, bounds, count, affine,
                first, n, out_width, px, work,
            )  # fmt: skip
        for s in range(begin, end):
            k = codes[s]
            if k < 0:
                continue
            if kinds[k] == EQUALIZE:
                look_up(channels, n, px, table)
            elif kinds[k] == JOIN:
                other, type_, c, y, x = _from(fork, source, planes, height, width)
                copying.copy_tile(
                    other, type_, channels, c, y, x, height, width, chain, bounds, _NO_MAPS, first, n, out_width, drawn
                )
                _mix(channels, n, px, drawn, args[s, 0])
            else:
                if draws[k] != NO_DRAWS:
                    _draw(draws[k], args[s, keys[k] :], channels, pixels, first, n, drawn)
                call_loop(
                    addresses[k], px.ctypes.data, channels, n, args[s].ctypes.data, known.ctypes.data, drawn.ctypes.data
                )
        if statistic != NONE:
            collect(statistic, channels, n, px, found, counts)
        if sink == _TO_OUTPUT:
            store(px, channels, n, first, out_width, target, mean, scale)
        elif sink in (_TO_PLANE, _TO_SUM):
            _keep(channels, n, px, planes[goal], pixels, first, sink == _TO_SUM, first_sum, share)
    if statistic != NONE:
        finish(statistic, channels, pixels, found, counts, table)
        for channel in range(channels):
            known[channel, 0], known[channel, 1] = found[channel, 0], found[channel, 1]


@njit
def _from(plane, source, planes, height, width):
    """Return address, dtype and strides (channel, row, column) of what a pass reads."""
    if plane < 0:
        return source[0], source[1], source[4], source[5], source[6]
    return planes[plane].ctypes.data, gather.F32, 4 * height * width, 4 * width, 4


@njit
def _draw(what, key, channels, pixels, first, n, drawn):
    k0, k1, low, high = int(key[0]), int(key[1]), int(key[2]), int(key[3])
    for channel in range(channels):
        if what == NORMAL:
            fill_normal(drawn[channel, :n], channel * pixels + first, k0, k1, low, high)
        else:
            fill_uniform(drawn[channel, :n], channel * pixels + first, k0, k1, low, high)


@njit(fastmath={"contract", "nsz"})
def _mix(channels, n, px, kept, share):
    for channel in range(channels):
        line, other = px[channel], kept[channel]
        a, b = gather.f32(1 - share), gather.f32(share)
        for i in range(n):
            line[i] = min(max(a * other[i] + b * line[i], gather.f32(0)), gather.f32(1))


@njit(fastmath={"contract", "nsz"})
def _keep(channels, n, px, plane, pixels, first, add, first_sum, share):
    """Write a tile to a plane, or add `share` of it."""
    part = gather.f32(share)
    for channel in range(channels):
        line, at = px[channel], channel * pixels + first
        kept = plane[at : at + n]
        if not add:
            for i in range(n):
                kept[i] = line[i]
        elif first_sum:
            for i in range(n):
                kept[i] = part * line[i]
        else:
            for i in range(n):
                kept[i] += part * line[i]
