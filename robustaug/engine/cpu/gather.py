"""Where the pixels of a tile come from, and reading them: the CPU's one resampling.

A tile is `n` consecutive pixels of the output, row by row. Its positions go back through a chain of projective maps,
the one nearest to the output first. A map's input frame hides what lies beyond it ("zero": a coverage weight that
falls to 0 within a pixel, as bilinear interpolation into black does) or repeats its edge.

Legend: a map is 9 numbers, row by row; frames are (height, width); all positions are float64.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from robustaug.engine.cpu.memory import floats, load_u8, load_u16, load_u32

TILE = 512
ZERO, EDGE = 0, 1
F32, U8 = 0, 1
f32 = np.float32
CHAIN = 16  # the most maps that one resampling composes
_NEAR = 1e-9


@njit(inline="always")
def _inside(m, height, width, frame_height, frame_width):
    """Return whether a map takes all pixel centres of a frame into the other frame."""
    for corner in range(4):
        x = (width - 1) * (corner & 1)
        y = (height - 1) * (corner >> 1)
        depth = m[6] * x + m[7] * y + m[8]
        if depth < _NEAR:
            return False
        u = (m[0] * x + m[1] * y + m[2]) / depth
        v = (m[3] * x + m[4] * y + m[5]) / depth
        if u < -_NEAR or v < -_NEAR or u > frame_width - 1 + _NEAR or v > frame_height - 1 + _NEAR:
            return False
    return True


@njit
def compose(maps, frames, modes, n, chain, bounds):
    """Merge n maps, in the order in which they are applied, into as few as possible; return how many.

    A map whose frame hides nothing merges with its neighbour into one matrix.

    Args:
        maps: (n, 9); frames: (n + 1, 2), before each map and after the last; modes: (n,), ZERO or EDGE.
        chain: (CHAIN, 9), bounds: (CHAIN, 3): written, the one nearest to the output first; a bound is the input
            frame's (height, width, mode), its mode -1 where nothing can lie beyond.
    """
    count = 0
    for i in range(n - 1, -1, -1):
        m = maps[i]
        hides = not _inside(m, frames[i + 1, 0], frames[i + 1, 1], frames[i, 0], frames[i, 1])
        if count > 0 and bounds[count - 1, 2] < 0:
            # positions went through the chain's last matrix first, then through this one: this one @ that one
            a = chain[count - 1]
            for c in range(3):
                x, y, z = a[c], a[3 + c], a[6 + c]
                for r in range(3):
                    a[3 * r + c] = m[3 * r] * x + m[3 * r + 1] * y + m[3 * r + 2] * z
            count -= 1
        else:
            for entry in range(9):
                chain[count, entry] = m[entry]
        bounds[count, 0], bounds[count, 1] = frames[i, 0], frames[i, 1]
        bounds[count, 2] = modes[i] if hides else -1
        count += 1
    return count


@njit
def whole_shift(chain, bounds, count):
    """Return whether the chain only moves and mirrors by whole pixels, so that nothing lies between them."""
    if count != 1:
        return count == 0
    m = chain[0]
    straight = m[1] == 0 and m[3] == 0 and m[6] == 0 and m[7] == 0 and m[8] == 1
    whole = abs(m[0]) == 1 and m[4] * m[4] == 1 and m[2] == np.floor(m[2]) and m[5] == np.floor(m[5])
    return straight and whole


@njit(fastmath={"contract", "nsz"}, error_model="numpy")
def locate(chain, bounds, count, first, n, width, x, y, weight):
    """Fill the source positions x, y (n,) of a tile and its coverage weights; return whether any is below 1."""
    row, column = first // width, first % width
    m = chain[0]
    flat = m[6] == 0 and m[7] == 0 and m[8] == 1
    at = 0
    while at < n:
        run = min(width - column, n - at)
        if flat:
            # along a row only x grows
            dx, dy, x0, y0 = m[0], m[3], m[1] * row + m[2] + m[0] * column, m[4] * row + m[5] + m[3] * column
            for i in range(run):
                x[at + i], y[at + i] = dx * i + x0, dy * i + y0
        else:
            for i in range(run):
                u, v = np.float64(column + i), np.float64(row)
                depth = _off_horizon(m[6] * u + m[7] * v + m[8])
                x[at + i] = (m[0] * u + m[1] * v + m[2]) / depth
                y[at + i] = (m[3] * u + m[4] * v + m[5]) / depth
        at += run
        row += 1
        column = 0
    covered = True
    for k in range(count):
        if k > 0:
            _move(chain[k], n, x, y)
        height, wide, mode = np.float64(bounds[k, 0]), np.float64(bounds[k, 1]), bounds[k, 2]
        if mode == ZERO:
            _hide(height, wide, covered, n, x, y, weight)
            covered = False
        elif mode == EDGE:
            for i in range(n):
                x[i], y[i] = max(min(x[i], wide - 1), 0.0), max(min(y[i], height - 1), 0.0)
    return not covered


@njit(inline="always")
def _off_horizon(depth):
    return depth if abs(depth) > 1e-8 else 1e-8


@njit(fastmath={"contract", "nsz"}, error_model="numpy")
def _move(m, n, x, y):
    a, b, c, d, e, f = m[0], m[1], m[2], m[3], m[4], m[5]
    if m[6] == 0 and m[7] == 0 and m[8] == 1:
        for i in range(n):
            u, v = x[i], y[i]
            x[i], y[i] = a * u + b * v + c, d * u + e * v + f
    else:
        for i in range(n):
            u, v = x[i], y[i]
            depth = _off_horizon(m[6] * u + m[7] * v + m[8])
            x[i], y[i] = (a * u + b * v + c) / depth, (d * u + e * v + f) / depth


@njit(fastmath={"contract", "nsz"})
def _hide(height, width, covered, n, x, y, weight):
    """Multiply the weights by how much of each position's pixel lies in a frame, and move positions into it."""
    for i in range(n):
        u, v = x[i], y[i]
        across, down = np.float32(min(u + 1, width - u)), np.float32(min(v + 1, height - v))
        inside = max(min(across, f32(1)), f32(0)) * max(min(down, f32(1)), f32(0))
        weight[i] = inside if covered else inside * weight[i]
        x[i], y[i] = max(min(u, width - 1), 0.0), max(min(v, height - 1), 0.0)


@njit(fastmath={"contract", "nsz"})
def split(x, y, n, height, width, stride_y, stride_x, top, bottom, fx, fy):
    """Turn positions into byte offsets of the upper and lower left pixel and the shares of the right and lower ones.

    The left pixel is never the last of its row unless the row has only one, so that the right one exists.
    """
    last_x, last_y = max(width - 2, 0), max(height - 2, 0)
    below = stride_y if height > 1 else 0
    for i in range(n):
        u, v = max(min(x[i], width - 1.0), 0.0), max(min(y[i], height - 1.0), 0.0)
        left, up = min(np.int64(u), last_x), min(np.int64(v), last_y)
        fx[i], fy[i] = np.float32(u - left), np.float32(v - up)
        top[i] = up * stride_y + left * stride_x
        bottom[i] = top[i] + below


@njit(fastmath={"contract", "nsz"})
def read_bytes(base, channels, width, stride_c, stride_x, n, top, bottom, fx, fy, px, taps):
    """Interpolate n pixels of a uint8 image into px (channels, TILE), values in [0, 1].

    The bytes are fetched first and interpolated after: the second loop is what a compiler can vectorise.
    """
    scale = np.float32(1 / 255)
    if stride_x == 3 and stride_c == 1 and channels == 3 and width > 1:
        for i in range(n):
            taps[0, i] = load_u32(base, top[i])
            taps[1, i] = load_u32(base, top[i] + 2)
            taps[2, i] = load_u32(base, bottom[i])
            taps[3, i] = load_u32(base, bottom[i] + 2)
        for i in range(n):
            across, down = fx[i], fy[i]
            a, b, c, d = taps[0, i], taps[1, i], taps[2, i], taps[3, i]
            for channel in range(3):
                left = 8 * channel
                right = 8 + 8 * channel
                p, q = np.float32((a >> left) & 255), np.float32((b >> right) & 255)
                r, s = np.float32((c >> left) & 255), np.float32((d >> right) & 255)
                upper, lower = p + (q - p) * across, r + (s - r) * across
                px[channel, i] = (upper + (lower - upper) * down) * scale
        return
    for channel in range(channels):
        start = base + channel * stride_c
        if stride_x == 1 and width > 1:
            for i in range(n):
                taps[0, i] = load_u16(start, top[i])
                taps[1, i] = load_u16(start, bottom[i])
        else:
            right = stride_x if width > 1 else 0
            for i in range(n):
                taps[0, i] = load_u8(start, top[i]) | load_u8(start, top[i] + right) << 8
                taps[1, i] = load_u8(start, bottom[i]) | load_u8(start, bottom[i] + right) << 8
        for i in range(n):
            a, b = taps[0, i], taps[1, i]
            p, q = np.float32(a & 255), np.float32(a >> 8)
            r, s = np.float32(b & 255), np.float32(b >> 8)
            upper, lower = p + (q - p) * fx[i], r + (s - r) * fx[i]
            px[channel, i] = (upper + (lower - upper) * fy[i]) * scale


@njit(fastmath={"contract", "nsz"})
def read_floats(base, channels, width, stride_c, stride_x, n, top, bottom, fx, fy, px):
    """Interpolate n pixels of a float32 image into px (channels, TILE)."""
    right = stride_x // 4 if width > 1 else 0
    for channel in range(channels):
        plane = floats(base + channel * stride_c, 1 << 40)
        for i in range(n):
            t, b = top[i] >> 2, bottom[i] >> 2
            p, q, r, s = plane[t], plane[t + right], plane[b], plane[b + right]
            upper, lower = p + (q - p) * fx[i], r + (s - r) * fx[i]
            px[channel, i] = upper + (lower - upper) * fy[i]


@njit
def resample_tile(
    base, dtype, channels, stride_c, stride_y, stride_x, height, width, chain, bounds, count, first, n, out_width, px,
    work,
):  # fmt: skip
    """Fill px (channels, TILE) by bilinear interpolation at the positions that the chain names."""
    (x, y, fx, fy, weight), (top, bottom), taps = work[:5], work[5:7], work[7]
    hidden = locate(chain, bounds, count, first, n, out_width, x, y, weight)
    split(x, y, n, height, width, stride_y, stride_x, top, bottom, fx, fy)
    if dtype == U8:
        read_bytes(base, channels, width, stride_c, stride_x, n, top, bottom, fx, fy, px, taps)
    else:
        read_floats(base, channels, width, stride_c, stride_x, n, top, bottom, fx, fy, px)
    if hidden:
        for channel in range(channels):
            line = px[channel]
            for i in range(n):
                line[i] *= weight[i]


@njit
def copy_tile(
    base, dtype, channels, stride_c, stride_y, stride_x, height, width, chain, bounds, count, first, n, out_width, px
):
    """Fill px (channels, TILE) with whole pixels: the chain moves and mirrors only."""
    step, shift, step_y, shift_y, mode = 1, 0, 1, 0, -1
    if count == 1:
        step, shift = np.int64(chain[0, 0]), np.int64(chain[0, 2])
        step_y, shift_y, mode = np.int64(chain[0, 4]), np.int64(chain[0, 5]), bounds[0, 2]
    row, column = first // out_width, first % out_width
    at = 0
    while at < n:
        run = min(out_width - column, n - at)
        y = step_y * row + shift_y
        x = step * column + shift
        # of the run, the pixels [begin, end) lie within the source's row
        if step > 0:
            begin, end = -x, width - x
        else:
            begin, end = x - width + 1, x + 1
        begin, end = min(max(begin, 0), run), min(max(end, 0), run)
        hidden = mode == ZERO and (y < 0 or y >= height)
        y = min(max(y, 0), height - 1)
        for channel in range(channels):
            if hidden:
                _fill(px[channel], at, at + run, f32(0))
                continue
            start = base + channel * stride_c + y * stride_y + (x + step * begin) * stride_x
            if dtype == U8:
                _copy_bytes(start, step * stride_x, end - begin, px[channel, at + begin :])
            else:
                _copy_floats(start, step * stride_x // 4, end - begin, px[channel, at + begin :])
            if begin > 0 or end < run:
                before, after = f32(0), f32(0)
                if mode == EDGE:
                    line = base + channel * stride_c + y * stride_y
                    low, high = _value(line, dtype), _value(line + (width - 1) * stride_x, dtype)
                    before, after = (low, high) if step > 0 else (high, low)
                _fill(px[channel], at, at + begin, before)
                _fill(px[channel], at + end, at + run, after)
        at += run
        row += 1
        column = 0


@njit
def _fill(line, start, stop, value):
    for i in range(start, stop):
        line[i] = value


@njit(inline="always")
def _value(address, dtype):
    return f32(load_u8(address, 0)) / f32(255) if dtype == U8 else floats(address, 1)[0]


@njit
def _copy_bytes(start, stride, n, out):
    # a division, as in torch: a product with 1 / 255 may miss a threshold that lies on a level
    if stride == 1:
        for i in range(n):
            out[i] = f32(load_u8(start, i)) / f32(255)
    else:
        for i in range(n):
            out[i] = f32(load_u8(start, i * stride)) / f32(255)


@njit
def _copy_floats(start, stride, n, out):
    if stride == 1:
        line = floats(start, n)
        for i in range(n):
            out[i] = line[i]
    else:
        for i in range(n):
            out[i] = floats(start + 4 * i * stride, 1)[0]
