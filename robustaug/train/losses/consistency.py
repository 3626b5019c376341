"""Consistency: what the model says of a sample as it is teaches it what to say of a harder view.

Legend: B samples with labels, U without, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from robustaug.attacks.losses import divergence_from
from robustaug.registry import register
from robustaug.train.loss import Loss, Memory, cross_entropy
from robustaug.train.view import View


@register("loss.consistency", tags={"consistency", "unlabelled"})
@dataclass(frozen=True, kw_only=True, repr=False)
class Consistency(Loss):
    """Cross-entropy of labelled samples, and the divergence between two views of unlabelled ones.

    The prediction for a sample through `augment` is the guess, without gradient, and that for the same through
    `strong` learns it, where the guess is sure enough. By its parameters it is

    - FixMatch (Sohn et al. 2020, arXiv:2001.07685, equation 4), as it stands: guesses become labels;
    - UDA (Xie et al. 2020, arXiv:1904.12848, section 3.2): threshold 0.8, temperature 0.4: guesses are sharpened;
    - a Pi-model with a divergence for its squares (Laine & Aila 2017, arXiv:1610.02242): threshold 0, temperature 1.

    Attributes:
        weight: of the divergence, >= 0; its mean is over all unlabelled samples of a batch.
        threshold: least probability of a guess that counts, in [0, 1].
        temperature: guesses are softmax(logits / temperature), and 0 makes them labels; >= 0.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"unlabelled", "strong"})

    weight: float = 1.0
    threshold: float = 0.95
    temperature: float = 0.0

    def __post_init__(self) -> None:
        self.check_number("weight")
        self.check_number("threshold", most=1)
        self.check_number("temperature")

    def __call__(self, model: nn.Module, view: View, memory: Memory) -> Tensor:
        supervised, others = super().__call__(model, view, memory), view.unlabelled
        assert others is not None  # it is needed
        if not len(others.x):
            return supervised
        weak, strong = model(torch.cat([others.x, others.strong])).float().chunk(2)
        return supervised + self.weight * others.share(self.disagreement(weak.detach(), strong), len(view))

    def disagreement(self, weak: Tensor, strong: Tensor) -> Tensor:
        """Return (U,): the divergence of the logits `strong` (U, K) from the guess that `weak` makes, if it counts."""
        sure = weak.softmax(1).amax(1) >= self.threshold
        if self.temperature:
            return sure * divergence_from(strong, weak / self.temperature)
        return sure * cross_entropy(strong, weak.argmax(1))  # the divergence from a label
