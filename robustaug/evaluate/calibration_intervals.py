"""Intervals of calibration figures, from sums over random groups of samples, so that a million of them cost seconds.

A group's sums are all that is kept of its samples; the Bayesian bootstrap (Rubin 1981) weighs the groups anew.
A sum of |gaps| is never below 0 and leans upward by chance, so that quantiles of its resamples miss a calibrated
model's error of 0 nearly always. Here the gaps themselves are resampled about what was found: the true sum is no
further from the measured one than the sum of their moves is large. That holds at 0; far from it, gaps whose sign is
beyond doubt are let cancel each other, which keeps the interval short. The parts of the Brier score, squares of gaps,
are smooth, so there the basic interval does: what a resample gains is taken off the figure. It is stretched to the
figure itself, which with many classes is by chance alone too high.

Legend: N samples, K classes, M bins, G groups, R resamples, C cells (bins, of one class or of all).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from scipy.special import ndtri

from robustaug.evaluate.statistics import Interval, wilson
from robustaug.rng import Keys
from robustaug.trust import calibration
from robustaug.trust.calibration.tally import COUNT, SUM_P, SUM_Y, Tally, checked, groups_of

GROUPS = 256
_FEWEST_GROUPS, _GROUP_CELLS = 32, 1 << 21  # of many classes groups are fewer, so that their sums stay some MB
_SIGNS = 0.1  # the share of the chance of error that is spent on the signs of gaps
_CHUNK_VALUES = 1 << 24  # resampled cells held at once: 128 MiB


def calibration_intervals(
    logits: Any, labels: Any, bins: int = 15, seed: int = 0, n_resamples: int = 2_000, confidence: float = 0.95
) -> dict[str, Interval]:
    """Return every figure of calibration with its interval; see `intervals_of` for the keys.

    >>> found = calibration_intervals([[2.0, 0.0], [0.0, 1.0], [1.0, 0.0]], [0, 1, 1])
    >>> found["nll"].low < found["nll"].estimate < found["nll"].high
    True

    Args:
        logits: (N, K) real, numpy or torch, K >= 2.
        labels: (N,) integers in [0, K).
        seed, n_resamples, confidence: as in `statistics.bootstrap_ci`.

    Raises:
        TypeError, ValueError: as `Tally.add`; or logits that have no softmax, or an option out of range.
    """
    logits, labels = checked(logits, labels)
    return intervals_of(Tally(logits.shape[1], bins, GROUPS, seed).add(logits, labels), n_resamples, confidence)


def intervals_of(tally: Tally, n_resamples: int = 2_000, confidence: float = 0.95) -> dict[str, Interval]:
    """Return the figures of a tally of many groups with their intervals.

    Keys: ece, ece_equal_mass, classwise_ece, nll, brier, brier_reliability, brier_resolution, brier_uncertainty.

    Raises:
        ValueError: fewer than two groups, logits without a softmax, or an option out of range.
    """
    groups, classes, bins, _ = tally.table.shape
    if groups < 2:
        raise ValueError(f"intervals need groups to resample: Tally(..., groups={GROUPS}), got {groups}")
    if not tally.whole:
        missing = int(np.isnan(tally.predictions.confidence).sum())
        raise ValueError(f"{missing} of {tally.n} rows of logits hold NaN or +inf, so no figure has an interval")
    found = tally.predictions
    group = groups_of(0, tally.n, groups, tally.seed)
    size = np.bincount(group, minlength=groups).astype(np.float64)
    weights = _weights(tally.seed, n_resamples, groups)
    out = {
        "ece": _ece(found, group, size, weights, bins, "equal_width", confidence),
        "ece_equal_mass": _ece(found, group, size, weights, bins, "equal_mass", confidence),
        "classwise_ece": _sum_of_gaps(_gaps(tally).reshape(groups, -1) / classes, size, weights, confidence),
    }
    for name, values in (("nll", found.nll), ("brier", found.brier)):
        sums = np.bincount(group, weights=values, minlength=groups)
        out[name] = _percentile(values.mean(), (weights @ sums) / (weights @ size), confidence)
    return out | _brier_parts(tally, size, weights, confidence)


def ece_interval(
    confidence_in: Any,
    correct: Any,
    bins: int = 15,
    binning: calibration.Binning = "equal_width",
    seed: int = 0,
    n_resamples: int = 2_000,
    confidence: float = 0.95,
) -> Interval:
    """Return the calibration error of predictions with its interval.

    Args:
        confidence_in, correct, bins, binning: as in `calibration.reliability`.
        seed, n_resamples, confidence: as in `statistics.bootstrap_ci`.

    Raises:
        ValueError: as `calibration.reliability`, or an option out of range.
    """
    p, y = np.asarray(confidence_in, dtype=np.float64), np.asarray(correct)
    group = groups_of(0, len(p), GROUPS, seed)
    size = np.bincount(group, minlength=GROUPS).astype(np.float64)
    found = calibration.Predictions(p, y, p, p)
    return _ece(found, group, size, _weights(seed, n_resamples, GROUPS), bins, binning, confidence)


def groups_for(classes: int, bins: int = 15) -> int:
    """Return how many groups to gather the samples of one cell in: `GROUPS`, or fewer where classes are many.

    >>> groups_for(10), groups_for(1000)
    (256, 139)
    """
    return max(_FEWEST_GROUPS, min(GROUPS, _GROUP_CELLS // (classes * bins)))


def gap_sums(tally: Tally) -> dict[str, np.ndarray]:
    """Return what `classwise_interval` needs of a tally of many groups; nothing where some logits have no softmax.

    Returns:
        "gaps" (G, K, M) float32, sums of outcome less probability; "size" (G,) int64, samples of each group.
    """
    if not tally.whole:
        return {}
    size = tally.table[:, 0, :, COUNT].sum(axis=1)  # every sample is in one bin of every class
    return {"gaps": _gaps(tally).astype(np.float32), "size": size.astype(np.int64)}


def classwise_interval(
    sums: Mapping[str, np.ndarray], seed: int = 0, n_resamples: int = 2_000, confidence: float = 0.95
) -> Interval:
    """Return the classwise calibration error with its interval, from `gap_sums` alone.

    Args:
        seed, n_resamples, confidence: as in `statistics.bootstrap_ci`.
    """
    gaps, size = sums["gaps"].astype(np.float64), sums["size"].astype(np.float64)
    groups, classes, _ = gaps.shape
    return _sum_of_gaps(gaps.reshape(groups, -1) / classes, size, _weights(seed, n_resamples, groups), confidence)


def reliability_intervals(found: calibration.Reliability, confidence: float = 0.95) -> list[Interval | None]:
    """Return the accuracy of each bin of a reliability diagram with its Wilson interval, None where it is empty."""
    return [
        wilson(round(float(share * count)), int(count), confidence) if count else None
        for share, count in zip(found.accuracy, found.count, strict=True)
    ]


def _gaps(tally: Tally) -> np.ndarray:
    return tally.table[..., SUM_Y] - tally.table[..., SUM_P]


def _ece(
    found: calibration.Predictions,
    group: np.ndarray,
    size: np.ndarray,
    weights: np.ndarray,
    bins: int,
    binning: calibration.Binning,
    confidence: float,
) -> Interval:
    edges = calibration.reliability(found.confidence, found.correct, bins, binning).edges
    at = group * bins + np.searchsorted(edges[1:-1], found.confidence, side="left")
    gaps = np.bincount(at, weights=found.correct - found.confidence, minlength=len(size) * bins)
    estimate, low, high = _sum_of_gaps(gaps.reshape(len(size), bins), size, weights, confidence)
    # The error is at least the distance of the accuracy from the mean confidence, and so in doubt as much as that is:
    # where all samples are right, resamples know of no doubt.
    accuracy, mean = wilson(int(found.correct.sum()), len(found.correct), confidence), found.confidence.mean()
    high = max(high, *(abs(float(mean) - end) for end in (accuracy.low, accuracy.high)))
    return Interval(estimate, low, high)


def _sum_of_gaps(gaps: np.ndarray, size: np.ndarray, weights: np.ndarray, confidence: float) -> Interval:
    """Return the sum over cells of |gap| with its interval.

    Args:
        gaps: (G, C) sums over the samples of a group in a cell.
        size: (G,) samples of a group.
        weights: (R, G).
    """
    n = size.sum()
    mean = gaps.sum(axis=0) / n
    residual = gaps - size[:, None] * mean
    alpha = 1 - confidence
    deviation = np.sqrt((residual**2).sum(axis=0)) / n
    sure = np.abs(mean) > float(ndtri(1 - _SIGNS * alpha / (2 * len(mean)))) * deviation
    moved = np.abs(weights @ (residual[:, sure] * np.sign(mean[sure])).sum(axis=1)) / n
    unsure = residual[:, ~sure]
    for start, piece in _pieces(weights, unsure.shape[1]):
        moved[start : start + len(piece)] += np.abs(piece @ unsure).sum(axis=1) / n
    reach = float(np.quantile(moved, 1 - (1 - _SIGNS) * alpha))
    estimate = float(np.abs(mean).sum())
    return Interval(estimate, max(0.0, estimate - reach), estimate + reach)


def _brier_parts(tally: Tally, size: np.ndarray, weights: np.ndarray, confidence: float) -> dict[str, Interval]:
    """Return the first three parts, each a squared length: what resamples gain by chance is taken off again."""
    parts = calibration.brier_parts_of(tally)
    table, n = tally.table, tally.n
    count = table[..., COUNT].sum(axis=0)
    scale = 1 / np.sqrt(np.maximum(count, 1) * n)
    hits = table[..., SUM_Y].sum(axis=2)  # (G, K)
    share = hits.sum(axis=0) / n
    reliability = (table[..., SUM_P] - table[..., SUM_Y]) * scale
    resolution = (table[..., SUM_Y] - table[..., COUNT] * share[:, None]) * scale
    most = 1 - 1 / len(share)
    low, high = _gain(hits / n, size, weights, confidence)  # the uncertainty is 1 less the squared length of shares
    estimate = parts.uncertainty
    least = max(0.0, estimate + min(0.0, low))
    out = {"brier_uncertainty": Interval(estimate, least, max(estimate, min(most, estimate + high)))}
    for name, estimate, cells in (
        ("brier_reliability", parts.reliability, reliability),
        ("brier_resolution", parts.resolution, resolution),
    ):
        low, high = _gain(cells.reshape(len(size), -1), size, weights, confidence)
        out[name] = Interval(estimate, max(0.0, estimate - max(0.0, high)), estimate - min(0.0, low))
    return out


def _gain(cells: np.ndarray, size: np.ndarray, weights: np.ndarray, confidence: float) -> tuple[float, float]:
    """Return the quantiles of what the squared length of the sums over groups, (G, C), gains in a resample."""
    whole = cells.sum(axis=0)
    residual = cells - size[:, None] * whole / size.sum()
    gains = []
    for _, piece in _pieces(weights, cells.shape[1]):
        moved = piece @ residual
        gains.append((moved * (2 * whole + moved)).sum(axis=1))
    low, high = np.quantile(np.concatenate(gains), [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _percentile(estimate: float, drawn: np.ndarray, confidence: float) -> Interval:
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(estimate), float(low), float(high))


@functools.lru_cache(maxsize=1)  # the same for every cell of a run, and slower to draw than to use
def _weights(seed: int, n_resamples: int, groups: int) -> np.ndarray:
    """Return (R, G) float64 weights of mean 1 in each row: exponential ones, the Bayesian bootstrap's."""
    uniform = Keys.of(seed, n_resamples).fold("calibration.weights").uniform(groups).double()
    drawn = -torch.log1p(-uniform)
    weights = (drawn / drawn.mean(dim=1, keepdim=True)).numpy()
    weights.flags.writeable = False
    return weights


def _pieces(weights: np.ndarray, cells: int) -> Any:
    step = max(1, _CHUNK_VALUES // max(1, cells))
    return ((start, weights[start : start + step]) for start in range(0, len(weights), step))
