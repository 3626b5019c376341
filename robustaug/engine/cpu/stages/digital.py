"""Tone and digital effects that need the whole image, or are slow a tensor operation at a time."""

from __future__ import annotations

import numpy as np

from robustaug.engine.cpu.compiled import spliced, unit
from robustaug.engine.cpu.stage import stage

_f = np.float32
_ZERO, _ONE = _f(0), _f(1)


@spliced
def cell_ends(n, resolution):
    """Return (n,) int64: for each pixel of a side, where its cell ends."""
    cells = max(int(resolution * n + 1e-6), 1)
    out = np.empty(n, np.int64)
    end = n
    for i in range(n - 1, -1, -1):
        if i < n - 1 and int((i + 0.5) * cells / n) != int((i + 1.5) * cells / n):
            end = i + 1
        out[i] = end
    return out


@stage("image.pixelate", "imagenet_c.pixelate", "cifar_c.pixelate")
def pixelate(src, dst, args):
    """args: resolution. The mean over each cell."""
    C, H, W = src.shape
    right, below = cell_ends(W, args[0]), cell_ends(H, args[0])
    total = np.empty(W, np.float32)
    for c in range(C):
        top = 0
        while top < H:
            bottom = below[top]
            for x in range(W):
                total[x] = 0
            for y in range(top, bottom):
                row = src[c, y]
                for x in range(W):
                    total[x] += row[x]
            left = 0
            while left < W:
                end = right[left]
                mean = _ZERO
                for x in range(left, end):
                    mean += total[x]
                mean = unit(mean / _f((bottom - top) * (end - left)))
                for x in range(left, end):
                    total[x] = mean
                left = end
            for y in range(top, bottom):
                out = dst[c, y]
                for x in range(W):
                    out[x] = total[x]
            top = bottom
