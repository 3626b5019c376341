"""Forward correction: predictions go through the way labels go wrong before they are compared with the labels.

Legend: B samples, K classes, N samples of the source; T (K, K), T[i, j] is the chance that label i is written as j.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robustaug.registry import register
from robustaug.train.first import shares_by
from robustaug.train.loss import Loss, Memory
from robustaug.train.view import Facts


@register("loss.forward_correction", tags={"label_noise"})
@dataclass(frozen=True, kw_only=True, repr=False)
class ForwardCorrection(Loss):
    """-log (T^t p)_y: cross-entropy of the chance of the label that was written.

    Source: Patrini et al. 2017 (arXiv:1609.03944), theorem 2; T from a model by equations 12 and 13.

    Attributes: exactly one of the first three is given.
        transition: T, K rows that sum to 1.
        noise_rate: in [0, 1), T of labels that are wrong so often and then of any other class, equally likely.
        first: checkpoint of a model trained on these labels; row i of T is what it predicts for a sample that it takes
            for class i with near certainty.
        quantile: in [0, 1], which sample that is, in the order of certainty; published 0.97, as the greatest may be
            an outlier, and 1 for the greatest itself.
    """

    transition: tuple[tuple[float, ...], ...] | None = None
    noise_rate: float | None = None
    first: str | None = None
    quantile: float = 0.97

    def __post_init__(self) -> None:
        given = [key for key in ("transition", "noise_rate", "first") if getattr(self, key) is not None]
        if len(given) != 1:
            raise ValueError(f"{self.name}: give one of transition, noise_rate and first, got {given or 'none'}")
        self.check_number("quantile", most=1)
        if self.noise_rate is not None:
            self.check_number("noise_rate", most=1 - torch.finfo(torch.float64).eps)
        if self.transition is not None:
            rows = _rows(self.name, self.transition)
            object.__setattr__(self, "transition", tuple(tuple(row) for row in rows.tolist()))

    def files(self) -> tuple[str, ...]:
        return () if self.first is None else (self.first,)

    def memory(self, facts: Facts) -> Memory:
        classes = facts.classes
        if self.transition is not None:
            matrix = torch.tensor(self.transition)
            if len(matrix) != classes:
                raise ValueError(f"{self.name}: transition has {len(matrix)} classes, the model {classes}")
        elif self.noise_rate is not None:
            matrix = torch.full((classes, classes), self.noise_rate / (classes - 1))
            matrix.fill_diagonal_(1 - self.noise_rate)
        else:
            assert self.first is not None
            matrix = at_anchors(shares_by(self.first, facts, self.name), self.quantile)
        return {"transition": matrix.to(facts.device, torch.float32)}

    def per_class(self, logits: Tensor, memory: Memory) -> Tensor:
        written = logits.softmax(1) @ memory["transition"]
        return -written.clamp_min(torch.finfo(torch.float32).tiny).log()


def at_anchors(shares: Tensor, quantile: float) -> Tensor:
    """Return T (K, K): row i is the prediction for the sample that stands at the quantile by its share of class i.

    Args:
        shares: (N, K), predictions of a model trained on wrong labels too; rows sum to 1.
        quantile: in [0, 1]; 1 is the sample most certainly of class i.
    """
    at = round(quantile * (len(shares) - 1))
    return shares[shares.argsort(dim=0, stable=True)[at]]


def _rows(name: str, transition: object) -> Tensor:
    try:
        rows = torch.tensor(transition, dtype=torch.float64)
    except (TypeError, ValueError):
        rows = torch.zeros(0)
    if rows.ndim != 2 or rows.shape[0] != rows.shape[1]:
        raise ValueError(f"{name}: transition must be K rows of K numbers, got {transition!r}")
    if (rows < 0).any() or not torch.allclose(rows.sum(1), rows.new_ones(len(rows)), atol=1e-4):
        raise ValueError(f"{name}: every row of transition must be >= 0 and sum to 1, got {transition!r}")
    return rows
