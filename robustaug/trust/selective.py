"""Answer only where confident enough: the threshold at which the share of wrong answers stays below a stated rate.

Legend: N samples.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import beta


class Selection(NamedTuple):
    """A threshold for confidence; samples strictly above it are answered, the others are for a human.

    Attributes:
        threshold: of the confidence, or any score that is higher for surer samples.
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

    A search by halves over the held-out confidences; at each threshold looked at, the exact upper bound of Clopper
    and Pearson 1934 is taken at level delta / ceil(log2 N), as so many are looked at. Samples strictly above a
    threshold are counted: these are independent of it given how many they are. The promise holds for samples drawn
    as the held-out ones were, not under shift.
    Source: Geifman and El-Yaniv 2017, arXiv 1705.08500, algorithm 2.

    Args:
        confidence: (N,) finite, numpy or torch; of held-out samples.
        correct: (N,) bool, or 0 and 1.
        rate: the error rate to stay below, in (0, 1).
        delta: the chance that the promise fails, in (0, 1).

    Raises:
        ValueError: an option out of range, unequal lengths, values that are not finite, or no threshold holds the rate.

    >>> found = select_for_risk(np.arange(1000) / 1000, np.arange(1000) >= 400, rate=0.1)
    >>> bool(found.bound <= 0.1 < found.answered)
    True
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
    ranked, wrong = confidence[order], np.concatenate([[0.0], np.cumsum(1 - correct[order])])
    looks = max(1, math.ceil(math.log2(n)))
    low, high = 0, n - 1  # ranks of thresholds: `low` answers few, `high` nearly all
    best: Selection | None = None
    for _ in range(looks):
        middle = (low + high + 1) // 2
        threshold = ranked[middle]
        kept = int(np.searchsorted(-ranked, -threshold, side="left"))  # strictly above it
        errors = int(wrong[kept])
        bound = float(beta.ppf(1 - delta / looks, errors + 1, kept - errors)) if errors < kept else 1.0
        if bound <= rate:
            if best is None or kept / n > best.answered:
                best = Selection(float(threshold), kept / n, errors / kept, bound, rate, delta, n)
            low = middle
        else:
            high = max(low, middle - 1)
    if best is None:
        least = math.ceil(math.log(delta / looks) / math.log1p(-rate))
        raise ValueError(
            f"no threshold was found that holds an error rate of {rate:g} with delta = {delta:g} on {n} held-out "
            f"samples: at least {least} must be answered without an error; allow a higher rate, or give more samples"
        )
    return best
