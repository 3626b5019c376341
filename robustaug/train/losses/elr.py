"""Early-learning regularisation: hold on to what was learned before wrong labels are learned by heart.

Legend: B samples, K classes, N samples of the source.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robustaug.registry import register
from robustaug.train.loss import Loss, Memory
from robustaug.train.view import Facts, View

LEAST = 1e-4
"""How near to 0 and 1 predictions are taken at most, as published code does; keeps the logarithm finite."""


@register("loss.elr", tags={"label_noise"})
@dataclass(frozen=True, kw_only=True, repr=False)
class Elr(Loss):
    """Cross-entropy plus weight times log(1 - <p, t>), t being a running mean of the sample's own predictions.

    t starts at 0 and moves before each use: t = momentum t + (1 - momentum) p. It is kept by the sample's position.
    Source: Liu et al. 2020 (arXiv:2007.00151), equations 6 and 9.

    Attributes:
        weight: of the regularisation, >= 0; published 3 (CIFAR-10) and 7 (CIFAR-100).
        momentum: in [0, 1); published 0.7 and 0.9.
    """

    weight: float = 3.0
    momentum: float = 0.7

    def __post_init__(self) -> None:
        self.check_number("weight")
        self.check_number("momentum", most=1 - torch.finfo(torch.float64).eps)

    def memory(self, facts: Facts) -> Memory:
        return {"targets": torch.zeros(len(facts.labels), facts.classes, device=facts.device)}

    def of(self, logits: Tensor, view: View, memory: Memory) -> Tensor:
        shares = logits.float().softmax(1).clamp(LEAST, 1 - LEAST)
        targets = memory["targets"]
        rows, seen = view.everywhere(view.position), view.everywhere(shares.detach())
        targets[rows] = self.momentum * targets[rows] + (1 - self.momentum) * seen / seen.sum(1, keepdim=True)
        alike = (shares * targets[view.position]).sum(1)
        return super().of(logits, view, memory) + self.weight * torch.log1p(-alike)
