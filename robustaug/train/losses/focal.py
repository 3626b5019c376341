"""Focal loss: samples that are predicted well count less.

Legend: B samples, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robustaug.registry import register
from robustaug.train.loss import Loss, Memory
from robustaug.train.view import Facts


@register("loss.focal", tags={"rare_classes"})
@dataclass(frozen=True, kw_only=True, repr=False)
class Focal(Loss):
    """-alpha_y (1 - p_y)^gamma log p_y.

    Source: Lin et al. 2017 (arXiv:1708.02002), equations 4 and 5, with the softmax of K classes in the place of their
    sigmoid.

    Attributes:
        gamma: >= 0; 0 is cross-entropy, published 2.
        alpha: weight >= 0 of each class, K numbers; 1 for all when left out.

    >>> import torch
    >>> Focal(gamma=2.0).per_class(torch.zeros(1, 2), {})  # 0.5^2 log 2
    tensor([[0.1733, 0.1733]])
    """

    gamma: float = 2.0
    alpha: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        self.check_number("gamma")
        if self.alpha is not None:
            weights = torch.as_tensor(self.alpha, dtype=torch.float64)
            if weights.ndim != 1 or not (torch.isfinite(weights).all() and (weights >= 0).all() and weights.sum() > 0):
                raise ValueError(f"{self.name}: alpha must be numbers >= 0, one a class, got {self.alpha}")
            object.__setattr__(self, "alpha", tuple(weights.tolist()))

    def memory(self, facts: Facts) -> Memory:
        if self.alpha is not None and len(self.alpha) != facts.classes:
            raise ValueError(f"{self.name}: alpha has {len(self.alpha)} weights for {facts.classes} classes")
        return {}

    def per_class(self, logits: Tensor, memory: Memory) -> Tensor:
        logs = logits.log_softmax(1)
        # 1 - p kept above 0: the slope of 0^gamma is infinite for gamma below 1
        losses = -((1 - logs.exp()).clamp_min(torch.finfo(torch.float32).tiny) ** self.gamma) * logs
        return losses if self.alpha is None else losses * losses.new_tensor(self.alpha)
