"""An operator's declared parameters as something to search: numbers in [0, 1], and the values they stand for.

Legend: B samples, D numbers that can be chosen, in all parameters.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from robustaug.ops.operator import Operator
from robustaug.ops.space import Space
from robustaug.ops.tabular.operator import TabularOperator
from robustaug.pipeline import build_operator
from robustaug.registry import lookup
from robustaug.rng import Keys

KINDS = ("image", "signal", "tabular")


@dataclass(frozen=True)
class Parameters:
    """The declared parameters of an operator.

    Attributes:
        operator: draws nothing but what it declares, and always acts.
    """

    operator: Operator

    @classmethod
    def of(cls, name: str, spec: Any) -> Parameters:
        """Return those of an operator, a name, or `{name: parameters}`.

        Args:
            name: of the attack, for messages.

        Raises:
            ValueError: an operator whose parameters cannot be searched sample by sample; the message says why.
        """
        if isinstance(spec, list | tuple):
            message = "operator is a list, whose draws are known by their keys alone; use search='random', or give one"
            raise ValueError(f"{name}: {message} operator")  # noqa: TRY004 (a list is right for another search)
        operator = build_operator(spec)
        refused = _refusal(operator)
        if refused:
            raise ValueError(f"{name}: operator {operator.name} {refused}")
        return cls(operator)

    @cached_property
    def free(self) -> dict[str, Space]:
        """The spaces that leave a choice, random keys apart."""
        return {k: s for k, s in self.operator.spaces.items() if s.distribution != "key" and s.count > 1}

    @cached_property
    def axes(self) -> list[tuple[str, Space]]:
        """The parameter that each of the D numbers belongs to."""
        return [(key, space) for key, space in self.free.items() for _ in range(math.prod(space.shape))]

    @property
    def draws(self) -> bool:
        """Whether there is a random key among them, which only other draws can change."""
        return any(space.distribution == "key" for space in self.operator.spaces.values())

    def sample(self, keys: Keys) -> dict[str, Tensor]:
        """Return parameters as augmentation draws them."""
        return self.operator.sample(keys)

    def apply(self, x: Tensor, params: Mapping[str, Tensor]) -> Tensor:
        """Return what the operator makes of x (B, ...) with these parameters."""
        return self.operator.apply(x, dict(params))

    def at(self, place: Tensor, keys: Keys) -> dict[str, Tensor]:
        """Return the parameters at places (B, D) in [0, 1] of their spaces, differentiable where they are real.

        Args:
            keys: draw the random keys among them.
        """
        params, start = dict(self.operator.sample(keys)), 0
        for key, space in self.free.items():
            width = math.prod(space.shape)
            value = space.at(place[:, start : start + width]).reshape(len(place), *space.shape)
            params[key] = value.to(params[key].dtype)
            start += width
        return params

    def contain(self, params: Mapping[str, Tensor]) -> Tensor:
        """Return (B,) bool: the operator could have drawn these parameters.

        Raises:
            ValueError: other names than the declared ones.
        """
        spaces = self.operator.spaces
        if set(params) != set(spaces):
            raise ValueError(f"{self.operator.name} has the parameters {sorted(spaces)}, got {sorted(params)}")
        return torch.stack([space.contains(params[key]) for key, space in spaces.items()]).all(0)


def unsearchable(operator: Operator) -> str:
    """Return why an operator cannot be searched sample by sample in any way, or an empty string."""
    tags = lookup(operator.name).tags
    if operator.layout.name not in KINDS:
        return f"works on {operator.layout.name}; attacks move numbers: {', '.join(KINDS)}"
    if "batchwise" in tags:
        return "moves values between rows, so that a sample's worst case would depend on its batch"
    if isinstance(operator, TabularOperator) and "reference" in tags and operator.reference is None:
        return "measures what is usual in the batch; pass one that is fitted: create(name).fit(table)"
    return ""


def _refusal(operator: Operator) -> str:
    """Return why the parameters of an operator cannot be searched, or an empty string."""
    if reason := unsearchable(operator):
        return reason
    spaces = operator.spaces
    if operator.p < 1:
        return f"leaves some samples alone, which is never the worst; set p to 1, not {operator.p:g}"
    drawn = set(operator.sample(Keys.of(0, 1)))
    if drawn != set(spaces):
        return f"draws {sorted(drawn - set(spaces))}, which it declares no range for; search its parts instead"
    if not any(space.count > 1 for space in spaces.values()):
        return "has no parameter that leaves a choice; give one a [low, high] range"
    return ""
