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
CHAIN = 16  # one more than the most maps that one resampling composes
SEGMENT = 64
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
def locate(chain, bounds, count, row, column, n, x, y, weight):
    """Fill the source positions x, y (n,) of pixels in a row and their coverage weights."""
    for i in range(n):
        x[i], y[i], weight[i] = column + i, row, 1
    for k in range(count):
        _move(chain[k], n, x, y)
        height, wide, mode = np.float64(bounds[k, 0]), np.float64(bounds[k, 1]), bounds[k, 2]
        if mode == ZERO:
            _hide(height, wide, n, x, y, weight)
        elif mode == EDGE:
            for i in range(n):
                x[i], y[i] = max(min(x[i], wide - 1), 0.0), max(min(y[i], height - 1), 0.0)


@njit
def straight(chain, bounds, count, total):
    """Fill `total` (6,) with the affine map that the chain is where no frame hides anything; False if it is none."""
    total[0], total[1], total[2], total[3], total[4], total[5] = 1, 0, 0, 0, 1, 0
    for k in range(count):
        m = chain[k]
        if m[6] != 0 or m[7] != 0 or m[8] != 1:
            return False
        for c in range(3):
            u, v = total[c], total[3 + c]
            total[c], total[3 + c] = m[0] * u + m[1] * v, m[3] * u + m[4] * v
        total[2] += m[2]
        total[5] += m[5]
    return True


@njit(error_model="numpy")
def visible(chain, bounds, count, row, column, n, margin):
    """Return which of n pixels in a row, from the first to before the last, an affine chain keeps within its frames.

    Args:
        margin: of every frame, in pixels; a little less than 0 judges pixels on the border itself as outside.
    """
    begin, end = 0.0, n - 1.0
    x, y, dx, dy = np.float64(column), np.float64(row), 1.0, 0.0
    for k in range(count):
        m = chain[k]
        x, y = m[0] * x + m[1] * y + m[2], m[3] * x + m[4] * y + m[5]
        dx, dy = m[0] * dx + m[1] * dy, m[3] * dx + m[4] * dy
        for at, by, last in ((x, dx, bounds[k, 1] - 1.0), (y, dy, bounds[k, 0] - 1.0)):
            least, most = -margin, last + margin
            if by == 0:
                if at < least or at > most:
                    return 0, 0
            else:
                enter, leave = (
                    ((least - at) / by, (most - at) / by) if by > 0 else ((most - at) / by, (least - at) / by)
                )
                begin, end = max(begin, np.ceil(enter)), min(end, np.floor(leave))
    return (int(begin), int(end) + 1) if begin <= end else (0, 0)


@njit(fastmath={"contract", "nsz"})
def step_along(total, row, column, n, height, width, stride_y, stride_x, top, bottom, fx, fy):
    """As `locate` and `split` for pixels of a row that an affine map takes into the image.

    Positions are float32 relative to a whole pixel that is found anew after SEGMENT pixels: they err by 4e-6 px.
    """
    dx, dy = f32(total[0]), f32(total[3])
    below = stride_y if height > 1 else 0
    for begin in range(0, n, SEGMENT):
        u = total[0] * (column + begin) + total[1] * row + total[2]
        v = total[3] * (column + begin) + total[4] * row + total[5]
        left, up = np.int64(u), np.int64(v)
        fu, fv = f32(u - left), f32(v - up)
        least_x, most_x = f32(-left), f32(max(width - 2, 0) - left)
        least_y, most_y = f32(-up), f32(max(height - 2, 0) - up)
        start = up * stride_y + left * stride_x
        run = min(SEGMENT, n - begin)
        tops, bottoms = top[begin : begin + run], bottom[begin : begin + run]
        across, down = fx[begin : begin + run], fy[begin : begin + run]
        for i in range(run):
            p, q = fu + dx * f32(i), fv + dy * f32(i)
            whole_x, whole_y = min(max(np.floor(p), least_x), most_x), min(max(np.floor(q), least_y), most_y)
            across[i], down[i] = p - whole_x, q - whole_y
            offset = start + np.int64(np.int32(whole_y)) * stride_y + np.int64(np.int32(whole_x)) * stride_x
            tops[i] = offset
            bottoms[i] = offset + below


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
def _hide(height, width, n, x, y, weight):
    """Multiply the weights by how much of each position's pixel lies in a frame, and move positions into it."""
    for i in range(n):
        u, v = x[i], y[i]
        across, down = np.float32(min(u + 1, width - u)), np.float32(min(v + 1, height - v))
        inside = max(min(across, f32(1)), f32(0)) * max(min(down, f32(1)), f32(0))
        weight[i] *= inside
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
def _set(line, value):
    for i in range(len(line)):
        line[i] = value


@njit
def resample_tile(
    base, dtype, channels, stride_c, stride_y, stride_x, height, width, chain, bounds, count, affine, first, n,
    out_width, px, work,
):  # fmt: skip
    """Fill px (channels, TILE) by bilinear interpolation at the positions that the chain names.

    `affine` says whether `straight` holds; the map it found lies in the chain's last row.
    """
    (x, y, fx, fy, weight), (top, bottom), taps = work[:5], work[5:7], work[7]
    total = chain[CHAIN - 1]
    black = affine  # beyond a pixel around the frames there is nothing, unless an edge repeats
    for k in range(count):
        black = black and bounds[k, 2] != EDGE
    row, column, at, hidden = first // out_width, first % out_width, 0, False
    while at < n:
        run = min(out_width - column, n - at)
        begin, end = visible(chain, bounds, count, row, column, run, -_NEAR) if affine else (0, 0)
        if begin < end:
            u, v = at + begin, at + end
            step_along(
                total, row, column + begin, end - begin, height, width, stride_y, stride_x, top[u:v], bottom[u:v],
                fx[u:v], fy[u:v],
            )  # fmt: skip
            _set(weight[u:v], f32(1))
        if end - begin < run:
            hidden = True
            low, high = visible(chain, bounds, count, row, column, run, 1.0) if black else (0, run)
            if low >= high:
                low, high = begin, end
            for u, v in ((at, at + low), (at + high, at + run)):
                _set(weight[u:v], f32(0))
                _set(top[u:v], 0)
                _set(bottom[u:v], 0)
                _set(fx[u:v], f32(0))
                _set(fy[u:v], f32(0))
            for u, v in (
                ((at + low, at + begin), (at + end, at + high)) if begin < end else ((at + low, at + high), (0, 0))
            ):
                if u < v:
                    locate(chain, bounds, count, row, column + u - at, v - u, x[u:v], y[u:v], weight[u:v])
                    split(
                        x[u:v], y[u:v], v - u, height, width, stride_y, stride_x, top[u:v], bottom[u:v], fx[u:v],
                        fy[u:v],
                    )  # fmt: skip
        at += run
        row += 1
        column = 0
    if dtype == U8:
        read_bytes(base, channels, width, stride_c, stride_x, n, top, bottom, fx, fy, px, taps)
    else:
        read_floats(base, channels, width, stride_c, stride_x, n, top, bottom, fx, fy, px)
    if hidden:
        for channel in range(channels):
            line = px[channel]
            for i in range(n):
                line[i] *= weight[i]
