"""What answering only the surest samples costs and gains: the curve of a run, and its area with an interval.

Legend: N samples, R_k the risk: the share of wrong among the k surest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.special import ndtri

from robustaug.evaluate.records import Cell, Records
from robustaug.evaluate.statistics import Interval, wilson
from robustaug.trust import ood

GRID = 50
"""Shares answered at which a curve is had, from 1 / GRID to 1."""


class Curve(NamedTuple):
    """Risk by share answered, both (GRID,) float64."""

    coverage: np.ndarray
    risk: np.ndarray


def risk_curve(records: Records, cells: Sequence[Cell]) -> Curve | None:
    """Return the mean over cells of the risk at each share answered by confidence; None where confidence is NaN.

    Below the share that the highest confidence is given to, its samples are answered in random order: the risk is
    theirs.
    """
    coverage = np.arange(1, GRID + 1) / GRID
    risks = []
    for cell in cells:
        samples = records.samples(cell, ["confidence", "correct"])
        if not np.isfinite(samples["confidence"]).all():
            return None
        found = ood.risk_coverage(samples["confidence"], samples["correct"])
        risks.append(np.interp(coverage, found.coverage, found.risk))
    return Curve(coverage, np.mean(risks, axis=0)) if risks else None


def aurc_interval(score: Any, correct: Any, confidence: float = 0.95) -> Interval:
    """Return the area under the risk-coverage curve, as `ood.aurc`, with an interval from its influence function.

    The area is a smooth function of the distribution of (score, wrong), so that it moves by the mean over samples of
    IF_i = R_i - AURC + sum over k >= i of (w_i - R_k) / k, i counted from the surest; hence its standard error and an
    interval from the normal law. It is in doubt at least as the error rate is, to which it is proportional for a given
    order; where no sample is wrong, as a score's that orders nothing. Of few errors the area is nearly a sum of rare
    and unequal parts, sum over k >= i of 1 / k over N for each, whose variance grows with it: the upper end is the
    area at which the one measured would be as far below, as in Wilson's interval; one more error, as likely anywhere
    in the order, is counted for how unequal the parts are.

    Args:
        score: (N,) finite, higher where the prediction is to be trusted more.
        correct: (N,) bool, or 0 and 1.
        confidence: in (0, 1).

    Raises:
        ValueError: as `ood.aurc`; or a score that is not finite.
    """
    score = np.asarray(score, dtype=np.float64)
    estimate = ood.aurc(score, correct)
    if not np.isfinite(score).all():
        raise ValueError("score must be finite for an interval")
    wrong, n = 1 - np.asarray(correct, dtype=np.float64), len(score)
    _, group, size = np.unique(-score, return_inverse=True, return_counts=True)
    rank = np.arange(1, n + 1)
    risk = np.repeat(np.bincount(group, wrong) / size, size).cumsum() / rank
    # from the last rank backwards: sums over all k >= i; samples of equal score share the mean over their ranks
    shares = (np.cumsum(column[::-1])[::-1] for column in (1 / rank, risk / rank))
    places = np.repeat(np.arange(len(size)), size)
    at_risk, later, later_risk = ((np.bincount(places, c) / size)[group] for c in (risk, *shares))
    influence = at_risk - estimate + wrong * later - later_risk
    z = float(ndtri(0.5 + confidence / 2))
    reach = z * math.sqrt(float((influence**2).mean()) / n)
    share, _, most = wilson(int(wrong.sum()), n, confidence)
    # the parts of an error anywhere in the order have mean 1 and mean square 2
    part = (float((wrong * later**2).sum()) + 2) / (float((wrong * later).sum()) + 1)
    shift = z * z * part / (2 * n)
    rare = estimate + shift + math.sqrt(z * z * part * estimate / n + shift * shift)
    high = max(estimate + reach, rare, estimate * most / share) if share else most
    return Interval(estimate, max(0.0, estimate - reach), min(1.0, high))
