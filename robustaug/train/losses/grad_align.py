"""Gradient alignment: training in one step without catastrophic overfitting.

Legend: B samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from robustaug.attacks.ask import in_fp16, require_slope, slopes
from robustaug.attacks.threat import NORMS
from robustaug.registry import register
from robustaug.train.loss import Loss, Memory, cross_entropy
from robustaug.train.view import View


@register("loss.grad_align", tags={"adversarial"})
@dataclass(frozen=True, kw_only=True, repr=False)
class GradAlign(Loss):
    """Cross-entropy under attack, and how much the input's gradient turns within the Linf ball.

    Source: Andriushchenko & Flammarion 2020, "Understanding and improving fast adversarial training",
    arXiv:2007.02617 (GradAlign): strength (1 - cos(grad_x CE(x), grad_x CE(x + eta))), eta uniform in [-eps, eps] with
    the attack's eps; the weights' gradient goes through both. Samples with a gradient of zero have no direction and
    count nothing.

    Attributes:
        strength: weight of the turn (lambda in the paper), >= 0; published 0.2 for CIFAR-10 at 8/255, more for larger
            eps.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"x_adv"})
    norm: ClassVar[str | None] = "Linf"
    twice: ClassVar[bool] = True

    strength: float = 0.2

    def __post_init__(self) -> None:
        self.check_number("strength")

    def __call__(self, model: nn.Module, view: View, memory: Memory) -> Tensor:
        return super().__call__(model, view, memory) + self.strength * self.turn(model, view)

    def turn(self, model: nn.Module, view: View) -> Tensor:
        """Return 1 - cos of the gradients at the samples and beside them, (B,) float64 in [0, 2]."""
        eps = torch.full((len(view),), view.eps, device=view.x.device)
        eta = NORMS["Linf"].random(view.keys.fold("grad_align"), view.x.shape[1:], eps).to(view.x)
        here, beside = (_slope(model, x, view) for x in (view.x, view.x + eta))
        lengths = here.square().sum(1) * beside.square().sum(1)
        cosine = (here * beside).sum(1) / lengths.clamp_min(1e-200).sqrt()
        return torch.where(lengths > 0, 1 - cosine, 0.0)


def _slope(model: nn.Module, x: Tensor, view: View) -> Tensor:
    """Return the loss's gradient at x, (B, D) float64, which has a gradient itself."""
    leaf = x.detach().clone().requires_grad_()
    logits = model(leaf).float()
    losses = cross_entropy(logits, view.y if view.target is None else view.target)
    require_slope(losses)
    grad = slopes(losses, logits, leaf, in_fp16(leaf.device), create_graph=True)
    assert grad is not None
    return grad.flatten(1).double()  # squares of small gradients are 0 in float32
