"""Virtual adversarial training: predictions that a small step in the worst direction does not change.

Legend: B samples with labels, U without, N of both, ... the rest of a sample's shape, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from robustaug.attacks.losses import divergence_from
from robustaug.attacks.threat import NORMS
from robustaug.registry import register
from robustaug.rng import Keys, normal_field
from robustaug.train.loss import Loss, Memory
from robustaug.train.view import View


@register("loss.vat", tags={"consistency", "unlabelled"})
@dataclass(frozen=True, kw_only=True, repr=False)
class VirtualAdversarial(Loss):
    """Cross-entropy of labelled samples, and how far the worst small step moves the prediction of any sample.

    Source: Miyato et al. 2018, arXiv:1704.03976, equations 5 to 8 and algorithm 1. The mean of the divergences is over
    labelled samples and, where the recipe has `data.unlabelled`, those too; labels are not looked at. Directions are
    sought in eval mode, as attacks of training are, and where published code takes xi 1e-6, which float32 rounds away,
    it is 0.01 here. Steps are not cut at [0, 1], as published.

    Attributes:
        eps: length of the step in L2, in units of the input, [0, 1] a value; > 0.
        weight: of the divergence, >= 0; published 1.
        xi: length of the step with which the divergence's slope is measured, > 0.
        iterations: of the power method that finds the direction; published 1. Each is a pass forth and back.
        entropy: weight of the prediction's entropy, >= 0, which draws boundaries away from the samples; published 0
            or 1 (equation 23).
    """

    one_prediction: ClassVar[bool] = True
    may_use: ClassVar[frozenset[str]] = frozenset({"unlabelled"})

    eps: float | str = 1.0
    weight: float = 1.0
    xi: float | str = 0.01
    iterations: int = 1
    entropy: float = 0.0

    def __post_init__(self) -> None:
        for key in ("eps", "xi"):
            self.check_number(key, least=1e-12)
        for key in ("weight", "entropy"):
            self.check_number(key)
        self.check_count("iterations")

    def __call__(self, model: nn.Module, view: View, memory: Memory) -> Tensor:
        supervised, others = super().__call__(model, view, memory), view.unlabelled
        own = self._smoothness(model, view.x, view.keys)
        if others is None:
            return supervised + own
        # one mean over samples with and without labels
        part = 1 / (1 + others.ratio)
        if not len(others.x):
            return supervised + part * own
        foreign = self._smoothness(model, others.x, others.keys)
        return supervised + part * own + (1 - part) * others.share(foreign, len(view))

    def _smoothness(self, model: nn.Module, x: Tensor, keys: Keys) -> Tensor:
        step = float(self.eps) * worst_direction(model, x, keys.fold("vat"), float(self.xi), self.iterations)
        # one pass for both, so that batch statistics are theirs together and do not make the difference
        before, after = model(torch.cat([x, x + step])).float().chunk(2)
        losses = self.weight * divergence_from(after, before.detach())
        if self.entropy:
            losses = losses + self.entropy * -(before.softmax(1) * before.log_softmax(1)).sum(1)
        return losses


def worst_direction(model: nn.Module, x: Tensor, keys: Keys, xi: float, iterations: int) -> Tensor:
    """Return unit steps, like x (N, ...), along which each sample's prediction changes fastest.

    Power iteration on the Hessian of the divergence, whose product with a direction is the slope at xi times it:
    Miyato et al. 2018, equations 14 to 17. Zero where there is no slope. The model is left in the mode it was in.
    """
    unit = NORMS["L2"].steepest
    direction = unit(normal_field(keys.rows(), x.shape[1:]).to(x.dtype))
    mode = model.training
    model.eval()  # no statistics of points that are only looked at
    try:
        # differences of 1e-2 would drown in half precision
        with torch.autocast(x.device.type, enabled=False):
            with torch.no_grad():
                before = model(x)
            for _ in range(iterations):
                direction.requires_grad_()
                grown = divergence_from(model(x + xi * direction), before).sum()
                direction = unit(torch.autograd.grad(grown, direction)[0])
    finally:
        model.train(mode)
    return direction
