"""Pixels that keep their values: what a tile reads where its positions are whole, without interpolation."""

from __future__ import annotations

import numpy as np
from numba import njit

from robustaug.engine.cpu.gather import EDGE, TILE, U8, ZERO, f32
from robustaug.engine.cpu.memory import floats, load_f32, load_u8


@njit
def copy_tile(
    base, dtype, channels, stride_c, stride_y, stride_x, height, width, chain, bounds, count, first, n, out_width, px
):
    """Fill px (channels, TILE) with whole pixels: the chain moves and mirrors only."""
    step, shift, step_y, shift_y, mode = 1, 0, 1, 0, -1
    if count == 1:
        step, shift = np.int64(chain[0, 0]), np.int64(chain[0, 2])
        step_y, shift_y, mode = np.int64(chain[0, 4]), np.int64(chain[0, 5]), bounds[0, 2]
    by = step * stride_x
    for channel in range(channels):
        line, plane = px.ctypes.data + 4 * channel * TILE, base + channel * stride_c
        row, column, at = first // out_width, first % out_width, 0
        while at < n:
            run = min(out_width - column, n - at)
            x, y = step * column + shift, step_y * row + shift_y
            # of the run, the pixels [begin, end) lie within the source's row
            begin = min(max(-x if step > 0 else x - width + 1, 0), run)
            end = min(max(width - x if step > 0 else x + 1, begin), run)
            inside = min(max(y, 0), height - 1)
            source = plane + inside * stride_y
            if mode == ZERO and inside != y:
                begin, end = 0, 0
            # by address, from 0 on: an index that may be negative costs a check that keeps a loop from vectorising
            if dtype == U8:
                _copy_bytes(source + x * stride_x + begin * by, by, line + 4 * (at + begin), end - begin)
            else:
                _copy_floats(source + x * stride_x + begin * by, by >> 2, line + 4 * (at + begin), end - begin)
            if begin > 0 or end < run:
                before, after = f32(0), f32(0)
                if mode == EDGE:
                    low, high = _value(source, dtype), _value(source + (width - 1) * stride_x, dtype)
                    before, after = (low, high) if step > 0 else (high, low)
                _fill(line + 4 * at, begin, before)
                _fill(line + 4 * (at + end), run - end, after)
            at += run
            row += 1
            column = 0


@njit
def _value(address, dtype):
    return f32(load_u8(address, 0)) / f32(255) if dtype == U8 else floats(address, 1)[0]


@njit
def _fill(target, n, value):
    out = floats(target, n)
    for i in range(n):
        out[i] = value


@njit
def _copy_bytes(source, stride, target, n):
    out = floats(target, n)
    # a division, as in torch: a product with 1 / 255 may miss a threshold that lies on a level
    if stride == 1:
        for i in range(n):
            out[i] = f32(load_u8(source, i)) / f32(255)
    elif stride == -1:
        for i in range(n):
            out[i] = f32(load_u8(source, -i)) / f32(255)
    else:
        for i in range(n):
            out[i] = f32(load_u8(source, i * stride)) / f32(255)


@njit
def _copy_floats(source, stride, target, n):
    out = floats(target, n)
    if stride == 1:
        line = floats(source, n)
        for i in range(n):
            out[i] = line[i]
    else:
        for i in range(n):
            out[i] = load_f32(source, 4 * i * stride)
