"""Convolution of one plane, row by row: what is read and written stays in the first cache.

Loops run along rows, four sources at a time, the most that LLVM will check for overlaps before it vectorises.

Legend: H rows, W columns, K taps.
"""

from __future__ import annotations

import math

import numpy as np

from robustaug.engine.cpu.compiled import compiled, unit

# int64: a literal would be a type of its own, and compiled anew
REFLECTED, REPEATED, MIRRORED = np.int64(0), np.int64(1), np.int64(2)
"""Borders, as in `robustaug.ops.image.convolve`: c b | a b c, a a | a b c, b a | a b c."""

_NO_LENGTH = 1e-6  # stands for a width of 0, which must not be divided by


@compiled
def at_border(i, n, border):
    """Return the position in a line of n that stands for position i, which may lie anywhere."""
    if border == REPEATED or n == 1:
        return min(max(i, 0), n - 1)
    if border == MIRRORED:
        i %= 2 * n
        return min(i, 2 * n - 1 - i)
    i %= 2 * (n - 1)
    return min(i, 2 * (n - 1) - i)


@compiled
def gaussian_taps(sigma, sigmas):
    """Return (K // 2 + 1,) float64: the middle tap of a Gaussian cut at so many sigmas, and those on one side."""
    sigma = max(sigma, _NO_LENGTH)
    cut = math.floor(sigmas * sigma + 0.5)
    half = np.empty(cut + 1)
    for k in range(cut + 1):
        half[k] = math.exp(-0.5 * (k / sigma) ** 2)
    normalize(half)
    return half


@compiled
def normalize(half):
    """Scale half of symmetric taps so that all of them sum to 1."""
    total = -half[0]
    for k in range(len(half)):
        total += 2 * half[k]
    for k in range(len(half)):
        half[k] /= total


@compiled
def smooth(src, dst, half, border):
    """Filter the rows and the columns of a plane with the same symmetric taps.

    Args:
        src, dst: (H, W) of one floating dtype, not the same memory.
        half: (K // 2 + 1,), the middle tap and those on one side, in the same dtype.
        border: what lies beyond.
    """
    H, W = src.shape
    radius = len(half) - 1
    # whole fours of taps, those too many with weight 0
    n = (2 * radius + 4) // 4 * 4
    offset, weight = np.empty(n, np.int64), np.empty(n, half.dtype)
    for i in range(n):
        offset[i] = min(i, 2 * radius) - radius
        weight[i] = half[abs(offset[i])] if i <= 2 * radius else 0
    line = np.empty(W + 2 * radius, half.dtype)
    middle = line[radius : radius + W]
    for y in range(H):
        out = dst[y]
        for x in range(W):
            middle[x] = out[x] = 0
        for i in range(0, n, 4):
            add_four(
                middle,
                src[at_border(y + offset[i], H, border)],
                weight[i],
                src[at_border(y + offset[i + 1], H, border)],
                weight[i + 1],
                src[at_border(y + offset[i + 2], H, border)],
                weight[i + 2],
                src[at_border(y + offset[i + 3], H, border)],
                weight[i + 3],
            )
        for i in range(radius):
            line[i] = middle[at_border(i - radius, W, border)]
            line[radius + W + i] = middle[at_border(W + i, W, border)]
        for i in range(0, n, 4):
            add_four(
                out,
                line[radius + offset[i] :],
                weight[i],
                line[radius + offset[i + 1] :],
                weight[i + 1],
                line[radius + offset[i + 2] :],
                weight[i + 2],
                line[radius + offset[i + 3] :],
                weight[i + 3],
            )


@compiled
def bordered(src, margin, border):
    """Return (H + 2 margin, W + 2 margin): a plane with `margin` pixels of border around it."""
    H, W = src.shape
    out = np.empty((H + 2 * margin, W + 2 * margin), dtype=src.dtype)
    for y in range(H + 2 * margin):
        row, into = src[at_border(y - margin, H, border)], out[y]
        for x in range(W):
            into[margin + x] = row[x]
        for i in range(margin):
            into[i], into[margin + W + i] = row[at_border(i - margin, W, border)], row[at_border(W + i, W, border)]
    return out


@compiled
def spread(wide, dst, down, across, weight):
    """Let each pixel of dst be a weighted sum of pixels at the same places about it.

    Args:
        wide: (H + 2 m, W + 2 m), from `bordered`; m must cover every place.
        dst: (H, W).
        down, across: (N,) int64, places relative to the pixel; N a multiple of 4.
        weight: (N,) in the dtype of the planes.
    """
    H, W = dst.shape
    margin = (len(wide) - H) // 2
    for y in range(H):
        out = dst[y]
        for x in range(W):
            out[x] = 0
        for i in range(0, len(weight), 4):
            add_four(
                out,
                wide[y + margin + down[i], margin + across[i] :],
                weight[i],
                wide[y + margin + down[i + 1], margin + across[i + 1] :],
                weight[i + 1],
                wide[y + margin + down[i + 2], margin + across[i + 2] :],
                weight[i + 2],
                wide[y + margin + down[i + 3], margin + across[i + 3] :],
                weight[i + 3],
            )


@compiled
def convolve(src, dst, kernel, border):
    """Filter every channel with a kernel (K, K) float64, K odd, and keep the values in [0, 1].

    Args:
        src, dst: (C, H, W) float32.
        kernel: entry [j, i] weighs the pixel j - K//2 rows down, i - K//2 columns right.
        border: what lies beyond.
    """
    K = len(kernel)
    most = (K * K + 3) // 4 * 4
    down, across, weight = np.zeros(most, np.int64), np.zeros(most, np.int64), np.zeros(most, np.float32)
    n, margin = 0, np.int64(0)
    for j in range(K):
        for i in range(K):
            if kernel[j, i] != 0:
                down[n], across[n], weight[n] = j - K // 2, i - K // 2, kernel[j, i]
                margin = max(margin, abs(down[n]), abs(across[n]))
                n += 1
    n = (n + 3) // 4 * 4  # the last ones weigh nothing
    for c in range(len(src)):
        spread(bordered(src[c], margin, border), dst[c], down[:n], across[:n], weight[:n])
    keep_unit(dst)


@compiled
def extremes(plane):
    """Return the least and the greatest value of a plane (H, W)."""
    lowest = highest = plane[0, 0]
    for y in range(len(plane)):
        row = plane[y]
        for x in range(len(row)):
            lowest, highest = min(lowest, row[x]), max(highest, row[x])
    return lowest, highest


@compiled
def keep_unit(dst):
    """Clamp an image to [0, 1] in place."""
    flat = dst.reshape(-1)
    for i in range(len(flat)):
        flat[i] = unit(flat[i])


@compiled
def add_four(out, a, s, b, t, c, u, d, v):
    """Add four weighed rows, each at least as long as out, to out."""
    for x in range(len(out)):
        out[x] += (s * a[x] + t * b[x]) + (u * c[x] + v * d[x])
