"""Tone and digital effects that need the whole image, or are slow a tensor operation at a time."""

from __future__ import annotations

import numpy as np

from robustaug.engine.cpu.compiled import spliced, unit
from robustaug.engine.cpu.stage import stage

_f = np.float32
_ZERO, _ONE = _f(0), _f(1)


@stage("imagenet_c.brightness", "cifar_c.brightness")
def brightness(src, dst, args):
    """args: shift."""
    C, H, W = src.shape
    shift = _f(args[0])
    value = np.empty(W, np.float32)
    for y in range(H):
        for x in range(W):
            value[x] = 0
        for c in range(C):
            row = src[c, y]
            for x in range(W):
                value[x] = max(value[x], row[x])
        # black has no hue to keep: it becomes grey, which is what adding makes of it
        for c in range(C):
            row, out = src[c, y], dst[c, y]
            for x in range(W):
                raised = unit(value[x] + shift)
                black = value[x] <= _ZERO
                out[x] = unit(raised if black else row[x] * (raised / (_ONE if black else value[x])))


@stage("imagenet_c.contrast", "cifar_c.contrast")
def contrast(src, dst, args):
    """args: factor."""
    C, H, W = src.shape
    factor = _f(args[0])
    column = np.empty(W)
    for c in range(C):
        for x in range(W):
            column[x] = 0
        for y in range(H):
            row = src[c, y]
            for x in range(W):
                column[x] += row[x]
        total = 0.0
        for x in range(W):
            total += column[x]
        mean = _f(total / (H * W))
        for y in range(H):
            row, out = src[c, y], dst[c, y]
            for x in range(W):
                out[x] = unit(mean + (row[x] - mean) * factor)


@stage("imagenet_c.saturate", "cifar_c.saturate", channels=(3,))
def saturate(src, dst, args):
    """args: factor, shift."""
    _C, H, W = src.shape
    factor, shift = _f(args[0]), _f(args[1])
    for y in range(H):
        for x in range(W):
            red, green, blue = src[0, y, x], src[1, y, x], src[2, y, x]
            value = max(red, max(green, blue))
            chroma = value - min(red, min(green, blue))
            saturation = chroma / value if value > _ZERO else _ZERO
            saturation = unit(saturation * factor + shift)
            grey = chroma <= _ZERO
            by = saturation / (_ONE if grey else chroma)
            # grey has hue 0: red stays
            dst[0, y, x] = unit(value * (_ONE - (_ZERO if grey else (value - red) * by)))
            dst[1, y, x] = unit(value * (_ONE - (saturation if grey else (value - green) * by)))
            dst[2, y, x] = unit(value * (_ONE - (saturation if grey else (value - blue) * by)))


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
