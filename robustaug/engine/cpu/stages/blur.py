"""Blur: Gaussians as two passes of taps, everything else as a sum over the places that weigh anything."""

from __future__ import annotations

import math

import numpy as np

from robustaug.engine.cpu.compiled import compiled, spliced, unit
from robustaug.engine.cpu.convolution import (
    REFLECTED,
    REPEATED,
    at_border,
    bordered,
    convolve,
    gaussian_taps,
    keep_unit,
    normalize,
    smooth,
    spread,
)
from robustaug.engine.cpu.stage import stage
from robustaug.philox import fill_uniform


@spliced
def smooth_image(src, dst, half, border):
    """Filter every channel with symmetric taps (float64) and keep the values in [0, 1]."""
    taps = np.empty(len(half), np.float32)
    for k in range(len(half)):
        taps[k] = half[k]
    for c in range(len(src)):
        smooth(src[c], dst[c], taps, border)
    keep_unit(dst)


@stage("image.gaussian_blur")
def gaussian_blur(src, dst, args):
    """args: sigma_px."""
    smooth_image(src, dst, gaussian_taps(args[0], 4.0), REFLECTED)


@stage("imagenet_c.gaussian_blur", "cifar_c.gaussian_blur")
def published_gaussian_blur(src, dst, args):
    """args: sigma_px."""
    smooth_image(src, dst, gaussian_taps(args[0], 4.0), REPEATED)


@stage("image.box_blur")
def box_blur(src, dst, args):
    """args: width_px."""
    side = args[0] / 2
    half = np.empty(max(math.ceil(side - 0.5), 0) + 1)
    for k in range(len(half)):
        half[k] = min(max(side - k + 0.5, 0.0), 1.0)
    normalize(half)
    smooth_image(src, dst, half, REFLECTED)


@spliced
def soft_disk(radius, wide, alias, near, border):
    """Return (2 wide + 1,) * 2 float64: a disk that sums to 1, softened by a Gaussian of alias cut after `near`."""
    K = 2 * wide + 1
    sharp, kernel = np.empty((K, K)), np.zeros((K, K))
    inside = 0.0
    for j in range(K):
        for i in range(K):
            sharp[j, i] = (j - wide) ** 2 + (i - wide) ** 2 <= radius * radius
            inside += sharp[j, i]
    half = np.empty(near + 1)
    for k in range(near + 1):
        half[k] = math.exp(-0.5 * (k / max(alias, 1e-6)) ** 2)
    normalize(half)
    for dy in range(-near, near + 1):
        for dx in range(-near, near + 1):
            share = half[abs(dy)] * half[abs(dx)] / inside
            for j in range(K):
                for i in range(K):
                    kernel[j, i] += share * sharp[at_border(j + dy, K, border), at_border(i + dx, K, border)]
    return kernel


@stage("image.defocus_blur", tolerance=3e-5)
def defocus_blur(src, dst, args):
    """args: radius_px, alias_px. A wide disk is a sum of thousands of float32 products."""
    radius = args[0]
    # a ring of zeros as wide as the softening reaches: nothing is lost at the kernel's border
    kernel = soft_disk(radius, math.floor(radius) + 2, args[1], 2 if radius > 8 else 1, REPEATED)
    convolve(src, dst, kernel, REFLECTED)


@stage("imagenet_c.defocus_blur", "cifar_c.defocus_blur", tolerance=3e-5)
def published_defocus_blur(src, dst, args):
    """args: radius_px, alias_px. A wide disk is a sum of thousands of float32 products."""
    radius = args[0]
    wide, near = (8, 1) if radius <= 8 else (int(radius), 2)
    convolve(src, dst, soft_disk(radius, wide, args[1], near, REFLECTED), REFLECTED)


@stage("image.motion_blur")
def motion_blur(src, dst, args):
    """args: sigma_px, angle_deg. One-sided Gaussian trail, each step shared between the pixels beside it."""
    sigma, angle = max(args[0], 1e-6), math.radians(args[1])
    steps = math.ceil(4 * sigma) + 1
    kernel = np.zeros((2 * steps + 1, 2 * steps + 1))
    total = 0.0
    for step in range(steps):
        if step <= 4 * sigma:
            weight = math.exp(-0.5 * (step / sigma) ** 2)
            x, y = step * math.cos(angle), step * math.sin(angle)
            left, top = math.floor(x), math.floor(y)
            j, i = int(top) + steps, int(left) + steps
            kernel[j, i] += weight * (1 - (y - top)) * (1 - (x - left))
            kernel[j, i + 1] += weight * (1 - (y - top)) * (x - left)
            kernel[j + 1, i] += weight * (y - top) * (1 - (x - left))
            kernel[j + 1, i + 1] += weight * (y - top) * (x - left)
            total += weight
    for j in range(len(kernel)):
        for i in range(len(kernel)):
            kernel[j, i] /= total
    convolve(src, dst, kernel, REFLECTED)


@spliced
def drag(src, dst, radius, sigma, angle_deg):
    """Drag a plane along ImageMagick's trail; see `robustaug.ops.corruptions.blur.motion_blur`. Nothing is clamped."""
    H, W = src.shape
    angle = math.radians(angle_deg)
    n = (2 * radius + 4) // 4 * 4
    down, across, weight = np.zeros(n, np.int64), np.zeros(n, np.int64), np.zeros(n, np.float32)
    margin, total = np.int64(0), 0.0
    for step in range(2 * radius + 1):
        across[step] = math.ceil(step * math.cos(angle) - 0.5)
        down[step] = math.ceil(step * math.sin(angle) - 0.5)
        if abs(across[step]) >= W or abs(down[step]) >= H:
            across[step] = down[step] = 0  # the trail ends here; what follows weighs nothing
            break
        weight[step] = math.exp(-0.5 * (step / sigma) ** 2)
        margin = max(margin, abs(across[step]), abs(down[step]))
        total += weight[step]
    for step in range(n):
        weight[step] /= total
    spread(bordered(src, margin, REPEATED), dst, down, across, weight)


@stage("imagenet_c.motion_blur", "cifar_c.motion_blur")
def published_motion_blur(src, dst, args):
    """args: radius_px, sigma_px, angle_deg."""
    for c in range(len(src)):
        drag(src[c], dst[c], int(args[0]), args[1], args[2])
    keep_unit(dst)


@spliced
def zoom_line(n, factor, first, share):
    """Write where each pixel of a side enlarged about its middle comes from: `first` and `share` of the one after.

    As `robustaug.ops.corruptions.blur.zoomed`: SciPy's zoom of order 1 on the middle, then cut.
    """
    kept = math.ceil(n / factor)
    grown = max(round(kept * factor), n)
    top, skipped = (n - kept) // 2, (grown - n) // 2
    scale = (kept - 1) / max(grown - 1, 1)
    for i in range(n):
        at = (i + skipped) * scale
        low = min(math.floor(at), kept - 1)
        first[i] = top + low
        share[i] = at - low


@spliced
def read_line(out, line, first, share):
    """Add a line read between its pixels; line has one pixel more than out."""
    for x in range(len(out)):
        a, b = line[first[x]], line[first[x] + 1]
        out[x] += a + (b - a) * share[x]


@spliced
def mix_lines(out, a, b, share):
    for x in range(len(a)):
        out[x] = a[x] + (b[x] - a[x]) * share


@stage("imagenet_c.zoom_blur", "cifar_c.zoom_blur")
def zoom_blur(src, dst, args):
    """args: end, step."""
    C, H, W = src.shape
    # NumPy's arange takes its second value less its first as the step
    stop, step = round(args[0], 6), 1 + round(args[1], 6) - 1
    n = max(math.ceil((stop - 1) / round(args[1], 6)), 0)
    column, row = np.empty((n, W), np.int32), np.empty((n, H), np.int32)
    right, below = np.empty((n, W), np.float32), np.empty((n, H), np.float32)
    for f in range(n):
        zoom_line(W, 1 + f * step, column[f], right[f])
        zoom_line(H, 1 + f * step, row[f], below[f])
    line = np.zeros(W + 1, np.float32)
    weight = np.float32(1 / (n + 1))
    for c in range(C):
        for y in range(H):
            out, row_here = dst[c, y], src[c, y]
            for x in range(W):
                out[x] = row_here[x]
            for f in range(n):
                top = row[f, y]
                mix_lines(line, src[c, top], src[c, min(top + 1, H - 1)], below[f, y])
                read_line(out, line, column[f], right[f])
            for x in range(W):
                out[x] = unit(out[x] * weight)


@stage("imagenet_c.glass_blur", "cifar_c.glass_blur")
def glass_blur(src, dst, args):
    """args: sigma_px, reach_px, rounds, scatter."""
    C, H, W = src.shape
    reach, rounds = int(args[1]), int(args[2])
    k0, k1, low, high = np.uint64(args[3]), np.uint64(args[4]), np.uint64(args[5]), np.uint64(args[6])
    half = gaussian_taps(args[0], 4.0)
    soft = np.empty_like(src)
    smooth_image(src, soft, half, REPEATED)
    span = np.float32(2 * reach)
    drawn = np.empty((2, W), np.float32)
    # the program's loops run from size - reach down to reach, excluded
    bottom, right = min(H - reach, H - 1), min(W - reach, W - 1)
    for turn in range(rounds):
        for y in range(bottom, reach, -1):
            for axis in range(2):
                fill_uniform(drawn[axis], (turn * 2 + axis) * H * W + y * W, k0, k1, low, high)
            for x in range(right, reach, -1):
                j = min(max(y + int(drawn[0, x] * span) - reach, 0), H - 1)
                i = min(max(x + int(drawn[1, x] * span) - reach, 0), W - 1)
                for c in range(C):
                    soft[c, y, x] = soft[c, j, i]
    smooth_image(soft, dst, half, REPEATED)


@stage("image.sharpness")
def sharpness(src, dst, args):
    """args: factor."""
    C, H, W = src.shape
    factor, four, share = np.float32(args[0]), np.float32(4), np.float32(1 / 13)
    for c in range(C):
        for y in range(H):
            here, out = src[c, y], dst[c, y]
            for x in range(W):
                out[x] = here[x]
            if y == 0 or y == H - 1:
                continue
            above, below = src[c, y - 1], src[c, y + 1]
            for x in range(1, W - 1):
                nine = (above[x - 1] + above[x] + above[x + 1]) + (here[x - 1] + here[x] + here[x + 1])
                nine += below[x - 1] + below[x] + below[x + 1]
                blurred = (nine + four * here[x]) * share
                out[x] = unit(blurred + (here[x] - blurred) * factor)


@compiled
def count_below(count, limit, a, b, c, d):
    """Add to each count how many of four rows' values lie below its limit; all int32."""
    for x in range(len(count)):
        count[x] += np.int32(a[x] < limit[x]) + np.int32(b[x] < limit[x])
        count[x] += np.int32(c[x] < limit[x]) + np.int32(d[x] < limit[x])


@stage("image.median_blur", tolerance=0.0)
def median_blur(src, dst, args):
    """args: width_px, odd.

    Bits of floats that are not negative sort like the floats, so the median is found a bit at a time from the top,
    a whole row at once: the greatest number that no more than half of the square's values lie below.
    """
    C, H, W = src.shape
    width = int(args[0])
    radius, n = np.int64(width // 2), width * width
    down, across = np.zeros(n + 3, np.int64), np.zeros(n + 3, np.int64)
    for i in range(n):
        down[i], across[i] = i // width, i % width
    found, limit, count = np.empty(W, np.int32), np.empty(W, np.int32), np.empty(W, np.int32)
    median = found.view(np.float32)
    for c in range(C):
        wide = bordered(src[c], radius, REPEATED).view(np.int32)
        for y in range(H):
            for x in range(W):
                found[x] = 0
            for bit in range(29, -1, -1):
                for x in range(W):
                    limit[x] = found[x] | (np.int32(1) << np.int32(bit))
                    count[x] = 0
                for i in range(0, n - 1, 4):
                    count_below(
                        count,
                        limit,
                        wide[y + down[i], across[i] :],
                        wide[y + down[i + 1], across[i + 1] :],
                        wide[y + down[i + 2], across[i + 2] :],
                        wide[y + down[i + 3], across[i + 3] :],
                    )
                last = wide[y + width - 1, width - 1 :]  # an odd square is fours and one
                for x in range(W):
                    below = count[x] + np.int32(last[x] < limit[x])
                    found[x] = limit[x] if below <= n // 2 else found[x]
            out = dst[c, y]
            for x in range(W):
                out[x] = median[x]
