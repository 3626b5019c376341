"""The temperature that makes held-out logits likeliest.

Legend: N samples, K classes.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from robustaug.trust.calibration.tally import finite_logits

TEMPERATURE_BOUNDS = (0.01, 100.0)


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
    logits, labels = finite_logits(logits, labels, "a temperature")
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
        lambda log_t: -log_softmax(logits / math.exp(log_t), axis=1)[np.arange(len(labels)), labels].mean(),
        bounds=(math.log(low), math.log(high)),
        method="bounded",
        options={"xatol": 1e-9},
    )
    return math.exp(found.x)


def _unfitted(temperature: float, reason: str) -> float:
    warnings.warn(f"temperature set to {temperature:g}: {reason}", UserWarning, stacklevel=3)
    return temperature
