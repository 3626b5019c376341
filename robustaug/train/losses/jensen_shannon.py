"""Consistency of AugMix: predictions that should not change with the view.

Legend: B samples, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from robustaug.registry import register
from robustaug.train.loss import Loss, Memory, cross_entropy
from robustaug.train.view import View


def jensen_shannon(logits: Sequence[Tensor]) -> Tensor:
    """Return the Jensen-Shannon divergence of n predictions of each sample, (B,) float32 in [0, log n].

    Source: Hendrycks et al. 2020 (AugMix, arXiv:1912.02781), equation 1, where n is 3.

    Args:
        logits: n tensors (B, K), such as those of `augmix_triple`'s views.
    """
    logs = [one.float().log_softmax(1) for one in logits]
    # the logarithm of the mean, without leaving the logarithm
    mixture = torch.logsumexp(torch.stack(logs), dim=0) - math.log(len(logs))
    return torch.stack([(one.exp() * (one - mixture)).sum(1) for one in logs]).mean(0)


@register("loss.jensen_shannon", tags={"consistency"})
@dataclass(frozen=True, kw_only=True, repr=False)
class JensenShannon(Loss):
    """Cross-entropy of the clean view, and the divergence among it and two views through the `strong` pipeline.

    Source: Hendrycks et al. 2020 (AugMix, arXiv:1912.02781), section 3. The three views go through the model in one
    pass, as published, so that batch statistics are theirs together.

    Attributes:
        weight: of the divergence, >= 0; published 12.
    """

    needs: ClassVar[frozenset[str]] = frozenset()
    views: ClassVar[int] = 2
    one_prediction: ClassVar[bool] = False

    weight: float = 12.0

    def __post_init__(self) -> None:
        self.check_number("weight")

    def __call__(self, model: nn.Module, view: View, memory: Memory) -> Tensor:
        logits = model(torch.cat([view.x, *view.strong])).chunk(3)
        clean = cross_entropy(logits[0], view.y if view.target is None else view.target)
        return clean + self.weight * jensen_shannon(logits)
