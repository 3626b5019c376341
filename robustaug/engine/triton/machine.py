"""The kernels: each program carries a tile of one sample through that sample's own instructions, in registers.

What a sample does is data: a row of instructions. A branch on an instruction is a branch on a scalar, which all
threads of a program take together, so nothing is masked and no formula runs that the sample does not have. Nothing
here depends on the batch size, on parameters, or on the order of operators: only the vocabulary of formulas is
compiled, as `ACT`, which `robustaug.engine.triton.generate` writes.

Importing this module imports Triton.
"""

# pyright: reportGeneralTypeIssues=false, reportCallIssue=false, reportArgumentType=false, reportOperatorIssue=false
# (Triton compiles these functions, and its types are not Python's)

import triton
import triton.language as tl

from robustaug.engine.triton import layout
from robustaug.engine.triton.read import read, read_around
from robustaug.engine.triton.words import clip, level_of, nearest
from robustaug.ops import pixelwise

OP: tl.constexpr = tl.constexpr(layout.OP)
AT: tl.constexpr = tl.constexpr(layout.AT)
STATISTIC: tl.constexpr = tl.constexpr(layout.STATISTIC)
LOAD: tl.constexpr = tl.constexpr(layout.LOAD)
ADD: tl.constexpr = tl.constexpr(layout.ADD)
JOIN: tl.constexpr = tl.constexpr(layout.JOIN)
SOURCE: tl.constexpr = tl.constexpr(layout.SOURCE)
MAP_FIRST: tl.constexpr = tl.constexpr(layout.MAP_FIRST)
MAP_LAST: tl.constexpr = tl.constexpr(layout.MAP_LAST)
HEIGHT: tl.constexpr = tl.constexpr(layout.HEIGHT)
WIDTH: tl.constexpr = tl.constexpr(layout.WIDTH)
TAPS_KIND: tl.constexpr = tl.constexpr(layout.TAPS)
TAPS_AT: tl.constexpr = tl.constexpr(layout.TAPS_AT)
TAPS_N: tl.constexpr = tl.constexpr(layout.TAPS_N)
SKIP: tl.constexpr = tl.constexpr(layout.SKIP)
INSTRUCTION: tl.constexpr = tl.constexpr(layout.INSTRUCTION)
JOB: tl.constexpr = tl.constexpr(layout.JOB)
SAMPLE: tl.constexpr = tl.constexpr(layout.SAMPLE)
FIRST: tl.constexpr = tl.constexpr(layout.FIRST)
LAST: tl.constexpr = tl.constexpr(layout.LAST)
ROW_OUT: tl.constexpr = tl.constexpr(layout.ROW_OUT)
OUT_HEIGHT: tl.constexpr = tl.constexpr(layout.OUT_HEIGHT)
OUT_WIDTH: tl.constexpr = tl.constexpr(layout.OUT_WIDTH)
NEED: tl.constexpr = tl.constexpr(layout.NEED)
GREY_MEAN: tl.constexpr = tl.constexpr(layout.GREY_MEAN)
CHANNEL_RANGE: tl.constexpr = tl.constexpr(layout.CHANNEL_RANGE)
HISTOGRAM: tl.constexpr = tl.constexpr(layout.HISTOGRAM)
LEVELS: tl.constexpr = tl.constexpr(layout.LEVELS)
RED: tl.constexpr = tl.constexpr(pixelwise.RED)
GREEN: tl.constexpr = tl.constexpr(pixelwise.GREEN)
BLUE: tl.constexpr = tl.constexpr(pixelwise.BLUE)


@triton.jit
def load(
    row, image, i_sb, i_sc, i_sh, i_sw, scratch, s_sc, sample, plane, off, width, height, args, maps, metas, C, mask,
    FROM_IMAGE: tl.constexpr, FROM_SCRATCH: tl.constexpr, FLAT: tl.constexpr, MAPS: tl.constexpr, TAPS: tl.constexpr,
    PLANES: tl.constexpr,
):  # fmt: skip
    """Perform a LOAD: pixels `off` of a frame (height, width), from the image or from a row of scratch."""
    first, last = tl.load(row + MAP_FIRST), tl.load(row + MAP_LAST)
    in_height, in_width = tl.load(row + HEIGHT), tl.load(row + WIDTH)
    source = tl.load(row + SOURCE)
    y = off // width
    x = off - y * width
    if FROM_IMAGE and FROM_SCRATCH:
        if source < 0:
            v0, v1, v2 = load_from(
                image + sample.to(tl.int64) * i_sb + plane.to(tl.int64) * i_sc, i_sc, i_sh, i_sw, row, x, y, off,
                in_height, in_width, height, width, args, maps, metas, first, last, mask, FLAT, MAPS, TAPS, PLANES,
            )  # fmt: skip
        else:
            v0, v1, v2 = load_from(
                scratch + (source.to(tl.int64) * C + plane) * s_sc, s_sc, in_width, 1, row, x, y, off,
                in_height, in_width, height, width, args, maps, metas, first, last, mask, True, MAPS, TAPS, PLANES,
            )  # fmt: skip
    elif FROM_IMAGE:
        v0, v1, v2 = load_from(
            image + sample.to(tl.int64) * i_sb + plane.to(tl.int64) * i_sc, i_sc, i_sh, i_sw, row, x, y, off,
            in_height, in_width, height, width, args, maps, metas, first, last, mask, FLAT, MAPS, TAPS, PLANES,
        )  # fmt: skip
    else:
        v0, v1, v2 = load_from(
            scratch + (source.to(tl.int64) * C + plane) * s_sc, s_sc, in_width, 1, row, x, y, off,
            in_height, in_width, height, width, args, maps, metas, first, last, mask, True, MAPS, TAPS, PLANES,
        )  # fmt: skip
    return v0, v1, v2


@triton.jit
def load_from(
    base, sc, sh, sw, row, x, y, off, in_height, in_width, height, width, args, maps, metas, first, last, mask,
    FLAT: tl.constexpr, MAPS: tl.constexpr, TAPS: tl.constexpr, PLANES: tl.constexpr,
):  # fmt: skip
    taps = first * 0
    if TAPS:
        taps = tl.load(row + TAPS_KIND)
    if (first == last) & (taps == 0) & FLAT:
        # rows follow one another: as one line, the addresses are consecutive and accesses 16 bytes wide
        v0, v1, v2 = read(base, sc, 0, 1, off, off, 1, 1, maps, metas, 0, 0, mask, False, PLANES)
    elif TAPS:
        v0, v1, v2 = read_around(
            base, sc, sh, sw, x, y, in_height, in_width, maps, metas, first, last, mask,
            taps, args + tl.load(row + TAPS_AT), tl.load(row + TAPS_N), height, width, MAPS, PLANES,
        )  # fmt: skip
    else:
        v0, v1, v2 = read(base, sc, sh, sw, x, y, in_height, in_width, maps, metas, first, last, mask, MAPS, PLANES)
    return v0, v1, v2


@triton.jit
def perform(
    first, end, image, i_sb, i_sc, i_sh, i_sw, scratch, s_sc, sample, plane, tile, off, height, width, mask, C,
    code, args, words, maps, metas, stats, tables,
    ACT: tl.constexpr, FROM_IMAGE: tl.constexpr, FROM_SCRATCH: tl.constexpr, FLAT: tl.constexpr, MAPS: tl.constexpr,
    TAPS: tl.constexpr,
    FORKS: tl.constexpr, PLANES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Return the values of a tile after the instructions from `first`, which is a LOAD, up to `end`."""
    x0, x1, x2 = load(
        code + first * INSTRUCTION, image, i_sb, i_sc, i_sh, i_sw, scratch, s_sc, sample, plane, off, width, height,
        args, maps, metas, C, mask, FROM_IMAGE, FROM_SCRATCH, FLAT, MAPS, TAPS, PLANES,
    )  # fmt: skip
    if FORKS:
        sum0 = tl.zeros(off.shape, tl.float32)
        sum1, sum2 = sum0, sum0
        resume = first
    for i in range(first + 1, end):
        row = code + i * INSTRUCTION
        op, at, statistic = tl.load(row + OP), tl.load(row + AT), tl.load(row + STATISTIC)
        if FORKS:
            if i < resume:  # a part of a chain that an earlier launch has done
                resume = resume
            elif op == LOAD:
                skip = tl.load(row + SKIP)
                resume = i + skip
                if skip == 0:
                    x0, x1, x2 = load(
                        row, image, i_sb, i_sc, i_sh, i_sw, scratch, s_sc, sample, plane, off, width, height,
                        args, maps, metas, C, mask, FROM_IMAGE, FROM_SCRATCH, FLAT, MAPS, TAPS, PLANES,
                    )  # fmt: skip
            elif op == ADD:
                weight = tl.load(args + at)
                sum0, sum1, sum2 = sum0 + weight * x0, sum1 + weight * x1, sum2 + weight * x2
            elif op == JOIN:
                share = tl.load(args + at)
                x0 = clip((1.0 - share) * x0 + share * sum0)
                x1 = clip((1.0 - share) * x1 + share * sum1)
                x2 = clip((1.0 - share) * x2 + share * sum2)
                sum0 = tl.zeros(off.shape, tl.float32)
                sum1, sum2 = sum0, sum0
            else:
                x0, x1, x2 = ACT(
                    op, at, statistic, args, words, stats, tables, x0, x1, x2, tile, plane, C, height * width,
                    PLANES, BLOCK,
                )  # fmt: skip
        else:
            x0, x1, x2 = ACT(
                op, at, statistic, args, words, stats, tables, x0, x1, x2, tile, plane, C, height * width,
                PLANES, BLOCK,
            )  # fmt: skip
    return x0, x1, x2


@triton.jit
def put(base, at, value, norm, channel, C, mask):
    """Store (value - mean) / std; uint8 takes levels instead."""
    if base.dtype.element_ty == tl.uint8:
        tl.store(base + at, nearest(clip(value) * 255.0).to(tl.int32).to(tl.uint8), mask=mask)
    else:
        shifted = (value - tl.load(norm + channel)) * tl.load(norm + C + channel)
        tl.store(base + at, shifted.to(base.dtype.element_ty), mask=mask)


NUMBERS = [
    "i_sb", "i_sc", "i_sh", "i_sw", "o_sb", "o_sc", "o_sh", "o_sw", "s_sc", "C", "first_job", "tiles",
]  # fmt: skip
"""Arguments whose values no kernel is compiled for.

That a stride is a multiple of 16, which wide accesses need to know, is said by the unit: where ALIGNED, the strides
of samples and channels count 16 values. (`tl.multiple_of` does not reach arguments.)
"""


@triton.jit(do_not_specialize=NUMBERS)
def transform(
    image, i_sb, i_sc, i_sh, i_sw, out, o_sb, o_sc, o_sh, o_sw, scratch, s_sc, C,
    jobs, first_job, code, args, words, maps, metas, stats, tables, norm,
    ACT: tl.constexpr, FROM_IMAGE: tl.constexpr, FROM_SCRATCH: tl.constexpr, FLAT: tl.constexpr,
    FLAT_OUT: tl.constexpr, ALIGNED: tl.constexpr, MAPS: tl.constexpr, TAPS: tl.constexpr, FORKS: tl.constexpr,
    PLANES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Do jobs: tile program_id(0) of job program_id(1), for all three channels or for channel program_id(2)."""
    tile, plane = tl.program_id(0), tl.program_id(2)
    job = jobs + (first_job + tl.program_id(1)) * JOB
    height, width = tl.load(job + OUT_HEIGHT), tl.load(job + OUT_WIDTH)
    pixels = height * width
    if tile * BLOCK < pixels:
        if ALIGNED:
            pixels = pixels // 16 * 16
            i_sb, i_sc, o_sb, o_sc, s_sc = i_sb * 16, i_sc * 16, o_sb * 16, o_sc * 16, s_sc * 16
        off = tile * BLOCK + tl.arange(0, BLOCK)
        mask = off < pixels
        sample = tl.load(job + SAMPLE)
        x0, x1, x2 = perform(
            tl.load(job + FIRST), tl.load(job + LAST), image, i_sb, i_sc, i_sh, i_sw, scratch, s_sc, sample, plane,
            tile, off, height, width, mask, C, code, args, words, maps, metas, stats, tables,
            ACT, FROM_IMAGE, FROM_SCRATCH, FLAT, MAPS, TAPS, FORKS, PLANES, BLOCK,
        )  # fmt: skip
        row = tl.load(job + ROW_OUT)
        if row < 0:
            base = out + sample.to(tl.int64) * o_sb + plane.to(tl.int64) * o_sc
            at = off
            if not FLAT_OUT:
                y = off // width
                at = y * o_sh + (off - y * width) * o_sw
            put(base, at, x0, norm, plane, C, mask)
            if PLANES == 3:
                put(base + o_sc, at, x1, norm, plane + 1, C, mask)
                put(base + 2 * o_sc, at, x2, norm, plane + 2, C, mask)
        else:
            keep = scratch + (row.to(tl.int64) * C + plane) * s_sc
            tl.store(keep + off, x0, mask=mask)
            if PLANES == 3:
                tl.store(keep + s_sc + off, x1, mask=mask)
                tl.store(keep + 2 * s_sc + off, x2, mask=mask)


@triton.jit
def reduce_plane(x, need, hist, partial, mask, LOOKS_UP: tl.constexpr):
    """Write what a tile of one channel adds to a statistic."""
    if need == CHANNEL_RANGE:
        tl.store(partial, tl.min(tl.where(mask, x, float("inf")), axis=0))
        tl.store(partial + 1, tl.max(tl.where(mask, x, float("-inf")), axis=0))
    elif LOOKS_UP:
        if need == HISTOGRAM:
            # counted within the program first: a flat image would send all its atomics to one address
            counts = tl.histogram(level_of(x), LEVELS, mask=mask)
            tl.atomic_add(hist + tl.arange(0, LEVELS), counts, mask=counts > 0, sem="relaxed")
        else:
            tl.store(partial, tl.sum(tl.where(mask, x, 0.0), axis=0))
    else:
        tl.store(partial, tl.sum(tl.where(mask, x, 0.0), axis=0))


@triton.jit(do_not_specialize=NUMBERS)
def reduce(
    image, i_sb, i_sc, i_sh, i_sw, scratch, s_sc, C,
    jobs, first_job, code, args, words, maps, metas, stats, tables, hist, partial, tiles,
    ACT: tl.constexpr, FROM_IMAGE: tl.constexpr, FROM_SCRATCH: tl.constexpr, FLAT: tl.constexpr,
    ALIGNED: tl.constexpr, MAPS: tl.constexpr, TAPS: tl.constexpr, FORKS: tl.constexpr, LOOKS_UP: tl.constexpr,
    PLANES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Compute a sample's image as it is before an instruction, and keep nothing but each tile's part of a statistic.

    The image is made again when it is stored. That reads the source twice, at most 4 bytes a value; writing it as
    float32 and reading it back would move 8 beside the same first reading.
    """
    tile, plane = tl.program_id(0), tl.program_id(2)
    job = jobs + (first_job + tl.program_id(1)) * JOB
    height, width = tl.load(job + OUT_HEIGHT), tl.load(job + OUT_WIDTH)
    pixels = height * width
    if tile * BLOCK < pixels:
        if ALIGNED:
            pixels = pixels // 16 * 16
            i_sb, i_sc, s_sc = i_sb * 16, i_sc * 16, s_sc * 16
        off = tile * BLOCK + tl.arange(0, BLOCK)
        mask = off < pixels
        x0, x1, x2 = perform(
            tl.load(job + FIRST), tl.load(job + LAST), image, i_sb, i_sc, i_sh, i_sw, scratch, s_sc,
            tl.load(job + SAMPLE), plane, tile, off, height, width, mask, C, code, args, words, maps, metas, stats,
            tables, ACT, FROM_IMAGE, FROM_SCRATCH, FLAT, MAPS, TAPS, FORKS, PLANES, BLOCK,
        )  # fmt: skip
        need, row = tl.load(job + NEED), tl.load(job + ROW_OUT)
        parts = partial + ((row * C + plane) * tiles + tile) * 2
        counts = hist + (row * C + plane) * LEVELS
        if PLANES == 3:
            if need == GREY_MEAN:
                x0 = RED * x0 + GREEN * x1 + BLUE * x2
            reduce_plane(x0, need, counts, parts, mask, LOOKS_UP)
            if need != GREY_MEAN:
                reduce_plane(x1, need, counts + LEVELS, parts + 2 * tiles, mask, LOOKS_UP)
                reduce_plane(x2, need, counts + 2 * LEVELS, parts + 4 * tiles, mask, LOOKS_UP)
        else:
            reduce_plane(x0, need, counts, parts, mask, LOOKS_UP)


@triton.jit(do_not_specialize=NUMBERS)
def conclude(jobs, first_job, C, stats, tables, hist, partial, tiles, PLANES: tl.constexpr, BLOCK: tl.constexpr):
    """Turn the tiles' parts into the statistic of job program_id(0) and channel program_id(1): two levels, no order
    that could differ from run to run."""
    job = jobs + (first_job + tl.program_id(0)) * JOB
    channel = tl.program_id(1)
    need, row = tl.load(job + NEED), tl.load(job + ROW_OUT)
    pixels = tl.load(job + OUT_HEIGHT) * tl.load(job + OUT_WIDTH)
    used = tl.cdiv(pixels, BLOCK)
    at = row * C + channel
    if need == HISTOGRAM:
        level = tl.arange(0, LEVELS)
        counts = tl.load(hist + at * LEVELS + level)
        top = tl.max(tl.where(counts > 0, level, 0), axis=0)
        brightest = tl.sum(tl.where(level == top, counts, 0), axis=0)
        step = (pixels - brightest) // 255
        before = tl.cumsum(counts, axis=0) - counts
        spread = tl.minimum((before + step // 2) // tl.maximum(step, 1), 255).to(tl.float32) / 255.0
        tl.store(tables + at * LEVELS + level, tl.where(step == 0, -1.0, spread))
    else:
        low = tl.full((), float("inf"), tl.float32)
        high = tl.full((), float("-inf"), tl.float32)
        total = tl.zeros((), tl.float32)
        lane = tl.arange(0, BLOCK)
        # grey lies in the first of three channels; of any other number it is the mean of all
        first_plane, n_planes = channel, channel * 0 + 1
        if need == GREY_MEAN:
            first_plane = channel * 0
            n_planes = channel * 0 + 1
            if PLANES == 1:
                n_planes = channel * 0 + C
        for p in range(first_plane, first_plane + n_planes):
            parts = partial + (row * C + p) * tiles * 2
            for start in range(0, used, BLOCK):
                inner = start + lane < used
                value = tl.load(parts + (start + lane) * 2, mask=inner, other=0.0)
                if need == CHANNEL_RANGE:
                    most = tl.load(parts + (start + lane) * 2 + 1, mask=inner, other=0.0)
                    low = tl.minimum(low, tl.min(tl.where(inner, value, float("inf")), axis=0))
                    high = tl.maximum(high, tl.max(tl.where(inner, most, float("-inf")), axis=0))
                else:
                    total += tl.sum(value, axis=0)
        if need == CHANNEL_RANGE:
            tl.store(stats + at * 2, low)
            tl.store(stats + at * 2 + 1, high)
        else:
            tl.store(stats + at * 2, total / (pixels.to(tl.float32) * n_planes.to(tl.float32)))
