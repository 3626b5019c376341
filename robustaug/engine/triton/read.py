"""Reading pixels: in place, back through a chain of maps, or with a neighbourhood.

Importing this module imports Triton. Positions are float64: half rate on an H100, and the only thing that is.
"""

# pyright: reportGeneralTypeIssues=false, reportCallIssue=false, reportArgumentType=false, reportOperatorIssue=false
# (Triton compiles these functions, and its types are not Python's)

import triton
import triton.language as tl

from robustaug.engine.triton import layout
from robustaug.engine.triton.words import clip

MAP_HEIGHT: tl.constexpr = tl.constexpr(layout.MAP_HEIGHT)
MAP_WIDTH: tl.constexpr = tl.constexpr(layout.MAP_WIDTH)
MAP_OUTSIDE: tl.constexpr = tl.constexpr(layout.MAP_OUTSIDE)
ZERO: tl.constexpr = tl.constexpr(layout.ZERO)
NOWHERE: tl.constexpr = tl.constexpr(layout.NOWHERE)
MAP_PROJECTIVE: tl.constexpr = tl.constexpr(layout.MAP_PROJECTIVE)
META: tl.constexpr = tl.constexpr(layout.META)
NO_TAPS: tl.constexpr = tl.constexpr(layout.NO_TAPS)
SHARPEN: tl.constexpr = tl.constexpr(layout.SHARPEN)
ROW: tl.constexpr = tl.constexpr(layout.ROW)
ROW_REPEATED: tl.constexpr = tl.constexpr(layout.ROW_REPEATED)
COLUMN: tl.constexpr = tl.constexpr(layout.COLUMN)
COLUMN_REPEATED: tl.constexpr = tl.constexpr(layout.COLUMN_REPEATED)


@triton.jit
def to_float(raw):
    """Return float32; uint8 is divided by 255, rounded as a division is: levels must compare equal to constants."""
    if raw.dtype == tl.uint8:
        level = raw.to(tl.float32)
        # the first factor has so few digits that the product is exact, the second is what it lacks of 1 / 255
        out = level * 0.0039215087890625 + level * 5.983839201917363e-08
    else:
        out = raw.to(tl.float32)
    return out


@triton.jit
def inside(position, size):
    """Return how much of a pixel-wide tent at `position` lies over 0 to size - 1: float32 in [0, 1]."""
    return clip(tl.minimum((position + 1.0).to(tl.float32), (size - position).to(tl.float32)))


@triton.jit
def place(x, y, maps, metas, first, last):
    """Walk pixels back through maps, the last one first: float64 positions, and the share that came from inside."""
    px, py = x.to(tl.float64), y.to(tl.float64)
    cover = tl.full(x.shape, 1.0, tl.float32)
    # a `for` and not a `while`: only through the former can layouts of tensors be chosen by their use behind it
    for k in range(last - first):
        i = last - 1 - k
        m, meta = maps + i * 9, metas + i * META
        height, width = tl.load(meta + MAP_HEIGHT).to(tl.float64), tl.load(meta + MAP_WIDTH).to(tl.float64)
        qx = tl.load(m) * px + (tl.load(m + 1) * py + tl.load(m + 2))
        qy = tl.load(m + 3) * px + (tl.load(m + 4) * py + tl.load(m + 5))
        if tl.load(meta + MAP_PROJECTIVE) != 0:
            depth = tl.load(m + 6) * px + (tl.load(m + 7) * py + tl.load(m + 8))
            depth = tl.where(tl.abs(depth) < 1e-8, 1e-8, depth)
            qx = qx / depth
            qy = qy / depth
        outside = tl.load(meta + MAP_OUTSIDE)
        if outside == ZERO:
            cover = cover * inside(qx, width) * inside(qy, height)
        if outside != NOWHERE:
            qx = tl.minimum(tl.maximum(qx, 0.0), width - 1.0)
            qy = tl.minimum(tl.maximum(qy, 0.0), height - 1.0)
        px, py = qx, qy
    return px, py, cover


@triton.jit
def split(position, size):
    """Return the two pixels beside a position and the share of the second; beyond the border its pixel repeats."""
    held = tl.minimum(tl.maximum(position, 0.0), (size - 1).to(tl.float64))
    first = held.to(tl.int32)
    return first, tl.minimum(first + 1, size - 1), (held - first.to(tl.float64)).to(tl.float32)


@triton.jit
def between(plane, p00, p01, p10, p11, fx, fy, mask):
    """Return the value between four pixels of a plane, at these offsets."""
    v00 = to_float(tl.load(plane + p00, mask=mask, other=0))
    v01 = to_float(tl.load(plane + p01, mask=mask, other=0))
    v10 = to_float(tl.load(plane + p10, mask=mask, other=0))
    v11 = to_float(tl.load(plane + p11, mask=mask, other=0))
    upper = v00 + (v01 - v00) * fx
    lower = v10 + (v11 - v10) * fx
    return upper + (lower - upper) * fy


@triton.jit
def read_in_place(base, sc, at, mask, PLANES: tl.constexpr):
    v0 = to_float(tl.load(base + at, mask=mask, other=0))
    v1, v2 = v0, v0
    if PLANES == 3:
        v1 = to_float(tl.load(base + sc + at, mask=mask, other=0))
        v2 = to_float(tl.load(base + 2 * sc + at, mask=mask, other=0))
    return v0, v1, v2


@triton.jit
def read(
    base, sc, sh, sw, x, y, height, width, maps, metas, first, last, mask, MAPS: tl.constexpr, PLANES: tl.constexpr
):  # fmt: skip
    """Return the values at pixels (x, y) of the frame behind maps `first` to `last` of a sample at `base`."""
    if not MAPS:  # noqa: SIM114 (known when compiling; the other condition is known to the device alone)
        v0, v1, v2 = read_in_place(base, sc, y * sh + x * sw, mask, PLANES)
    elif first == last:
        v0, v1, v2 = read_in_place(base, sc, y * sh + x * sw, mask, PLANES)
    else:
        px, py, cover = place(x, y, maps, metas, first, last)
        left, right, fx = split(px, width)
        top, bottom, fy = split(py, height)
        p00, p01 = top * sh + left * sw, top * sh + right * sw
        p10, p11 = bottom * sh + left * sw, bottom * sh + right * sw
        v0 = clip(between(base, p00, p01, p10, p11, fx, fy, mask) * cover)
        v1, v2 = v0, v0
        if PLANES == 3:
            v1 = clip(between(base + sc, p00, p01, p10, p11, fx, fy, mask) * cover)
            v2 = clip(between(base + 2 * sc, p00, p01, p10, p11, fx, fy, mask) * cover)
    return v0, v1, v2


@triton.jit
def mirrored(position, size):
    """Return the position within a line whose mirror images continue it, the outermost pixel not doubled."""
    period = tl.maximum(2 * (size - 1), 1)
    wrapped = ((position % period) + period) % period
    return tl.minimum(tl.minimum(wrapped, period - wrapped), size - 1)


@triton.jit
def held(position, size):
    return tl.minimum(tl.maximum(position, 0), size - 1)


@triton.jit
def read_around(
    base, sc, sh, sw, x, y, height, width, maps, metas, first, last, mask,
    taps, weights, n, out_height, out_width, MAPS: tl.constexpr, PLANES: tl.constexpr,
):  # fmt: skip
    """As `read` through a neighbourhood: `n` weights along a row or a column, or the nine pixels of a sharpening.

    The neighbours are those of the frame behind the maps, (out_height, out_width), so each is a reading of its own.
    """
    s0 = tl.zeros(x.shape, tl.float32)
    s1, s2, c0, c1, c2 = s0, s0, s0, s0, s0
    sharpens = taps == SHARPEN
    across = (taps == ROW) | (taps == ROW_REPEATED)
    down = (taps == COLUMN) | (taps == COLUMN_REPEATED)
    mirrors = (taps == ROW) | (taps == COLUMN)
    for k in range(n):
        dx = tl.where(sharpens, k % 3 - 1, tl.where(across, k - n // 2, 0))
        dy = tl.where(sharpens, k // 3 - 1, tl.where(down, k - n // 2, 0))
        weight = n * 0.0 + 1.0
        if across | down:
            weight = tl.load(weights + k)
        near_x, near_y = x + dx, y + dy
        if mirrors:
            near_x, near_y = mirrored(near_x, out_width), mirrored(near_y, out_height)
        else:
            near_x, near_y = held(near_x, out_width), held(near_y, out_height)
        v0, v1, v2 = read(
            base, sc, sh, sw, near_x, near_y, height, width, maps, metas, first, last, mask, MAPS, PLANES
        )  # fmt: skip
        middle = (dx == 0) & (dy == 0)
        s0, s1, s2 = s0 + weight * v0, s1 + weight * v1, s2 + weight * v2
        c0, c1, c2 = tl.where(middle, v0, c0), tl.where(middle, v1, c1), tl.where(middle, v2, c2)
    if sharpens:
        factor = tl.load(weights)
        # the outermost pixels stay as they are
        inner = (x > 0) & (y > 0) & (x < out_width - 1) & (y < out_height - 1)
        s0 = sharpened(s0, c0, factor, inner)
        s1 = sharpened(s1, c1, factor, inner)
        s2 = sharpened(s2, c2, factor, inner)
    if down:
        s0, s1, s2 = clip(s0), clip(s1), clip(s2)
    return s0, s1, s2


@triton.jit
def sharpened(nine, centre, factor, inner):
    smooth = (nine + 4.0 * centre) / 13.0
    return tl.where(inner, clip(smooth + (centre - smooth) * factor), centre)
