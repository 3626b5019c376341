"""Answer only where confident enough: the threshold at which the share of wrong answers stays below a stated rate.

Legend: N samples.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import beta

LOOKS = 32
"""Thresholds that are tried."""


class Selection(NamedTuple):
    """A threshold for confidence; samples strictly above it are answered, the others are for a human.

    Attributes:
        threshold: of the confidence, or any score that is higher for surer samples; -inf where all may be answered.
        answered: share of the held-out samples above it.
        risk: share of these that was wrong.
        bound: the error rate among answered samples is at most this, but with probability `delta`.
        rate, delta: what was asked for.
        n: held-out samples.
    """

    threshold: float
    answered: float
    risk: float
    bound: float
    rate: float
    delta: float
    n: int

    def accepts(self, confidence: Any) -> np.ndarray:
        """Return which samples to answer, (N,) bool; never one whose confidence is NaN."""
        return np.asarray(confidence, dtype=np.float64) > self.threshold


def select_for_risk(confidence: Any, correct: Any, rate: float, delta: float = 0.05) -> Selection:
    """Return the lowest threshold found at which the error rate of answered samples stays below `rate`.

    Thresholds are tried at `LOOKS` evenly spread ranks of the held-out confidences, chosen before any answer is looked
    at. Given a threshold at such a rank, the samples strictly above it are independent draws of those that will be
    answered, so the exact upper bound of Clopper and Pearson 1934 holds for them; at level delta / `LOOKS` it holds at
    all thresholds at once, and the lowest one within the rate is taken. The promise is for samples drawn as the
    held-out ones were, not under shift.
    Source: Geifman and El-Yaniv 2017, arXiv 1705.08500, for the bound; they search by halves, where what is looked at
    next depends on the answers before. Correcting for a fixed list instead: Angelopoulos et al. 2021, arXiv 2110.01052,
    section 3.

    Args:
        confidence: (N,) finite, numpy or torch; of held-out samples.
        correct: (N,) bool, or 0 and 1.
        rate: the error rate to stay below, in (0, 1).
        delta: the chance that the promise fails, in (0, 1).

    Raises:
        ValueError: an option out of range, unequal lengths, values that are not finite, or no threshold holds the rate.

    >>> found = select_for_risk(np.arange(1000) / 1000, np.arange(1000) >= 400, rate=0.1)
    >>> found.answered, found.bound <= 0.1
    (0.625, True)
    """
    confidence = np.asarray(confidence, dtype=np.float64)
    correct = np.asarray(correct, dtype=np.float64)
    for name, value in (("rate", rate), ("delta", delta)):
        if not 0 < value < 1:
            raise ValueError(f"{name} must be in (0, 1), got {value!r}; write 0.05 for 5 %")
    if confidence.ndim != 1 or confidence.shape != correct.shape or not len(confidence):
        raise ValueError(f"confidence and correct must have one shape (N,), got {confidence.shape} and {correct.shape}")
    if not np.isfinite(confidence).all() or not np.isin(correct, (0, 1)).all():
        raise ValueError("confidence must be finite, and correct hold only true and false, or 1 and 0")
    n = len(confidence)
    order = np.argsort(-confidence, kind="stable")
    falling = np.append(confidence[order], -np.inf)  # below the last one, where all are answered
    wrong = np.concatenate([[0.0], np.cumsum(1 - correct[order])])
    thresholds = falling[n * np.arange(1, LOOKS + 1) // LOOKS]
    kept = np.searchsorted(-falling, -thresholds, side="left")  # strictly above
    errors = wrong[kept]
    bounds = np.where(errors < kept, beta.ppf(1 - delta / LOOKS, errors + 1, np.maximum(kept - errors, 1)), 1.0)
    within = np.flatnonzero(bounds <= rate)
    if not len(within):
        least = math.ceil(math.log(delta / LOOKS) / math.log1p(-rate))
        raise ValueError(
            f"no threshold holds an error rate of {rate:g} with delta = {delta:g} on {n} held-out samples: at least "
            f"{least} must be answered without an error; allow a higher rate, or give more samples"
        )
    at = within[-1]
    share, risk = float(kept[at] / n), float(errors[at] / kept[at])
    return Selection(float(thresholds[at]), share, risk, float(bounds[at]), rate, delta, n)
