"""How far confidence is from the truth: ECE, by class, negative log-likelihood, and the Brier score with its parts.

Everything is computed in float64. Logits that hold NaN or +inf give a NaN figure, never a plausible one;
-inf is a class that cannot happen, unless the whole row is.

Legend: N samples, K classes, M bins.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from robustaug.trust.calibration.bins import Binning, ece_from_confidence
from robustaug.trust.calibration.tally import COUNT, SUM_P, SUM_PP, SUM_PY, SUM_Y, Tally, checked, predictions


class BrierParts(NamedTuple):
    """The Brier score in parts that add up to it exactly, each summed over classes.

    score = reliability - resolution + uncertainty + within_variance - within_covariance. The last two are what
    probabilities and outcomes still vary by inside a bin; without them the first three miss the score by as much
    (Stephenson, Coelho and Jolliffe 2008, "Two extra components in the Brier score decomposition", equation 9).

    Attributes:
        reliability: squared distance of mean probability and frequency in a bin, >= 0; lower is better.
        resolution: squared distance of a bin's frequency from the class's share, >= 0; higher is better.
        uncertainty: variance of the labels, which no model changes.
        within_variance: variance of probabilities inside bins.
        within_covariance: twice the covariance of probability and outcome inside bins.
    """

    reliability: float
    resolution: float
    uncertainty: float
    within_variance: float
    within_covariance: float

    @property
    def score(self) -> float:
        """The Brier score."""
        inside = self.within_variance - self.within_covariance
        return self.reliability - self.resolution + self.uncertainty + inside


def ece(logits: Any, labels: Any, bins: int = 15, binning: Binning = "equal_width") -> float:
    """Return the expected calibration error in [0, 1] of the predicted classes; see `ece_from_confidence`.

    Args:
        logits: (N, K) real, numpy or torch, K >= 2.
        labels: (N,) integers in [0, K).

    Raises:
        TypeError: labels are not integers.
        ValueError: wrong shape, no samples, or a label out of range.
    """
    found = predictions(logits, labels)
    return ece_from_confidence(found.confidence, found.correct, bins, binning)


def nll(logits: Any, labels: Any) -> float:
    """Return the mean negative log-likelihood in nats, >= 0; arguments and errors as in `ece`."""
    return float(predictions(logits, labels).nll.mean())


def brier(logits: Any, labels: Any) -> float:
    """Return the mean over samples of the squared error summed over classes, in [0, 2] (Brier 1950).

    Arguments and errors as in `ece`. Some libraries halve this for two classes.
    """
    return float(predictions(logits, labels).brier.mean())


def classwise_ece(logits: Any, labels: Any, bins: int = 15) -> float:
    """Return the calibration error of every class's probability, not only the predicted one's, averaged over classes.

    For class k: the mean over its bins of |share of the class - mean probability|, weighted by samples (Kull et al.
    2019, arXiv 1910.12656, section 2). Arguments and errors as in `ece`.
    """
    return classwise_ece_of(_tally(logits, labels, bins))


def classwise_ece_of(tally: Tally) -> float:
    """Return `classwise_ece` from a tally."""
    if not tally.whole:
        return math.nan
    table = tally.table.sum(axis=0)
    return float(np.abs(table[..., SUM_Y] - table[..., SUM_P]).sum() / (tally.n * table.shape[0]))


def brier_parts(logits: Any, labels: Any, bins: int = 15) -> BrierParts:
    """Return the parts of the Brier score, each class binned by its own probability; see `BrierParts`.

    Arguments and errors as in `ece`.
    """
    return brier_parts_of(_tally(logits, labels, bins))


def brier_parts_of(tally: Tally) -> BrierParts:
    """Return `brier_parts` from a tally."""
    if not tally.whole:
        return BrierParts(*[math.nan] * 5)
    table, n = tally.table.sum(axis=0), tally.n
    count, p, pp, y, py = (table[..., part] for part in (COUNT, SUM_P, SUM_PP, SUM_Y, SUM_PY))
    filled = np.maximum(count, 1)  # an empty bin has zeros above
    share = y.sum(axis=1) / n
    return BrierParts(
        reliability=float(((p - y) ** 2 / filled).sum() / n),
        resolution=float(((y - count * share[:, None]) ** 2 / filled).sum() / n),
        uncertainty=float((share * (1 - share)).sum()),
        within_variance=float((pp - p**2 / filled).sum() / n),
        within_covariance=float(2 * (py - p * y / filled).sum() / n),
    )


def _tally(logits: Any, labels: Any, bins: int) -> Tally:
    logits, labels = checked(logits, labels)
    return Tally(logits.shape[1], bins).add(logits, labels)
