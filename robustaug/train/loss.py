"""The face of losses: what each one has to say for itself.

Legend: B samples, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from robustaug.parameters import check_count, check_number, created, spec_of
from robustaug.registry import check_parameters
from robustaug.train.view import Facts, View

Memory = dict[str, Tensor]
"""What a loss remembers from step to step: tensors by name, stored with the training state and changed in place."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Loss:
    """Base of losses. A subclass is a registered frozen dataclass.

    A loss of one prediction and its label defines `per_class`, or takes the cross-entropy that stands here; whatever
    looks at more (two predictions, further views, groups) defines `__call__`.
    """

    name: ClassVar[str] = ""
    needs: ClassVar[frozenset[str]] = frozenset()
    """What must be there: the fields "x_adv", "group" or "unlabelled" of `View`, or the recipe's "strong" pipeline; or
    "embeddings", a model that can be cut there, as a `TextClassifier` can."""
    may_use: ClassVar[frozenset[str]] = frozenset()
    """The same, of what it does without where it is not there."""
    views: ClassVar[int] = 0
    """How many views of each sample through the recipe's `strong` pipeline it looks at."""
    one_prediction: ClassVar[bool] = True
    """Judges x_adv where there is an attack and x otherwise, so that `clean_share` has a meaning."""
    norm: ClassVar[str | None] = None
    """The only norm of attacks that it is for; any where None."""
    twice: ClassVar[bool] = False
    """Differentiates through a gradient, which compiled networks do not allow."""

    def __new__(cls, *args: Any, **params: Any) -> Loss:
        check_parameters(cls.name, params, [f.name for f in fields(cls)])
        return super().__new__(cls)

    def memory(self, facts: Facts) -> Memory:
        """Return what to remember at the start.

        Raises:
            ValueError: the data or the model do not fit the loss.
        """
        del facts
        return {}

    def files(self) -> tuple[str, ...]:
        """Return paths of files that the loss reads, such as another model's weights."""
        return ()

    def per_class(self, logits: Tensor, memory: Memory) -> Tensor:
        """Return (B, K): the loss if class k were true, from logits (B, K) float32; cross-entropy by default."""
        del memory
        return -logits.log_softmax(1)

    def of(self, logits: Tensor, view: View, memory: Memory) -> Tensor:
        """Return the loss (B,) of predictions (B, K) of the view's samples; soft labels count by their shares."""
        losses = self.per_class(logits.float(), memory)
        if view.target is None:
            return losses.gather(1, view.y[:, None])[:, 0]
        return (view.target * losses).sum(1)

    def __call__(self, model: nn.Module, view: View, memory: Memory) -> Tensor:
        """Return the loss of each sample, (B,), whose mean is minimised; `model` is in train mode."""
        if view.x_adv is None:
            return self.of(model(view.x), view, memory)
        losses = self.of(model(view.x_adv), view, memory)
        if view.clean_share:
            clean = self.of(model(view.x), view, memory)
            losses = view.clean_share * clean + (1 - view.clean_share) * losses
        return losses

    def spec(self) -> dict[str, Any]:
        """Return {name: parameters that differ from the defaults}."""
        return spec_of(self)

    def __repr__(self) -> str:
        return created(self.spec())

    def check_count(self, key: str, least: int = 1) -> None:
        """Refuse what is no whole number >= `least`."""
        check_count(self.name, key, getattr(self, key), least)

    def check_number(self, key: str, least: float = 0.0, most: float = float("inf")) -> None:
        """Refuse a number outside [least, most]; a fraction such as "8/255" becomes a number.

        Raises:
            ValueError: names the parameter, its value and what is allowed.
        """
        value = check_number(self.name, key, getattr(self, key))
        if not (least <= value <= most and value != float("inf")):
            raise ValueError(f"{self.name}: {key} must be in [{least:g}, {most:g}] and finite, got {value:g}")
        object.__setattr__(self, key, value)


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Return -sum_k target_k log softmax(logits)_k, (B,) float32, for shares (B, K) or classes (B,) int64."""
    logs = torch.log_softmax(logits.float(), 1)
    return -(logs.gather(1, target[:, None])[:, 0] if target.ndim == 1 else (target * logs).sum(1))
