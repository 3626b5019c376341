"""Warps: every pixel is read at a place of its own."""

from __future__ import annotations

import math

import numpy as np

from robustaug.engine.cpu.compiled import compiled, spliced, unit
from robustaug.engine.cpu.convolution import MIRRORED, gaussian_taps, smooth
from robustaug.engine.cpu.stage import stage
from robustaug.philox import fill_uniform

_f = np.float32
_ZERO, _ONE, _HALF, _TWO = _f(0), _f(1), _f(0.5), _f(2)


@compiled
def as_grid(at, n):
    """Return a position along a side of n pixels as `grid_sample` has it: through [-1, 1] in float32, kept inside."""
    place = (_f((2 * at + 1) / n - 1) + _ONE) * (_f(n) / _TWO) - _HALF
    return min(max(place, _ZERO), _f(n - 1))


@spliced
def three_points(H, W, affine_px, k0, k1, low, high):
    """Return (2, 3) float64, output to input: takes three points, moved at random, back to where they were."""
    drawn = np.empty(6, np.float32)
    fill_uniform(drawn, 0, k0, k1, low, high)
    third = max(min(H, W) // 3, 1)
    most = min(affine_px, 0.45 * third) if third < 10 else affine_px
    before, after = np.empty((2, 3)), np.empty((2, 3))
    for i in range(3):
        before[0, i] = W // 2 + (third if i < 2 else -third)
        before[1, i] = H // 2 + (third if i < 1 else -third)
        for axis in range(2):
            after[axis, i] = before[axis, i] + most * (2 * float(drawn[3 * axis + i]) - 1)
    # before times the inverse of after, a row of ones below both
    x0, x1, x2 = after[0, 0], after[0, 1], after[0, 2]
    y0, y1, y2 = after[1, 0], after[1, 1], after[1, 2]
    det = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
    out = np.empty((2, 3))
    for axis in range(2):
        b0, b1, b2 = before[axis, 0], before[axis, 1], before[axis, 2]
        out[axis, 0] = ((b1 - b0) * (y2 - y0) - (b2 - b0) * (y1 - y0)) / det
        out[axis, 1] = ((b2 - b0) * (x1 - x0) - (b1 - b0) * (x2 - x0)) / det
        out[axis, 2] = b0 - out[axis, 0] * x0 - out[axis, 1] * y0
    return out


@stage("imagenet_c.elastic_transform", "cifar_c.elastic_transform", tolerance=1e-4)
def elastic_transform(src, dst, args):
    """args: alpha_px, sigma_px, affine_px, corners, shake.

    Positions pass through float32, as they do in the eager form: where one falls to the next float, the value moves
    by the local slope times 1e-5 pixels.
    """
    C, H, W = src.shape
    alpha = args[0]
    k0, k1, low, high = np.uint64(args[3]), np.uint64(args[4]), np.uint64(args[5]), np.uint64(args[6])
    matrix = three_points(H, W, args[2], k0, k1, low, high)
    k0, k1, low, high = np.uint64(args[7]), np.uint64(args[8]), np.uint64(args[9]), np.uint64(args[10])
    field, raw = np.empty((2, H, W)), np.empty((H, W))
    drawn = np.empty(H * W, np.float32)
    taps = gaussian_taps(args[1], 3.0)
    for axis in range(2):
        fill_uniform(drawn, axis * H * W, k0, k1, low, high)
        flat = raw.reshape(-1)
        for i in range(H * W):
            flat[i] = 2 * drawn[i] - 1
        smooth(raw, field[axis], taps, MIRRORED)
    left, top = np.empty(W, np.int64), np.empty(W, np.int64)
    right, below = np.empty(W, np.float32), np.empty(W, np.float32)
    for y in range(H):
        for x in range(W):
            at_x, at_y = x + alpha * field[0, y, x], y + alpha * field[1, y, x]
            here_x = as_grid(matrix[0, 0] * at_x + matrix[0, 1] * at_y + matrix[0, 2], W)
            here_y = as_grid(matrix[1, 0] * at_x + matrix[1, 1] * at_y + matrix[1, 2], H)
            low_x, low_y = math.floor(here_x), math.floor(here_y)
            right[x], below[x] = here_x - _f(low_x), here_y - _f(low_y)
            left[x], top[x] = int(low_x), int(low_y)
        for c in range(C):
            out = dst[c, y]
            for x in range(W):
                i, j = left[x], top[x]
                # at the last pixel the share of the next one is 0
                ii, jj = min(i + 1, W - 1), min(j + 1, H - 1)
                upper = src[c, j, i] + (src[c, j, ii] - src[c, j, i]) * right[x]
                lower = src[c, jj, i] + (src[c, jj, ii] - src[c, jj, i]) * right[x]
                out[x] = unit(upper + (lower - upper) * below[x])
