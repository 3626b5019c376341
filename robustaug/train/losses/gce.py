"""Generalised cross-entropy: between cross-entropy and the absolute error, which wrong labels cannot pull far."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robustaug.registry import register
from robustaug.train.loss import Loss, Memory


@register("loss.gce", tags={"label_noise"})
@dataclass(frozen=True, kw_only=True, repr=False)
class Gce(Loss):
    """(1 - p_y^q) / q.

    Source: Zhang & Sabuncu 2018 (arXiv:1805.07836), equation 6.

    Attributes:
        q: in (0, 1]; towards 0 it is cross-entropy, 1 is half the mean absolute error, published 0.7.

    >>> import torch
    >>> Gce(q=1.0).per_class(torch.zeros(1, 4), {})
    tensor([[0.7500, 0.7500, 0.7500, 0.7500]])
    """

    q: float = 0.7

    def __post_init__(self) -> None:
        self.check_number("q", least=torch.finfo(torch.float32).eps, most=1)

    def per_class(self, logits: Tensor, memory: Memory) -> Tensor:
        return -torch.expm1(self.q * logits.log_softmax(1)) / self.q
