"""Fit a scaling of logits to held-out data: one temperature, two numbers a class, or a rising curve a class.

Legend: N samples, K classes, C columns (1 for two classes, else K).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.special import expit, log_softmax, softmax

from robustaug.models.scaling import (
    KINDS,
    IsotonicScaling,
    PlattScaling,
    Scaling,
    TemperatureScaling,
    VectorScaling,
    log_odds,
)
from robustaug.registry import did_you_mean
from robustaug.trust.calibration.tally import finite_logits
from robustaug.trust.calibration.temperature import fit_temperature

_WEIGHTS, _BIASES = (0.0, 100.0), (-100.0, 100.0)


def fit_scaling(kind: str, logits: Any, labels: Any) -> Scaling:
    """Fit one kind of scaling to held-out logits.

    "temperature" never changes a prediction and needs few samples. "vector", "platt" and "isotonic" fit every class by
    itself, need samples of each, and may change predictions; isotonic wants about a thousand samples a class.

    >>> scaling = fit_scaling("temperature", [[4.0, 0.0], [0.0, 4.0], [4.0, 0.0]], [0, 1, 1])
    >>> scaling.probabilities(torch.tensor([[4.0, 0.0]])).round(decimals=2)
    tensor([[0.6700, 0.3300]])

    Args:
        kind: "temperature", "vector", "platt" or "isotonic".
        logits: (N, K) finite, numpy or torch, K >= 2; from held-out data, not from training.
        labels: (N,) integers in [0, K).

    Raises:
        TypeError: labels are not integers.
        ValueError: an unknown kind, wrong shape, no samples, a label out of range, logits that are not finite, or a
            class without samples where each is fitted by itself.
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}{did_you_mean(str(kind), KINDS)}")
    if kind == "temperature":
        return TemperatureScaling(fit_temperature(logits, labels))
    logits, labels = finite_logits(logits, labels, f"{kind} scaling")
    missing = np.flatnonzero(np.bincount(labels, minlength=logits.shape[1]) == 0)
    if len(missing):
        raise ValueError(
            f"{kind} scaling fits every class by itself, and {len(missing)} of {logits.shape[1]} have no sample, such "
            f"as class {missing[0]}; give more held-out data, or fit a temperature"
        )
    fits: dict[str, Callable[[np.ndarray, np.ndarray], Scaling]] = {
        "vector": _vector,
        "platt": _platt,
        "isotonic": _isotonic,
    }
    return fits[kind](logits, labels)


def _vector(logits: np.ndarray, labels: np.ndarray) -> VectorScaling:
    """Minimise the likelihood loss of weight * logits + bias, convex in both."""
    n, classes = logits.shape
    truth = np.eye(classes)[labels]

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        scaled = logits * parameters[:classes] + parameters[classes:]
        error = softmax(scaled, axis=1) - truth
        value = -log_softmax(scaled, axis=1)[np.arange(n), labels].mean()
        return float(value), np.concatenate([(error * logits).sum(axis=0), error.sum(axis=0)]) / n

    bounds = [_WEIGHTS] * classes + [_BIASES] * classes
    found = _minimum(loss, np.concatenate([np.ones(classes), np.zeros(classes)]), bounds)
    if ((logits * found[:classes] + found[classes:]).argmax(axis=1) == labels).all():
        warnings.warn(
            f"vector scaling has no best value: all {n} samples are classified correctly, so ever more confidence "
            "lowers the loss; give more held-out data",
            UserWarning,
            stacklevel=3,
        )
    return VectorScaling(found[:classes], found[classes:] - found[classes:].mean())


def _platt(logits: np.ndarray, labels: np.ndarray) -> PlattScaling:
    """Fit each column's sigmoid to targets a little inside of 0 and 1, as Platt 1999, section 2.2, has them."""
    odds = log_odds(torch.from_numpy(logits)).numpy()
    found = [_sigmoid(odds[:, at], positive) for at, positive in enumerate(_positives(labels, logits.shape[1]))]
    return PlattScaling(*np.array(found).T)


def _sigmoid(odds: np.ndarray, positive: np.ndarray) -> np.ndarray:
    yes, no = positive.sum(), (~positive).sum()
    target = np.where(positive, (yes + 1) / (yes + 2), 1 / (no + 2))

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        z = parameters[0] * odds + parameters[1]
        error = (expit(z) - target) / len(odds)
        return float((np.logaddexp(0, z) - target * z).mean()), np.array([error @ odds, error.sum()])

    return _minimum(loss, np.array([1.0, 0.0]), [_BIASES, _BIASES])


def _isotonic(logits: np.ndarray, labels: np.ndarray) -> IsotonicScaling:
    from sklearn.isotonic import IsotonicRegression

    p = softmax(logits, axis=1)[:, 1:] if logits.shape[1] == 2 else softmax(logits, axis=1)
    curves = []
    for at, positive in enumerate(_positives(labels, logits.shape[1])):
        fitted = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(p[:, at], positive)
        curves.append((fitted.X_thresholds_, fitted.y_thresholds_))
    x, y = (np.concatenate([curve[axis] for curve in curves]) for axis in (0, 1))
    return IsotonicScaling(x.clip(0, 1), y, [len(curve[0]) for curve in curves])


def _positives(labels: np.ndarray, classes: int) -> list[np.ndarray]:
    return [labels == k for k in ([1] if classes == 2 else range(classes))]


def _minimum(loss: Any, start: np.ndarray, bounds: list[tuple[float, float]]) -> np.ndarray:
    """Return where a smooth convex loss is least within bounds, which only numbers without a best value reach."""
    options = {"maxiter": 5000, "ftol": 1e-15, "gtol": 1e-9}
    found: Any = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    return found.x
