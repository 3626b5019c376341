"""Figures from per-sample outcomes: pure functions on arrays.

Legend: N samples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from robustaug.evaluate.statistics import wilson

NAMED_COHORT = 20
"""Samples that a cohort needs to be named worst: the accuracy of a smaller one is mostly chance."""


class Cohort(NamedTuple):
    """Accuracy in one cohort.

    Attributes:
        cohort: its value, as text.
        n: samples.
        accuracy, low, high: the share correct and its Wilson interval.
        worst: whether it is the least accurate among cohorts large enough to name.
    """

    cohort: str
    n: int
    accuracy: float
    low: float
    high: float
    worst: bool


def accuracy(prediction: Any, label: Any) -> float:
    """Return the share of predictions (N,) that equal their labels (N,).

    Raises:
        ValueError: empty, unequal lengths, or another rank.
    """
    prediction, label = _array("prediction", prediction), _array("label", label)
    if len(prediction) != len(label):
        raise ValueError(f"prediction and label must have the same length, got {len(prediction)} and {len(label)}")
    return float((prediction == label).mean())


def cohort_accuracy(correct: Any, values: Any, min_size: int = NAMED_COHORT, confidence: float = 0.95) -> list[Cohort]:
    """Return accuracy in each cohort with its Wilson interval, sorted by name.

    A cohort smaller than `min_size` is listed but never named worst: its accuracy is mostly chance. Of equally
    accurate ones the first by name is worst. None is, where all are small.

    Args:
        correct: (N,) bool, or 0 and 1.
        values: (N,) the cohort of each sample; turned to text.
        min_size: samples that a cohort needs to be named worst, >= 1.
        confidence: of the intervals, in (0, 1).

    Raises:
        ValueError: empty, unequal lengths, or a value out of range.
    """
    correct, values = _array("correct", correct), _array("values", values)
    if len(correct) != len(values):
        raise ValueError(f"correct and values must have the same length, got {len(correct)} and {len(values)}")
    if not np.isin(correct, (0, 1)).all():
        raise ValueError("correct must hold only true and false, or 1 and 0")
    if min_size < 1:
        raise ValueError(f"min_size must be >= 1, got {min_size}")
    names, at = np.unique(np.array([str(value) for value in values]), return_inverse=True)
    sizes = np.bincount(at)
    hits = np.bincount(at, weights=correct.astype(float))
    found = [
        Cohort(str(name), int(n), *wilson(int(k), int(n), confidence), worst=False)
        for name, n, k in zip(names, sizes, hits, strict=True)
    ]
    large = [cohort for cohort in found if cohort.n >= min_size]
    worst = min(large, key=lambda cohort: (cohort.accuracy, cohort.cohort), default=None)
    return [cohort._replace(worst=cohort is worst) for cohort in found]


def worst_cohort(cohorts: Sequence[Cohort]) -> Cohort | None:
    """Return the cohort marked worst by `cohort_accuracy`, None where all are too small to name."""
    return next((cohort for cohort in cohorts if cohort.worst), None)


def mean_corruption_error(accuracy_by_scenario: Mapping[str, Mapping[Any, float]]) -> float:
    """Return the plain mean corruption error: over scenarios, the mean over severities of 1 - accuracy.

    Each scenario weighs the same however many severities it has. This is not the mCE of Hendrycks and Dietterich
    2019 (arXiv 1903.12261), which divides each scenario by AlexNet's error on ImageNet and so means nothing on other
    data; the two numbers must not be compared.

    Args:
        accuracy_by_scenario: scenario -> severity -> accuracy in [0, 1]; NaN gives NaN.

    Raises:
        ValueError: no scenario, a scenario without severities, or an accuracy out of range.

    >>> mean_corruption_error({"fog": {1: 0.75, 5: 0.25}, "snow": {3: 1.0}})
    0.25
    """
    if not accuracy_by_scenario:
        raise ValueError("mean corruption error needs at least one scenario")
    for scenario, graded in accuracy_by_scenario.items():
        if not graded:
            raise ValueError(f"scenario {scenario!r} has no severities")
        _in_unit(graded, f"scenario {scenario!r}: ")
    return math.fsum(1 - math.fsum(g.values()) / len(g) for g in accuracy_by_scenario.values()) / len(
        accuracy_by_scenario
    )


def area_under_severity(accuracy_by_severity: Mapping[Any, float]) -> float:
    """Return the area under accuracy against severity by trapezoids, divided by the range of severity: in [0, 1].

    A mean over severities that counts the ends half. Give clean accuracy as severity 0 to include it.

    Args:
        accuracy_by_severity: at least two severities -> accuracy in [0, 1], in any order; NaN gives NaN.

    Raises:
        ValueError: fewer than two severities, or a value out of range.

    >>> area_under_severity({0: 1.0, 1: 0.5, 2: 0.0})
    0.5
    """
    if len(accuracy_by_severity) < 2:
        raise ValueError(f"needs at least two severities for an area, got {len(accuracy_by_severity)}")
    _in_unit(accuracy_by_severity, "")
    severity = np.array(sorted(accuracy_by_severity), dtype=np.float64)
    if not np.isfinite(severity).all():
        raise ValueError(f"severities must be finite, got {[*accuracy_by_severity]}")
    heights = np.array([accuracy_by_severity[s] for s in sorted(accuracy_by_severity)])
    return float(np.trapezoid(heights, severity) / (severity[-1] - severity[0]))


def robust_accuracy(broken_at: Any, eps: float) -> float:
    """Return the share of samples that no perturbation of norm up to `eps` was found to break.

    An upper bound on the true share: an attack may miss a perturbation.

    Args:
        broken_at: (N,) smallest norm at which each sample was wrong: 0 where it is wrong when clean, inf where no
            attack broke it.
        eps: >= 0, in the units of the norms.

    Raises:
        ValueError: empty, NaN or negative norms, or eps out of range.

    >>> robust_accuracy([0.0, 0.1, 0.3, float("inf")], eps=0.1)
    0.5
    """
    norms = _array("broken_at", broken_at).astype(np.float64)
    if wrong := np.count_nonzero(~(norms >= 0)):  # written so that NaN fails too
        raise ValueError(f"broken_at must be >= 0, {wrong} of {len(norms)} values are not")
    if not 0 <= eps < math.inf:
        raise ValueError(f"eps must be >= 0 and finite, got {eps!r}")
    return float((norms > eps).mean())


def _array(name: str, values: Any) -> np.ndarray:
    array = values.detach().cpu().numpy() if hasattr(values, "detach") else np.asarray(values)
    if array.ndim != 1 or not len(array):
        raise ValueError(f"{name} must have shape (N,) with N >= 1, got {array.shape}")
    return array


def _in_unit(accuracies: Mapping[Any, float], where: str) -> None:
    for severity, value in accuracies.items():
        if value < 0 or value > 1:  # NaN passes: it stays visible in the result
            raise ValueError(f"{where}accuracy at severity {severity:g} must be in [0, 1], got {value:g}")
