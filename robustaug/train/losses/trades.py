"""TRADES: accuracy on clean samples, and predictions that hold under attack.

Legend: B samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from robustaug.attacks.losses import divergence_from
from robustaug.registry import register
from robustaug.train.loss import Loss, Memory, cross_entropy
from robustaug.train.view import View


@register("loss.trades", tags={"adversarial"})
@dataclass(frozen=True, kw_only=True, repr=False)
class Trades(Loss):
    """Cross-entropy of the clean sample, and how far the prediction moves under attack.

    Source: Zhang et al. 2019, "Theoretically principled trade-off between robustness and accuracy", arXiv:1901.08573,
    algorithm 1: CE(f(x), y) + beta KL(f(x) || f(x_adv)). Its own attack is `attack.tpgd`; the gradient flows through
    both predictions, as in the published code.

    Attributes:
        beta: weight of the divergence (1/lambda in the paper), >= 0; published 6.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"x_adv"})
    one_prediction: ClassVar[bool] = False

    beta: float = 6.0

    def __post_init__(self) -> None:
        self.check_number("beta")

    def __call__(self, model: nn.Module, view: View, memory: Memory) -> Tensor:
        clean, attacked = model(view.x), model(view.x_adv)
        losses = cross_entropy(clean, view.y if view.target is None else view.target)
        return losses + self.beta * divergence_from(attacked, clean)
