"""Weather of ImageNet-C: fields are made row by row, in the precision of their eager forms."""

from __future__ import annotations

import math

import numpy as np

from robustaug.engine.cpu.compiled import compiled, spliced, unit
from robustaug.engine.cpu.convolution import extremes
from robustaug.engine.cpu.stage import stage
from robustaug.engine.cpu.stages.blur import drag, mix_lines, read_line, zoom_line
from robustaug.ops.corruptions.weather import FROST_COLOURS
from robustaug.ops.pixelwise import BLUE, GREEN, RED
from robustaug.philox import fill_normal, fill_uniform

_f = np.float32
_ZERO, _ONE, _HALF = _f(0), _f(1), _f(0.5)
_OCTAVES, _COARSEST, _ROUGHNESS = 7, 4, 0.7
_FIRST_PART, _SCATTER_PART = 0, 64
_GOLDEN = 0x9E3779B9
_DARK, _BRIGHT = (tuple(_f(level) for level in colour) for colour in FROST_COLOURS)
_RED, _GREEN, _BLUE = _f(RED), _f(GREEN), _f(BLUE)


@spliced
def plasma(side, decay, k0, k1, low, high):
    """Return (M, M) float64 in [0, 1]; see `robustaug.ops.corruptions.weather.plasma`."""
    M = 1
    while side > M:
        M *= 2
    drawn = np.empty((M, M), np.float32)
    fill_uniform(drawn.reshape(-1), 0, k0, k1, low, high)
    out = np.zeros((M, M))
    step, wibble = M, 100.0
    while step >= 2:
        half, wide = step // 2, wibble * wibble
        for y in range(0, M, step):
            below = (y + step) % M
            for x in range(0, M, step):
                right = (x + step) % M
                total = out[y, x] + out[below, x] + (out[y, right] + out[below, right])
                out[y + half, x + half] = total / 4 + wide * (2 * drawn[y + half, x + half] - 1)
        for y in range(0, M, step):
            above, below, middle = (y - half) % M, (y + step) % M, y + half
            for x in range(0, M, step):
                left, right, centre = (x - half) % M, (x + step) % M, x + half
                total = out[middle, centre] + out[above, centre] + out[y, x] + out[y, right]
                out[y, centre] = total / 4 + wide * (2 * drawn[y, centre] - 1)
                total = out[middle, centre] + out[middle, left] + out[y, x] + out[below, x]
                out[middle, x] = total / 4 + wide * (2 * drawn[middle, x] - 1)
        step, wibble = half, wibble / decay
    lowest, highest = extremes(out)
    scale = 1 / max(highest - lowest, 1e-12)
    for y in range(M):
        for x in range(M):
            out[y, x] = (out[y, x] - lowest) * scale
    return out


@stage("imagenet_c.fog", "cifar_c.fog")
def fog(src, dst, args):
    """args: strength, decay, mist."""
    C, H, W = src.shape
    k0, k1, low, high = np.uint64(args[2]), np.uint64(args[3]), np.uint64(args[4]), np.uint64(args[5])
    mist = plasma(max(H, W), args[1], k0, k1, low, high)
    strength = _f(args[0])
    brightest = _ZERO
    for c in range(C):
        brightest = max(brightest, extremes(src[c])[1])
    scale = brightest / max(brightest + strength, _f(1e-12))
    for y in range(H):
        for c in range(C):
            row, out = src[c, y], dst[c, y]
            for x in range(W):
                out[x] = unit((row[x] + strength * _f(mist[y, x])) * scale)


@compiled
def cubic_weights(t, out):
    """Write the four weights of cubic interpolation (a = -0.75), t in [0, 1) past the second point."""
    a = _f(-0.75)
    out[0] = ((a * (t + _f(1)) - _f(5) * a) * (t + _f(1)) + _f(8) * a) * (t + _f(1)) - _f(4) * a
    out[1] = ((a + _f(2)) * t - (a + _f(3))) * t * t + _f(1)
    r = _f(1) - t
    out[2] = ((a + _f(2)) * r - (a + _f(3))) * r * r + _f(1)
    out[3] = ((a * (r + _f(1)) - _f(5) * a) * (r + _f(1)) + _f(8) * a) * (r + _f(1)) - _f(4) * a


@compiled
def cubic_line(n, points, at, weights):
    """Write where n pixels lie among so many points, corner to corner: four positions and four weights each."""
    scale = _f(points - 1) / _f(n - 1) if n > 1 else _f(0)
    for i in range(n):
        real = scale * _f(i)
        low = math.floor(real)
        cubic_weights(real - _f(low), weights[i])
        for k in range(4):
            at[i, k] = min(max(low - 1 + k, 0), points - 1)


@compiled
def add_octave(out, points, amplitude):
    """Add a square of numbers, enlarged to (H, W) by cubic interpolation, times the amplitude."""
    H, W = out.shape
    n = len(points)
    column, across = np.empty((W, 4), np.int32), np.empty((W, 4), np.float32)
    row, down = np.empty((H, 4), np.int32), np.empty((H, 4), np.float32)
    cubic_line(W, n, column, across)
    cubic_line(H, n, row, down)
    line = np.empty(n, np.float32)
    for y in range(H):
        a, b, c, d = points[row[y, 0]], points[row[y, 1]], points[row[y, 2]], points[row[y, 3]]
        s, t, u, v = down[y, 0], down[y, 1], down[y, 2], down[y, 3]
        for i in range(n):
            line[i] = (s * a[i] + t * b[i]) + (u * c[i] + v * d[i])
        into = out[y]
        for x in range(W):
            left = across[x, 0] * line[column[x, 0]] + across[x, 1] * line[column[x, 1]]
            right = across[x, 2] * line[column[x, 2]] + across[x, 3] * line[column[x, 3]]
            into[x] += amplitude * (left + right)


@compiled
def other_key(k0, part):
    """Return the first word of the key for one part of a texture; see `robustaug.ops.image.fractal`."""
    return k0 ^ np.uint64(_GOLDEN * (part + 1) & 0xFFFFFFFF)


@spliced
def clouds(H, W, k0, k1, low, high):
    """Return (H, W) float32 in [0, 1]; see `robustaug.ops.image.fractal.clouds`."""
    out = np.zeros((H, W), np.float32)
    amplitude = 1.0
    for octave in range(_OCTAVES):
        cells = _COARSEST * 2**octave
        if octave and cells > 2 * max(H, W):
            break
        points = np.empty((cells + 1, cells + 1), np.float32)
        fill_uniform(points.reshape(-1), 0, other_key(k0, octave), k1, low, high)
        add_octave(out, points, _f(amplitude))
        amplitude *= _ROUGHNESS
    lowest, highest = extremes(out)
    scale = _ONE / max(highest - lowest, _f(1e-6))
    for y in range(H):
        for x in range(W):
            out[y, x] = (out[y, x] - lowest) * scale
    return out


@stage("imagenet_c.frost", "cifar_c.frost", tolerance=3e-5)
def frost(src, dst, args):
    """args: image_share, frost_share, ice."""
    C, H, W = src.shape
    image_share, frost_share = _f(args[0]), _f(args[1])
    k0, k1, low, high = np.uint64(args[2]), np.uint64(args[3]), np.uint64(args[4]), np.uint64(args[5])
    ridges = clouds(H, W, k0, k1, low, high)
    total = squares = 0.0
    for y in range(H):
        for x in range(W):
            ridges[y, x] = _ONE - abs(ridges[y, x] + ridges[y, x] - _ONE)
            total += ridges[y, x]
    mean = total / (H * W)
    for y in range(H):
        for x in range(W):
            squares += (ridges[y, x] - mean) ** 2
    spread = _f(max(math.sqrt(squares / (H * W)), 1e-6))
    draw = np.empty(1, np.float32)
    fill_uniform(draw, 0, other_key(k0, _SCATTER_PART), k1, low, high)
    brightness = draw[0] * draw[0] * draw[0]
    red = _DARK[0] + (_BRIGHT[0] - _DARK[0]) * brightness
    green = _DARK[1] + (_BRIGHT[1] - _DARK[1]) * brightness
    blue = _DARK[2] + (_BRIGHT[2] - _DARK[2]) * brightness
    contrast, middle = _f(0.1) / spread, _f(mean)
    for y in range(H):
        ridge = ridges[y]
        for x in range(W):
            ridge[x] = contrast * (ridge[x] - middle)
        if C == 3:
            for c in range(C):
                row, out = src[c, y], dst[c, y]
                base = red if c == 0 else (green if c == 1 else blue)
                for x in range(W):
                    out[x] = unit(image_share * row[x] + frost_share * unit(base + ridge[x]))
        else:
            for x in range(W):
                ridge[x] = (unit(red + ridge[x]) + unit(green + ridge[x]) + unit(blue + ridge[x])) / _f(3)
            for c in range(C):
                row, out = src[c, y], dst[c, y]
                for x in range(W):
                    out[x] = unit(image_share * row[x] + frost_share * ridge[x])


@stage("imagenet_c.snow", "cifar_c.snow", share=1e-3)
def snow(src, dst, args):
    """args: mean, spread, zoom, threshold, radius_px, sigma_px, image_share, angle_deg, flakes.

    A flake that lies on the threshold, or between two bytes, may fall on its other side.
    """
    C, H, W = src.shape
    mean, spread, threshold = _f(args[0]), _f(args[1]), _f(args[3])
    share = _f(args[6])
    drawn = np.empty((H, W), np.float32)
    k0, k1, low, high = np.uint64(args[8]), np.uint64(args[9]), np.uint64(args[10]), np.uint64(args[11])
    fill_normal(drawn.reshape(-1), 0, k0, k1, low, high)
    for y in range(H):
        for x in range(W):
            drawn[y, x] = mean + spread * drawn[y, x]
    column, right = np.empty(W, np.int32), np.empty(W, np.float32)
    row, below = np.empty(H, np.int32), np.empty(H, np.float32)
    zoom_line(W, args[2], column, right)
    zoom_line(H, args[2], row, below)
    layer = np.zeros((H, W), np.float32)
    line = np.zeros(W + 1, np.float32)
    for y in range(H):
        mix_lines(line, drawn[row[y]], drawn[min(row[y] + 1, H - 1)], below[y])
        flakes = layer[y]
        read_line(flakes, line, column, right)
        for x in range(W):
            flake = _ZERO if flakes[x] < threshold else unit(flakes[x])
            flakes[x] = np.floor(flake * _f(255)) / _f(255)
    fallen = drawn
    drag(layer, fallen, int(args[4]), args[5], args[7])
    pale = line[:W]
    for y in range(H):
        first, second = fallen[y], fallen[H - 1 - y]
        for x in range(W):
            pale[x] = 0
        for c in range(C):
            values = src[c, y]
            weight = _ONE / _f(C)
            if C == 3:
                weight = _RED if c == 0 else (_GREEN if c == 1 else _BLUE)
            for x in range(W):
                pale[x] += weight * values[x]
        for c in range(C):
            values, out = src[c, y], dst[c, y]
            for x in range(W):
                value = values[x]
                white = share * value + (_ONE - share) * max(value, pale[x] * _f(1.5) + _HALF)
                # each layer was clamped before it was turned
                out[x] = unit(white + (unit(first[x]) + unit(second[W - 1 - x])))
