"""Co-teaching: two networks, each learning from the samples that the other finds easy.

Legend: B samples, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from robustaug.models.twins import pair_of
from robustaug.registry import register
from robustaug.train.loss import Loss, Memory, cross_entropy
from robustaug.train.view import View


@register("loss.co_teaching", tags={"label_noise"})
@dataclass(frozen=True, kw_only=True, repr=False)
class CoTeaching(Loss):
    """Cross-entropy of each of the model's two networks on the share of the batch where the other's is smallest.

    The share falls in a line from 1 to 1 - forget_rate over the first epochs. The loss is the sum of both networks'
    means over their samples; for use with `model.twins`. Samples are chosen among those of all processes.
    Source: Han et al. 2018 (arXiv:1804.06872), algorithm 1.

    Attributes:
        forget_rate: in [0, 1), about the share of wrong labels; published so.
        epochs: > 0, until the share is reached; published 10.
    """

    one_prediction: ClassVar[bool] = False

    forget_rate: float = 0.4
    epochs: float = 10.0

    def __post_init__(self) -> None:
        self.check_number("forget_rate", most=1 - torch.finfo(torch.float64).eps)
        self.check_number("epochs", least=torch.finfo(torch.float32).tiny)

    def share(self, epoch: float) -> float:
        """Return the share of samples that is learned from after `epoch` epochs, in (0, 1]."""
        return 1 - self.forget_rate * min(epoch / self.epochs, 1.0)

    def __call__(self, model: nn.Module, view: View, memory: Memory) -> Tensor:
        points = view.x if view.x_adv is None else view.x_adv
        target = view.y if view.target is None else view.target
        first, second = (cross_entropy(network(points), target) for network in pair_of(model))
        return self._easy(second, view) * first + self._easy(first, view) * second

    def _easy(self, losses: Tensor, view: View) -> Tensor:
        """Return (B,): 0 for samples with a great loss; else what makes the mean over all that over the chosen."""
        everywhere = view.everywhere(losses.detach())
        kept = max(1, int(self.share(view.epoch) * len(everywhere)))
        most = everywhere.kthvalue(kept).values
        return (losses.detach() <= most) * (len(everywhere) / (everywhere <= most).sum())
