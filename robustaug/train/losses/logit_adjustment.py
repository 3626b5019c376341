"""Logit adjustment: rare classes must win by a margin in training, so that they can win afterwards.

Legend: B samples, K classes, N samples of the source.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robustaug.registry import register
from robustaug.train.loss import Loss, Memory
from robustaug.train.view import Facts


@register("loss.logit_adjustment", tags={"rare_classes"})
@dataclass(frozen=True, kw_only=True, repr=False)
class LogitAdjustment(Loss):
    """Cross-entropy of logits to which tau times the logarithm of each class's share is added.

    The model's own logits, without what was added, then go for balanced accuracy.
    Source: Menon et al. 2021 (arXiv:2007.07314), equation 10.

    Attributes:
        tau: >= 0; 0 is cross-entropy, published 1.
    """

    tau: float = 1.0

    def __post_init__(self) -> None:
        self.check_number("tau")

    def memory(self, facts: Facts) -> Memory:
        counts = class_counts(self.name, facts)
        return {"log_share": (counts / counts.sum()).log()}

    def per_class(self, logits: Tensor, memory: Memory) -> Tensor:
        return -(logits + self.tau * memory["log_share"]).log_softmax(1)


def class_counts(name: str, facts: Facts) -> Tensor:
    """Return how many training samples each class has, (K,) float32.

    Raises:
        ValueError: a class has none, so that a loss called `name` cannot weigh it.
    """
    counts = torch.bincount(facts.labels, minlength=facts.classes)
    if (counts == 0).any():
        missing = int((counts == 0).nonzero()[0])
        raise ValueError(
            f"{name} goes by how frequent each class is, but class {missing} of the model's {facts.classes} has no "
            "training sample; set the model's `classes`, or leave the class out of the data"
        )
    return counts.to(facts.device, torch.float32)
