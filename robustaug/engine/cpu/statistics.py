"""What a formula wants to know about the whole image, gathered tile by tile."""

from __future__ import annotations

import numpy as np
from numba import njit

NONE, GREY_MEAN, CHANNEL_MEAN, CHANNEL_RANGE, HISTOGRAM = 0, 1, 2, 3, 4
CODES = {"": NONE, "grey_mean": GREY_MEAN, "channel_mean": CHANNEL_MEAN, "channel_range": CHANNEL_RANGE}


@njit
def reset(what, channels, stats, counts):
    """Begin: stats is float64 (channels, 2), counts int64 (channels, 256)."""
    for channel in range(channels):
        stats[channel, 0], stats[channel, 1] = 0.0, 0.0
        if what == CHANNEL_RANGE:
            stats[channel, 0], stats[channel, 1] = np.inf, -np.inf
        if what == HISTOGRAM:
            for level in range(256):
                counts[channel, level] = 0


@njit(fastmath={"contract", "nsz", "reassoc"})
def _sum(line, n):
    total = np.float32(0)
    for i in range(n):
        total += line[i]
    return np.float64(total)


@njit(fastmath={"contract", "nsz", "reassoc", "nnan"})
def _range(line, n):
    low, high = line[0], line[0]
    for i in range(n):
        low = min(low, line[i])
        high = max(high, line[i])
    return low, high


@njit
def collect(what, channels, n, px, stats, counts):
    """Add n pixels of px (channels, TILE)."""
    for channel in range(channels):
        line = px[channel]
        if what in (GREY_MEAN, CHANNEL_MEAN):
            stats[channel, 0] += _sum(line, n)
        elif what == CHANNEL_RANGE:
            low, high = _range(line, n)
            stats[channel, 0] = min(stats[channel, 0], low)
            stats[channel, 1] = max(stats[channel, 1], high)
        else:
            levels = counts[channel]
            for i in range(n):
                levels[_level(line[i])] += 1


@njit(inline="always")
def _level(x):
    level = x * np.float32(255)
    return np.int64((level + np.float32(12582912)) - np.float32(12582912)) & 255


@njit
def finish(what, channels, pixels, stats, counts, table):
    """Turn sums into what the formula is told; of HISTOGRAM, fill `table`, float32 (channels, 256), -1 for "stays"."""
    if what == CHANNEL_MEAN:
        for channel in range(channels):
            stats[channel, 0] /= pixels
    elif what == GREY_MEAN:
        if channels == 3:
            grey = 0.2989 * stats[0, 0] + 0.587 * stats[1, 0] + 0.114 * stats[2, 0]
        else:
            grey = 0.0
            for channel in range(channels):
                grey += stats[channel, 0] / channels
        for channel in range(channels):
            stats[channel, 0] = grey / pixels
    elif what == HISTOGRAM:
        for channel in range(channels):
            _equalized(counts[channel], pixels, table[channel])


@njit
def _equalized(counts, pixels, table):
    """PIL's rule: see `robustaug.ops.image.tone.Equalize`."""
    brightest = 255
    while counts[brightest] == 0:
        brightest -= 1
    step = (pixels - counts[brightest]) // 255
    if step == 0:
        table[0] = -1
        return
    before = 0
    for level in range(256):
        table[level] = np.float32(min((before + step // 2) // step, 255)) / np.float32(255)
        before += counts[level]


@njit
def look_up(channels, n, px, table):
    """Replace each value by its level's entry, where the table has one."""
    for channel in range(channels):
        line, entries = px[channel], table[channel]
        if entries[0] < 0:
            continue
        for i in range(n):
            line[i] = entries[_level(line[i])]
