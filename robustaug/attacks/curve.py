"""Robust accuracy at every budget, from one run of a minimal-norm attack."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import binomtest

from robustaug.attacks.inputs import read_eps
from robustaug.attacks.state import AttackResult


class RobustAccuracy(NamedTuple):
    """Robust accuracy by budget, all (N,) float64, in the order the budgets were given.

    Attributes:
        eps: the budgets.
        accuracy: the share of samples that no verified point within eps broke: an upper bound of robust accuracy.
        low, high: the ends of the confidence interval of that share, over the choice of samples.
    """

    eps: np.ndarray
    accuracy: np.ndarray
    low: np.ndarray
    high: np.ndarray


def robust_accuracy_curve(result: AttackResult, eps: Sequence[float | str], confidence: float = 0.95) -> RobustAccuracy:
    """Return the robust accuracy at each budget.

    Samples that an attack left untried (`result.tried`) do not count. Run the attack without a budget (eps=inf, a
    minimal-norm attack's own): with one, it stops at the first point within, and the curve below that budget is higher
    than it need be. Points that were not verified do not count. As the verifier does, a budget allows one millionth
    more.

    Args:
        result: of N >= 1 samples that were tried.
        eps: budgets in the norm of the attack: numbers >= 0, or fractions such as "8/255".
        confidence: of the Wilson score interval.

    Raises:
        ValueError: no samples, or a budget or confidence out of range.

    >>> import torch
    >>> from robustaug import create, wrap
    >>> model = wrap(torch.nn.Linear(4, 2)).eval()
    >>> x = torch.rand(20, 4)
    >>> result = create("attack.ddn", box=(-9.0, 9.0))(model, x, model(x).argmax(1))
    >>> curve = robust_accuracy_curve(result, [0, 0.1, 99])
    >>> float(curve.accuracy[0]), float(curve.accuracy[2])
    (1.0, 0.0)
    """
    if not bool(result.tried.any()):
        raise ValueError("result holds no samples; a share of none is undefined")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be in (0, 1), got {confidence!r}; write 0.95 for 95 %")
    budgets = np.array([read_eps(value, may_be_endless=True) for value in eps], dtype=np.float64)
    holds = (result.success & result.verified)[result.tried].cpu().numpy()
    norm = result.norm[result.tried].cpu().numpy()
    standing = [int(stands(norm, holds, budget).sum()) for budget in budgets]
    intervals = [binomtest(count, len(norm)).proportion_ci(confidence, method="wilson") for count in standing]
    return RobustAccuracy(
        budgets,
        np.array(standing) / len(norm),
        np.array([interval.low for interval in intervals]),
        np.array([interval.high for interval in intervals]),
    )


def stands(norm: np.ndarray, holds: np.ndarray, eps: float) -> np.ndarray:
    """Return (N,) bool: no point within eps broke the sample.

    Args:
        norm: (N,) the distance of each sample's nearest point.
        holds: (N,) bool, that point breaks the model, and was verified.
    """
    return (norm > eps * (1 + 1e-6)) | ~holds
