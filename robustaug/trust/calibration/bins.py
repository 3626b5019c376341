"""Confidence against accuracy, bin by bin.

Legend: N samples, M bins.
"""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import numpy as np

Binning = Literal["equal_width", "equal_mass"]


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


def _edges(confidence: np.ndarray, bins: int, binning: str) -> np.ndarray:
    if binning == "equal_width":
        return np.linspace(0.0, 1.0, bins + 1)
    if binning == "equal_mass":
        ranked = np.sort(confidence)
        last = -(-np.arange(1, bins + 1) * len(ranked) // bins) - 1  # the last rank of each bin: ceil(mN/M) - 1
        return np.concatenate([ranked[:1], ranked[last]])
    raise ValueError(f"binning must be 'equal_width' or 'equal_mass', got {binning!r}")


def _vector(name: str, values: Any) -> np.ndarray:
    array = (values.detach().cpu().numpy() if hasattr(values, "detach") else np.asarray(values)).astype(np.float64)
    if array.ndim != 1 or not len(array):
        raise ValueError(f"{name} must have shape (N,) with N >= 1, got {array.shape}")
    return array
