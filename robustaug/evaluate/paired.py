"""How a figure changes from one model to another on the same samples, with an interval that pairing makes short.

Samples that are easy or hard for both models widen nothing. Shares have a normal interval that counts what was never
seen; other figures come from a Bayesian bootstrap (Rubin 1981) of groups of samples that weighs both models alike, so
that a million samples cost what a hundred do.

Legend: N samples, G groups, R resamples, C shares; a and b are the two models, a change is b's figure less a's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.special import ndtr, ndtri

from robustaug.evaluate.resamples import GROUPS, Resamples
from robustaug.evaluate.statistics import placements

_OPEN = 0.1  # the share of the chance of error that is spent on the signs of gaps, or on which share is the least


class Change(NamedTuple):
    """A figure of model b less that of model a.

    Attributes:
        value, low, high: with its interval.
        p_value: of no change, two-sided, from the normal law; NaN where each model has an interval of its own.
        a, b: the two figures; NaN where only differences are known.
    """

    value: float
    low: float
    high: float
    p_value: float
    a: float = math.nan
    b: float = math.nan


SAME = Change(0.0, 0.0, 0.0, 1.0)
"""The change of a model from itself, which is beyond doubt."""


class Parts(NamedTuple):
    """What a figure with a corner is made of: the sum of the sizes of gaps, or the least of shares.

    Attributes:
        values: (1 + R, P), as measured first and then as weighed.
        open: (P,) bool, the gaps whose sign is in doubt, or the shares that may be the least.
        least: whether the figure is the least of the parts; else it is the sum of their sizes.
    """

    values: np.ndarray
    open: np.ndarray
    least: bool


class Drawn(NamedTuple):
    """A figure and what resamples, (R,), make of it; those of two models belong together one by one.

    Attributes:
        parts: of a figure with a corner, which chance moves to one side.
    """

    estimate: float
    draws: np.ndarray
    parts: Parts | None = None


class Weighed:
    """Figures of a model as its samples count, and as each resample weighs them: alike wherever the samples are.

    Args:
        confidence: of the intervals to come: enough resamples are drawn for it.
        seed: of the groups and weights.
    """

    def __init__(self, confidence: float, seed: int = 0) -> None:
        self._confidence, self._resamples = confidence, Resamples(confidence, seed)

    def sums(self, index: np.ndarray, at: np.ndarray, values: np.ndarray, cells: int) -> np.ndarray:
        """Return (1 + R, C) sums of values in each cell, as measured first and then as weighed.

        Args:
            index: (N,) int64, which samples these are.
            at: (N,) int64, the cell of each, in [0, C).
            values: (N,) float64.
            cells: C.
        """
        group = self._resamples.groups(index)
        table = np.bincount(group * cells + at, values, GROUPS * cells).reshape(GROUPS, cells)
        return np.concatenate([table.sum(axis=0, keepdims=True), self._resamples.weights @ table])

    def mean(self, index: np.ndarray, values: np.ndarray) -> Drawn:
        """Return the mean of values (N,)."""
        one = np.zeros(len(index), dtype=np.int64)
        return _drawn(self.sums(index, one, values, 1)[:, 0] / self.sums(index, one, np.ones(len(index)), 1)[:, 0])

    def least_share(self, index: np.ndarray, at: np.ndarray, hits: np.ndarray, cells: int) -> Drawn:
        """Return the least over cells of the mean of hits (N,) in it; arguments as in `sums`, no cell is empty."""
        sizes = self.sums(index, at, np.ones(len(at)), cells)
        # a resample of no weight at all in a cell says nothing of it
        shares = self.sums(index, at, hits, cells) / np.maximum(sizes, 1e-300)
        # where all or none are right, resamples know of no doubt
        reach = self._sure(cells) * np.maximum((shares[1:] - shares[0]).std(axis=0), 1 / (sizes[0] + 2))
        may_be_least = shares[0] - reach <= (shares[0] + reach).min()
        return _drawn(shares.min(axis=1))._replace(parts=Parts(shares, may_be_least, True))

    def ece(self, index: np.ndarray, confidence: np.ndarray, correct: np.ndarray, bins: int = 15) -> Drawn:
        """Return the calibration error over bins of equal width, as `calibration.ece_from_confidence`."""
        at = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], confidence, side="left")
        gaps = self.sums(index, at, correct - confidence, bins)
        gaps = gaps / self.sums(index, np.zeros_like(at), np.ones(len(at)), 1)
        unsure = np.abs(gaps[0]) <= self._sure(bins) * (gaps[1:] - gaps[0]).std(axis=0)
        return _drawn(np.abs(gaps).sum(axis=1))._replace(parts=Parts(gaps, unsure, False))

    def _sure(self, parts: int) -> float:
        return _z(1 - _OPEN * (1 - self._confidence) / (2 * parts))  # of both models


def between(a: Drawn, b: Drawn, confidence: float, floor: float = 0.0) -> Change:
    """Return the change from a to b: the true one is no further from the measured one than a resample's mostly is.

    Calibration errors and least shares lean to one side by chance, which resamples do not show in full. Of their parts
    whose sign or place is in doubt it only counts how far each may have moved, see `_moves`; so the interval holds
    where the two models lean unequally, too.

    Args:
        confidence: in (0, 1).
        floor: the least reach, for figures of which resamples may know no doubt.
    """
    value = b.estimate - a.estimate
    if a.parts is not None and b.parts is not None:
        moved, slack = _moves(a.parts, b.parts)
        level = 1 - (1 - _OPEN) * (1 - confidence)
        reach = max(float(np.quantile(np.abs(moved) + slack, level)), floor)
        return _change(value, reach, reach / _z(confidence))._replace(a=a.estimate, b=b.estimate)
    moved = b.draws - a.draws - value
    reach = max(float(np.quantile(np.abs(moved), confidence)), floor)
    change = _change(value, reach, max(float(moved.std()), floor / _z(confidence)))
    return change._replace(a=a.estimate, b=b.estimate)


def weighted(drawn: Sequence[Drawn], weights: np.ndarray) -> Drawn:
    """Return the weighted mean of figures of one kind, none of them a least share."""
    out = Drawn(
        float(weights @ [one.estimate for one in drawn]),
        sum(w * one.draws for w, one in zip(weights, drawn, strict=True)),  # type: ignore[arg-type]
    )
    parts = [one.parts for one in drawn if one.parts is not None]
    if len(parts) < len(drawn):
        return out
    values = np.hstack([w * one.values for w, one in zip(weights, parts, strict=True)])
    return out._replace(parts=Parts(values, np.concatenate([one.open for one in parts]), False))


def _moves(a: Parts, b: Parts) -> tuple[np.ndarray, np.ndarray]:
    """Return how far the change of a figure moves in each resample, (R,), and how much further it may have, (R,) >= 0.

    Of a part in doubt, sizes or least shares move no further than the part: those of both models together; nor
    further than the difference of the two, twice what it is and once what it moved, which is little where the models
    are nearly the same.
    """
    before, after = (one.values[1:] - one.values[0] for one in (a, b))
    apart, together = 2 * np.abs(b.values[0] - a.values[0]), np.abs(after - before)
    unsure = a.open | b.open
    if not a.least:
        moved = after[:, ~unsure] @ np.sign(b.values[0, ~unsure]) - before[:, ~unsure] @ np.sign(a.values[0, ~unsure])
        return moved, np.minimum(np.abs(before) + np.abs(after), apart + together)[:, unsure].sum(axis=1)
    if a.open.sum() == b.open.sum() == 1:
        moved = after[:, b.open] - before[:, a.open]
        return moved[:, 0], np.zeros(len(moved))
    each = np.abs(before[:, a.open]).max(axis=1) + np.abs(after[:, b.open]).max(axis=1)
    slack = np.minimum(each, apart[unsure].max() + together[:, unsure].max(axis=1))
    return np.zeros(len(slack)), slack


def share_change(differences: Any, confidence: float) -> Change:
    """Return the mean difference of outcomes in [0, 1] with its interval.

    Half a sample is added to each of the four ways in which two models may be right and wrong, so that what was never
    seen is not held impossible; the normal interval then holds its level (Agresti and Min 2005, section 3). It is
    centred on the measured difference.

    Args:
        differences: (N,) of b less a, in [-1, 1]; over several conditions their mean by sample.
        confidence: in (0, 1).

    >>> change = share_change([0, 0, 0, 0, 1, -1, 1, 0], 0.95)
    >>> round(change.value, 3), round(change.low, 3), round(change.high, 3)
    (0.125, -0.262, 0.512)
    """
    d = np.asarray(differences, dtype=np.float64)
    n = len(d) + 2
    variance = (float((d**2).sum()) + 1) / n - (float(d.sum()) / n) ** 2
    deviation = math.sqrt(variance / n)
    return within_one(_change(float(d.mean()), _z(confidence) * deviation, deviation))


def within_one(change: Change) -> Change:
    """Return the change of a share with its ends cut at -1 and 1."""
    return change._replace(low=max(-1.0, change.low), high=min(1.0, change.high))


def least_reach(n: int, confidence: float) -> float:
    """Return how much a share of n samples is in doubt where the two models were never seen to differ."""
    return _z(confidence) / (n + 2)


def auroc_change(
    known: tuple[np.ndarray, np.ndarray], foreign: tuple[np.ndarray, np.ndarray], confidence: float
) -> Change:
    """Return the change of AUROC on the same known and foreign samples (DeLong et al. 1988, for correlated curves).

    Args:
        known, foreign: scores (N,) and (M,) of a and of b, at least two each, finite.
    """
    above, below = zip(*(placements(k, f) for k, f in zip(known, foreign, strict=True)), strict=True)
    up, down = above[1] - above[0], below[1] - below[0]
    floor = 1 / (min(len(up), len(down)) + 2)
    deviation = max(math.sqrt(up.var(ddof=1) / len(up) + down.var(ddof=1) / len(down)), floor)
    change = _change(float(up.mean()), _z(confidence) * deviation, deviation)
    return change._replace(a=float(above[0].mean()), b=float(above[1].mean()))


def apart(a: tuple[float, float, float], b: tuple[float, float, float]) -> Change:
    """Return the change between two figures from intervals of their own, (estimate, low, high) each.

    Where each holds with 1 - alpha / 2, theirs holds with 1 - alpha, however they depend on each other.
    """
    value, low, high = b[0] - a[0], b[1] - a[2], b[2] - a[1]
    return Change(value, low, high, math.nan)


def mean_of(changes: list[Change]) -> Change:
    """Return the mean of several changes: its ends are at most as far away as the means of theirs."""
    if len(changes) == 1:
        return changes[0]
    value, low, high = (float(np.mean(ends)) for ends in list(zip(*changes, strict=True))[:3])
    return Change(value, low, high, math.nan)


def _drawn(values: np.ndarray) -> Drawn:
    return Drawn(float(values[0]), values[1:])


def _change(value: float, reach: float, deviation: float) -> Change:
    p = 1.0 if value == 0 else float(2 * ndtr(-abs(value) / deviation)) if deviation else 0.0
    return Change(value, value - reach, value + reach, p)


def _z(confidence: float) -> float:
    return float(ndtri(0.5 + confidence / 2))
