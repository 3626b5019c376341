"""MART: adversarial training that looks harder at samples which are wrong without any attack.

Legend: B samples, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from robustaug.attacks.losses import divergence_from
from robustaug.registry import register
from robustaug.train.loss import Loss, Memory
from robustaug.train.view import View


@register("loss.mart", tags={"adversarial"})
@dataclass(frozen=True, kw_only=True, repr=False)
class Mart(Loss):
    """Boosted cross-entropy under attack, and a divergence that counts the more, the less likely the class was before.

    Source: Wang et al. 2020, "Improving adversarial robustness requires revisiting misclassified examples",
    openreview.net/forum?id=rklOg6EFwS, algorithm 1: with p = softmax f(x) and q = softmax f(x_adv),
    -log q_y - log(1 - max_{k != y} q_k) + beta KL(p || q) (1 - p_y). Soft labels count by their shares.

    Attributes:
        beta: weight of the divergence (lambda in the paper), >= 0; published 5.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"x_adv"})
    one_prediction: ClassVar[bool] = False

    beta: float = 5.0

    def __post_init__(self) -> None:
        self.check_number("beta")

    def per_class(self, logits: Tensor, memory: Memory) -> Tensor:
        """Return (B, K): the boosted cross-entropy if class k were true, from logits (B, K) float32."""
        logs = logits.log_softmax(1)
        top = logs.detach().topk(2, dim=1).indices
        # log(1 - q_j) is the log of the others' sum, which loses no digits where q_j is near 1
        rest = torch.stack([logs.scatter(1, top[:, j : j + 1], -torch.inf).logsumexp(1) for j in (0, 1)], dim=1)
        is_first = torch.arange(logs.shape[1], device=logs.device) == top[:, :1]  # there the rival is the second
        return -logs - torch.where(is_first, rest[:, 1:], rest[:, :1])

    def __call__(self, model: nn.Module, view: View, memory: Memory) -> Tensor:
        clean, attacked = model(view.x), model(view.x_adv)
        shares = view.soft(clean.shape[1])
        unlikely = 1 - (shares * clean.float().softmax(1)).sum(1)
        return self.of(attacked, view, memory) + self.beta * unlikely * divergence_from(attacked, clean)
