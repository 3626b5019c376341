"""Cross-entropy: the ordinary loss, and that of adversarial training where the recipe has an attack."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from robustaug.registry import register
from robustaug.train.loss import Loss, Memory


@register("loss.cross_entropy")
@dataclass(frozen=True, kw_only=True, repr=False)
class CrossEntropy(Loss):
    """Push up the logarithm of the true class's probability.

    On the points of an attack this is adversarial training: Madry et al. 2018, arXiv:1706.06083, equation 2.1.

    Attributes:
        label_smoothing: share of each label that is spread evenly over all classes, in [0, 1]: Szegedy et al. 2016,
            arXiv:1512.00567, section 7.

    >>> import torch
    >>> CrossEntropy().per_class(torch.zeros(1, 4), {})
    tensor([[1.3863, 1.3863, 1.3863, 1.3863]])
    """

    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        self.check_number("label_smoothing", most=1)

    def per_class(self, logits: Tensor, memory: Memory) -> Tensor:
        losses = -logits.log_softmax(1)
        share = self.label_smoothing
        return (1 - share) * losses + share * losses.mean(1, keepdim=True) if share else losses
