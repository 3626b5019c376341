"""How well a score tells known data from foreign data, and right from wrong predictions.

Known (in-distribution) samples are the positives unless said otherwise. Only the order of scores counts: equal scores
are treated alike, so that the order of samples never matters. A score that is NaN gives a NaN figure.

Legend: N known samples, M foreign samples.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

FIGURES = ("auroc", "fpr95", "aupr", "aupr_foreign", "aurc")
"""The names of what `detection` returns."""


class RiskCoverage(NamedTuple):
    """What answering only where the score is high enough costs, for each threshold.

    Attributes:
        threshold: (T,) float64, the distinct scores, descending; at each, samples with at least that score are
            answered.
        coverage: (T,) float64, the share answered, up to 1.
        risk: (T,) float64, the share of wrong among the answered.
    """

    threshold: np.ndarray
    coverage: np.ndarray
    risk: np.ndarray


def auroc(known: Any, foreign: Any) -> float:
    """Return the chance that a known sample scores above a foreign one, ties counted half; 0.5 is guessing.

    Args:
        known: (N,) scores of in-distribution samples.
        foreign: (M,) scores of out-of-distribution samples.

    Raises:
        ValueError: either is empty or has another rank.
    """
    from sklearn.metrics import roc_auc_score

    return _figure(known, foreign, roc_auc_score)


def aupr(known: Any, foreign: Any) -> float:
    """Return the average precision with known samples as positives; arguments and errors as in `auroc`.

    It depends on the share of known samples. For foreign samples as positives: `aupr(-foreign, -known)`.
    """
    from sklearn.metrics import average_precision_score

    return _figure(known, foreign, average_precision_score)


def fpr_at_tpr(known: Any, foreign: Any, tpr: float = 0.95) -> float:
    """Return the share of foreign samples accepted when at least `tpr` of the known ones are (FPR95 by default).

    The threshold is the highest known score that accepts enough; a score equal to it is accepted.

    Raises:
        ValueError: tpr outside (0, 1]; otherwise as in `auroc`.
    """
    if not 0 < tpr <= 1:
        raise ValueError(f"tpr must be in (0, 1], got {tpr!r}; write 0.95 for 95 %")
    known, foreign = _scores("known", known), _scores("foreign", foreign)
    if np.isnan(known).any() or np.isnan(foreign).any():
        return math.nan
    accepted = max(1, math.ceil(tpr * len(known) - 1e-9))  # 0.07 * 100 is a little over 7 in floating point
    threshold = np.sort(known)[-accepted]
    return float((foreign >= threshold).mean())


def risk_coverage(score: Any, correct: Any) -> RiskCoverage:
    """Return the share of wrong answers among the answered, for each share answered.

    El-Yaniv and Wiener, "On the foundations of noise-free selective classification", JMLR 2010. Where a score is NaN
    there is no order, and every value is NaN.

    Args:
        score: (N,) higher where the prediction is to be trusted more.
        correct: (N,) bool, or 0 and 1.

    Raises:
        ValueError: empty, unequal lengths, another rank, or correct holds other values.

    >>> curve = risk_coverage([0.9, 0.8, 0.8, 0.1], [1, 1, 0, 0])
    >>> curve.coverage.tolist(), curve.risk.round(3).tolist()
    ([0.25, 0.75, 1.0], [0.0, 0.333, 0.5])
    """
    score, wrong = _judgements(score, correct)
    if np.isnan(score).any():
        return RiskCoverage(*(np.full(1, math.nan) for _ in range(3)))
    threshold, answered, failed = _groups(score, wrong)
    return RiskCoverage(threshold, answered.cumsum() / len(score), failed.cumsum() / answered.cumsum())


def aurc(score: Any, correct: Any) -> float:
    """Return the mean risk over answering the 1, 2, ... N samples of highest score; arguments as in `risk_coverage`.

    Samples of equal score are answered in random order, and the mean over all such orders is returned. 0 is best; the
    overall share of wrong answers is what a score without information gets.
    Source: Geifman, Uziel and El-Yaniv 2019, arXiv 1805.08206.

    >>> round(aurc([0.9, 0.8, 0.7, 0.1], [1, 0, 1, 0]), 6)  # (0 + 1/2 + 1/3 + 2/4) / 4
    0.333333
    """
    score, wrong = _judgements(score, correct)
    if np.isnan(score).any():
        return math.nan
    _, answered, failed = _groups(score, wrong)
    # within a group each further answer is wrong at the group's own rate
    failures = np.repeat(failed / answered, answered).cumsum()
    return float((failures / np.arange(1, len(score) + 1)).mean())


def detection(known: Any, foreign: Any, correct: Any) -> dict[str, float]:
    """Return every figure of a score: auroc, fpr95, aupr, aupr_foreign (foreign as positives) and aurc.

    Args:
        known, foreign: (N,) and (M,) scores.
        correct: (N,) whether the known samples are predicted right. For aurc a foreign sample counts as wrong, since
            no answer to it can be right.
    """
    known, foreign = _scores("known", known), _scores("foreign", foreign)
    right = np.concatenate([np.asarray(correct, dtype=bool), np.zeros(len(foreign), dtype=bool)])
    return {
        "auroc": auroc(known, foreign),
        "fpr95": fpr_at_tpr(known, foreign),
        "aupr": aupr(known, foreign),
        "aupr_foreign": aupr(-foreign, -known),
        "aurc": aurc(np.concatenate([known, foreign]), right),
    }


def _figure(known: Any, foreign: Any, metric: Any) -> float:
    known, foreign = _scores("known", known), _scores("foreign", foreign)
    scores = np.concatenate([known, foreign])
    if np.isnan(scores).any():
        return math.nan
    ranks = np.unique(scores, return_inverse=True)[1]  # only the order counts, and infinite scores are in order too
    return float(metric(np.repeat([1, 0], [len(known), len(foreign)]), ranks))


def _groups(score: np.ndarray, wrong: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the distinct scores, descending, how many samples have each, and how many of those are wrong."""
    values, at, counts = np.unique(-score, return_inverse=True, return_counts=True)
    return -values, counts, np.bincount(at, weights=wrong)


def _judgements(score: Any, correct: Any) -> tuple[np.ndarray, np.ndarray]:
    score, correct = _scores("all", score), _scores("correct", correct)
    if len(score) != len(correct):
        raise ValueError(f"score and correct must have the same length, got {len(score)} and {len(correct)}")
    if not np.isin(correct, (0, 1)).all():
        raise ValueError("correct must hold only true and false, or 1 and 0")
    return score, 1 - correct


def _scores(name: str, values: Any) -> np.ndarray:
    array = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    if array.ndim != 1 or not len(array):
        raise ValueError(f"{name} scores must have shape (N,) with N >= 1, got {array.shape}")
    return array.astype(np.float64)
