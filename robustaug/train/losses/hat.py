"""Adversarial training with a helper: an ordinarily trained model says what lies beyond the attack.

Legend: B samples, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from robustaug.attacks.losses import divergence_from
from robustaug.models import checkpoints
from robustaug.models.classifier import Classifier
from robustaug.registry import read_spec, register
from robustaug.train.loss import Loss, Memory, cross_entropy
from robustaug.train.view import Facts, View


@register("loss.hat", tags={"adversarial"})
@dataclass(frozen=True, kw_only=True, repr=False)
class Hat(Loss):
    """TRADES, and cross-entropy beyond the attacked point with the class that an ordinary model sees at it.

    Source: Rade & Moosavi-Dezfooli 2022, "Reducing excessive margin to achieve a better accuracy vs. robustness
    trade-off" (HAT), openreview.net/forum?id=Azh9QBQ4tR7: with r = x_adv - x,
    CE(f(x), y) + beta KL(f(x) || f(x_adv)) + gamma CE(f(x + reach r), argmax helper(x_adv)). The point x + reach r is
    not cut at the box, as published.

    Attributes:
        helper: path of the helper's weights, such as "runs/digits_standard/best/model.safetensors".
        helper_model: the helper's model as `name` or `{name: parameters}`; a robustaug checkpoint knows its own.
        beta: weight of the divergence, >= 0; published 2.5.
        gamma: weight of the helper's term, >= 0; published 0.5.
        reach: how far beyond, in lengths of r, >= 1; published 2.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"x_adv"})
    one_prediction: ClassVar[bool] = False

    helper: str = ""
    helper_model: Any = None
    beta: float = 2.5
    gamma: float = 0.5
    reach: float = 2.0

    def __post_init__(self) -> None:
        if not isinstance(self.helper, str):
            raise TypeError(f"{self.name}: helper must be the path of a checkpoint, got {self.helper!r}")
        if self.helper_model is not None:
            read_spec(self.helper_model, "model")
        self.check_number("beta")
        self.check_number("gamma")
        self.check_number("reach", least=1)

    def files(self) -> tuple[str, ...]:
        return (self.helper,)

    def memory(self, facts: Facts) -> Memory:
        classes = self._loaded.num_classes
        if classes is not None and classes != facts.classes:
            raise ValueError(f"{self.name}: the helper has {classes} outputs, the model {facts.classes}")
        self._loaded.to(facts.device)
        return {}

    def __call__(self, model: nn.Module, view: View, memory: Memory) -> Tensor:
        assert view.x_adv is not None, "a recipe without attack is refused"
        x_adv = view.x_adv.detach()
        with torch.no_grad():
            seen = self._loaded(x_adv).argmax(1)
        clean, attacked = model(view.x), model(view.x_adv)
        beyond = model(view.x + self.reach * (x_adv - view.x))
        losses = cross_entropy(clean, view.y if view.target is None else view.target)
        return losses + self.beta * divergence_from(attacked, clean) + self.gamma * cross_entropy(beyond, seen)

    @cached_property
    def _loaded(self) -> Classifier:
        if not self.helper:
            raise ValueError(
                f"{self.name}: name the checkpoint of an ordinarily trained model as helper; "
                "`robustaug train configs/train/digits_standard.yaml` makes one for digits"
            )
        return checkpoints.load(self.helper, self.helper_model).requires_grad_(False)
