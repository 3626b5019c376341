"""Just train twice: the samples that a first, shortly trained model gets wrong count several times.

Legend: B samples, K classes, N samples of the source.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robustaug.registry import register
from robustaug.train.first import shares_by
from robustaug.train.loss import Loss, Memory
from robustaug.train.view import Facts, View


@register("loss.jtt", tags={"groups"})
@dataclass(frozen=True, kw_only=True, repr=False)
class Jtt(Loss):
    """Cross-entropy in which the first model's mistakes on the training data weigh `times` as much as the rest.

    Groups need not be known in training, only in validation, to choose the epoch. Weights are 1 on the mean over the
    training data, which gives the mean over a batch the expectation it has where mistakes are repeated in the data.
    Source: Liu et al. 2021 (arXiv:2107.09044), equation 4 and algorithm 1.

    Attributes:
        first: checkpoint of the first model, trained for a few epochs by cross-entropy.
        times: >= 1; published 20 to 100 for images.
    """

    first: str
    times: float = 20.0

    def __post_init__(self) -> None:
        self.check_number("times", least=1)

    def files(self) -> tuple[str, ...]:
        return (self.first,)

    def memory(self, facts: Facts) -> Memory:
        wrong = shares_by(self.first, facts, self.name).argmax(1) != facts.labels
        if not wrong.any():
            raise ValueError(
                f"{self.name}: the model of {self.first} makes no mistake on the training data; train it for fewer "
                "epochs"
            )
        weights = torch.where(wrong, self.times, 1.0)
        return {"weights": (weights / weights.mean()).to(facts.device)}

    def __call__(self, model: nn.Module, view: View, memory: Memory) -> Tensor:
        return super().__call__(model, view, memory) * memory["weights"][view.position]
