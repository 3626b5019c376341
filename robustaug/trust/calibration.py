"""Calibration: does a model that says 80 % come true in 80 % of cases?

Everything is computed in float64. Logits that hold NaN or +inf give a NaN figure, never a plausible one;
-inf is a class that cannot happen, unless the whole row is.

Legend: N samples, K classes, M bins.
"""

from __future__ import annotations

import math
import warnings
from typing import Any, Literal, NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

Binning = Literal["equal_width", "equal_mass"]
TEMPERATURE_BOUNDS = (0.01, 100.0)


class Reliability(NamedTuple):
    """Confidence against accuracy, bin by bin: what a reliability diagram draws.

    Attributes:
        edges: (M+1,) float64; bin m holds edges[m] < confidence <= edges[m+1], the first one its lower edge too.
        count: (M,) int64 samples.
        confidence, accuracy: (M,) float64 means, NaN where a bin is empty.
    """

    edges: np.ndarray
    count: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray


def reliability(confidence: Any, correct: Any, bins: int = 15, binning: Binning = "equal_width") -> Reliability:
    """Sort samples into bins of confidence and compare the mean confidence of each with its accuracy.

    Args:
        confidence: (N,) in [0, 1], numpy or torch.
        correct: (N,) bool, or 0 and 1.
        bins: M >= 1.
        binning: "equal_width" cuts [0, 1] evenly (Guo et al. 2017, section 2); "equal_mass" puts as many samples in
            each bin, up to one (Nguyen and O'Connor 2015, arXiv 1508.05154). Equal confidences stay in one bin,
            so the order of samples never matters.

    Raises:
        ValueError: no samples, unequal lengths, or a value out of range (NaN is).
    """
    confidence, correct = _vector("confidence", confidence), _vector("correct", correct)
    if len(confidence) != len(correct):
        raise ValueError(f"confidence and correct must have the same length, got {len(confidence)} and {len(correct)}")
    if not isinstance(bins, (int, np.integer)) or bins < 1:
        raise ValueError(f"bins must be a whole number >= 1, got {bins!r}")
    if wrong := np.count_nonzero(~((confidence >= 0) & (confidence <= 1 + 1e-6))):  # written so that NaN fails too
        raise ValueError(f"confidence must be in [0, 1], {wrong} of {len(confidence)} values are not")
    if not np.isin(correct, (0, 1)).all():
        raise ValueError("correct must hold only true and false, or 1 and 0")
    edges = _edges(confidence, int(bins), binning)
    # right-closed bins: as many inner edges lie strictly below a sample as there are bins before its own
    at = np.searchsorted(edges[1:-1], confidence, side="left")
    count = np.bincount(at, minlength=bins)
    with np.errstate(invalid="ignore"):  # 0/0 is the NaN of an empty bin
        means = [np.bincount(at, weights=values, minlength=bins) / count for values in (confidence, correct)]
    return Reliability(edges, count, *means)


def ece_from_confidence(confidence: Any, correct: Any, bins: int = 15, binning: Binning = "equal_width") -> float:
    """Return the expected calibration error: the mean of |accuracy - confidence| over bins, weighted by samples.

    Naeini et al., "Obtaining well calibrated probabilities using Bayesian binning", AAAI 2015; for the confidence in
    the predicted class as in Guo et al. 2017, equation 3. See `reliability` for the arguments and what they raise;
    here a NaN confidence gives NaN.

    >>> round(ece_from_confidence([0.9, 0.9, 0.6, 0.6], [1, 1, 1, 0]), 9)
    0.1
    """
    confidence = _vector("confidence", confidence)
    if np.isnan(confidence).any():
        return math.nan
    found = reliability(confidence, correct, bins, binning)
    filled = found.count > 0
    gaps = np.abs(found.accuracy - found.confidence)[filled]
    return float(gaps @ found.count[filled] / len(confidence))


def ece(logits: Any, labels: Any, bins: int = 15, binning: Binning = "equal_width") -> float:
    """Return the expected calibration error in [0, 1] of the predicted classes; see `ece_from_confidence`.

    Args:
        logits: (N, K) real, numpy or torch, K >= 2.
        labels: (N,) integers in [0, K).

    Raises:
        TypeError: labels are not integers.
        ValueError: wrong shape, no samples, or a label out of range.
    """
    logits, labels = _checked(logits, labels)
    if not _has_softmax(logits):
        return math.nan
    p = softmax(logits, axis=1)
    return ece_from_confidence(p.max(axis=1), p.argmax(axis=1) == labels, bins, binning)


def nll(logits: Any, labels: Any) -> float:
    """Return the mean negative log-likelihood in nats, >= 0; arguments and errors as in `ece`."""
    logits, labels = _checked(logits, labels)
    if not _has_softmax(logits):
        return math.nan
    return float(-log_softmax(logits, axis=1)[np.arange(len(labels)), labels].mean())


def brier(logits: Any, labels: Any) -> float:
    """Return the mean over samples of the squared error summed over classes, in [0, 2] (Brier 1950).

    Arguments and errors as in `ece`. Some libraries halve this for two classes.
    """
    logits, labels = _checked(logits, labels)
    if not _has_softmax(logits):
        return math.nan
    return float(((softmax(logits, axis=1) - np.eye(logits.shape[1])[labels]) ** 2).sum(axis=1).mean())


def fit_temperature(logits: Any, labels: Any) -> float:
    """Return the temperature T that minimises the likelihood loss of logits / T (Guo et al. 2017, section 4.2).

    The loss is convex in 1/T, so it has one minimum; it is sought on log T within `TEMPERATURE_BOUNDS`. Where the
    loss still falls at a bound, the bound is returned with a `UserWarning` that says why: at the lower one every
    sample is right (separable logits want unlimited confidence) or the logits are tiny; at the upper one they are
    no better than chance. Logits that are constant in every row give 1, with a warning too.

    Args:
        logits: (N, K) finite, numpy or torch, K >= 2; from held-out data, not from training.
        labels: (N,) integers in [0, K).

    Raises:
        TypeError: labels are not integers.
        ValueError: wrong shape, no samples, a label out of range, or logits that are not finite.
    """
    logits, labels = _checked(logits, labels)
    if bad := np.count_nonzero(~np.isfinite(logits)):
        rows = np.count_nonzero(~np.isfinite(logits).all(axis=1))
        raise ValueError(
            f"logits must be finite to fit a temperature: {bad} values in {rows} of {len(logits)} rows are not; "
            "leave these samples out, or mend the model"
        )
    low, high = TEMPERATURE_BOUNDS
    logits = logits - logits.max(axis=1, keepdims=True)  # large common offsets would cost digits below
    right = logits[np.arange(len(labels)), labels]

    def slope(temperature: float) -> float:
        """Derivative of the loss by 1/T: the expected logit less the right one."""
        return float(((softmax(logits / temperature, axis=1) * logits).sum(axis=1) - right).mean())

    if not logits.any():
        return _unfitted(1.0, "every row of logits is constant, so no temperature changes anything")
    if slope(low) <= 0:
        separable = bool((right == 0).all())  # the greatest logit of a row is 0 now
        why = f"all {len(labels)} samples are classified correctly" if separable else "the logits are tiny"
        return _unfitted(low, f"{why}, so ever more confidence lowers the loss")
    if slope(high) >= 0:
        return _unfitted(high, "the logits predict the labels no better than chance, so ever less confidence is better")
    found: Any = minimize_scalar(
        lambda log_t: nll(logits / math.exp(log_t), labels),
        bounds=(math.log(low), math.log(high)),
        method="bounded",
        options={"xatol": 1e-9},
    )
    return math.exp(found.x)


def _unfitted(temperature: float, reason: str) -> float:
    warnings.warn(f"temperature set to {temperature:g}: {reason}", UserWarning, stacklevel=3)
    return temperature


def _edges(confidence: np.ndarray, bins: int, binning: str) -> np.ndarray:
    if binning == "equal_width":
        return np.linspace(0.0, 1.0, bins + 1)
    if binning == "equal_mass":
        ranked = np.sort(confidence)
        last = -(-np.arange(1, bins + 1) * len(ranked) // bins) - 1  # the last rank of each bin: ceil(mN/M) - 1
        return np.concatenate([ranked[:1], ranked[last]])
    raise ValueError(f"binning must be 'equal_width' or 'equal_mass', got {binning!r}")


def _array(values: Any) -> np.ndarray:
    return values.detach().cpu().numpy() if hasattr(values, "detach") else np.asarray(values)


def _vector(name: str, values: Any) -> np.ndarray:
    array = _array(values).astype(np.float64)
    if array.ndim != 1 or not len(array):
        raise ValueError(f"{name} must have shape (N,) with N >= 1, got {array.shape}")
    return array


def _has_softmax(logits: np.ndarray) -> bool:
    return bool(np.isfinite(logits.max(axis=1)).all())  # the greatest is NaN if any is, and -inf if all are


def _checked(logits: Any, labels: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return float64 logits (N, K) and int64 labels (N,), or say what is wrong with them."""
    logits, labels = _array(logits).astype(np.float64), _array(labels)
    if logits.ndim != 2 or logits.shape[0] < 1 or logits.shape[1] < 2:
        raise ValueError(f"logits must have shape (N, K) with N >= 1 and K >= 2, got {logits.shape}")
    if labels.shape != logits.shape[:1]:
        raise ValueError(f"labels must have shape ({len(logits)},), one for each row of logits, got {labels.shape}")
    if not np.issubdtype(labels.dtype, np.integer):
        raise TypeError(f"labels must be integers, got {labels.dtype}")
    classes = logits.shape[1]
    if wrong := np.count_nonzero((labels < 0) | (labels >= classes)):
        raise ValueError(f"labels must be in [0, {classes}), {wrong} of {len(labels)} are not")
    return logits, labels.astype(np.int64)
