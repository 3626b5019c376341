"""Symmetric cross-entropy: the label judges the prediction, and the prediction the label."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from robustaug.registry import register
from robustaug.train.loss import Loss, Memory


@register("loss.sce", tags={"label_noise"})
@dataclass(frozen=True, kw_only=True, repr=False)
class Sce(Loss):
    """alpha times cross-entropy plus beta times reverse cross-entropy, -sum_k p_k log y_k with log 0 set to `log_zero`.

    With one class for a label the reverse part is -log_zero (1 - p_y); labels that mix classes count by their shares.
    Source: Wang et al. 2019 (arXiv:1908.06112), equations 5 and 7.

    Attributes:
        alpha: of cross-entropy, >= 0; published 0.1 (CIFAR-10) and 6 (CIFAR-100).
        beta: of its reverse, >= 0; published 1 and 0.1.
        log_zero: < 0; published -4.

    >>> import torch
    >>> Sce(alpha=0.0).per_class(torch.zeros(1, 4), {})
    tensor([[3., 3., 3., 3.]])
    """

    alpha: float = 0.1
    beta: float = 1.0
    log_zero: float = -4.0

    def __post_init__(self) -> None:
        self.check_number("alpha")
        self.check_number("beta")
        self.check_number("log_zero", least=-1e6, most=0)

    def per_class(self, logits: Tensor, memory: Memory) -> Tensor:
        logs = logits.log_softmax(1)
        return -self.alpha * logs - self.beta * self.log_zero * (1 - logs.exp())
