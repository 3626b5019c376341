"""Oscillations made rather than recorded: series in any number, for trying things without a file.

Legend: B series, C channels, T steps, K classes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from robustaug.data.fingerprint import digest
from robustaug.data.series import FilledGaps
from robustaug.data.source import Source
from robustaug.data.splits import part_of
from robustaug.data.store import Held
from robustaug.ops.signal.series import SERIES
from robustaug.parameters import check_count
from robustaug.registry import register
from robustaug.rng import Keys, normal_field


@register("data.waves")
def waves(
    split: str = "all",
    *,
    n: int = 1200,
    classes: int = 4,
    channels: int = 2,
    steps: int = 64,
    noise: float = 0.6,
    val_share: float = 0.2,
    test_share: float = 0.3,
    seed: int = 0,
) -> Source:
    """Noisy oscillations whose class is their frequency: class k has 2 + k periods in the window, give or take 0.25.

    Amplitudes from 0.7 to 1.3, phases and frequencies are drawn per series, phases per channel; Gaussian noise is
    added. Series i is of class i mod K and the same for any n. Cohorts: "class", and "loudness": quiet or loud, an
    amplitude below or above 1.

    Args:
        split: "train", "val" or "test", disjoint random parts with the classes in proportion; or "all".
        n, classes, channels, steps: N, K, C, T.
        noise: its standard deviation.
        val_share, test_share: of all series.
        seed: every draw follows from it.

    Raises:
        ValueError: an argument out of range.
    """
    for key, value, least in (("classes", classes, 2), ("channels", channels, 1), ("steps", steps, 2), ("n", n, 1)):
        check_count("data.waves", key, value, least)
    if not 0 <= noise < math.inf:
        raise ValueError(f"data.waves: noise must be >= 0 and finite, got {noise!r}")
    labels = torch.arange(n) % classes
    series, amplitude = _drawn(Keys.of(seed, n).fold("waves"), labels, channels, steps, noise)
    names = [f"{2 + k} periods" for k in range(classes)]
    whole = Source(
        "waves",
        Held(series, SERIES, (channels, steps), "waves", FilledGaps(torch.zeros(channels, 1))),
        labels,
        names,
        fingerprint=digest("waves", series, labels),
        cohorts={"loudness": ["quiet" if value < 1 else "loud" for value in amplitude.tolist()]},
    )
    return part_of(whole, "data.waves", split, val_share, test_share, seed)


def _drawn(keys: Keys, labels: Tensor, channels: int, steps: int, noise: float) -> tuple[Tensor, Tensor]:
    """Return series (B, C, T) float32 and their amplitudes (B,)."""
    drawn = keys.fold("wave").uniform(2 + channels)
    periods = 2 + labels + 0.5 * (drawn[:, 0] - 0.5)
    amplitude = 0.7 + 0.6 * drawn[:, 1]
    turns = periods[:, None, None] * torch.arange(steps) / steps + drawn[:, 2:, None]  # (B, C, T)
    series = amplitude[:, None, None] * torch.sin(2 * math.pi * turns)
    return series + noise * normal_field(keys.fold("noise").rows(), (channels, steps)), amplitude
