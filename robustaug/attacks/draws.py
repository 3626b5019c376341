"""Whole draws of a policy or a pipeline as something to search: each is known by its key.

Legend: B samples, ... the rest of a sample's shape.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from robustaug.attacks.parameters import unsearchable
from robustaug.engine.compiled import CompiledPipeline
from robustaug.ops.layout import IMAGES
from robustaug.ops.operator import Operator
from robustaug.pipeline import build, build_operator
from robustaug.rng import Keys


@dataclass(frozen=True)
class Draws:
    """Draws of an operator whose parameters depend on one another, so that ranges do not tell what it may do.

    Attributes:
        operator: a policy, a combinator or a pipeline.
    """

    operator: Operator

    @classmethod
    def of(cls, name: str, spec: Any) -> Draws | None:
        """Return those of an operator, a name, `{name: parameters}` or a list of these; None if ranges tell all.

        Args:
            name: of the attack, for messages.

        Raises:
            ValueError: an empty list, or a part that moves no numbers or whose result would depend on the batch.
        """
        if isinstance(spec, list | tuple) and not spec:
            raise ValueError(f"{name}: operator must be an operator or a list of at least one, got {spec!r}")
        operator = build(list(spec), f"{name}: operator") if isinstance(spec, list | tuple) else build_operator(spec)
        for part in _parts(operator):
            if reason := unsearchable(part):
                raise ValueError(f"{name}: operator {part.name} {reason}")
        if operator.p < 1 or set(operator.sample(Keys.of(0, 1))) == set(operator.spaces):
            return None
        return cls(operator)

    @cached_property
    def _fast(self) -> Any:
        """The operator, compiled where it can be."""
        return CompiledPipeline(self.operator) if self.operator.layout is IMAGES else self.operator

    def sample(self, keys: Keys) -> dict[str, Tensor]:
        """Return what a draw is known by: "key" (B, 4) int64."""
        return {"key": keys.rows()}

    def apply(self, x: Tensor, params: Mapping[str, Tensor]) -> Tensor:
        """Return what the operator makes of x (B, ...) when it draws by these keys."""
        rows, parts = params["key"], []
        heads = rows[:, :2].unique(dim=0)  # samples of one draw share it: they go together
        for head in heads:
            here = (rows[:, :2] == head).all(1).nonzero()[:, 0]
            keys = Keys((int(head[0]), int(head[1])), rows[here, 2] | rows[here, 3] << 32)
            parts.append((here, self._fast.apply(x[here], self._fast.sample(keys))))
        if len(parts) == 1:
            return parts[0][1]
        made = torch.empty_like(x)
        for here, part in parts:
            made[here] = part
        return made

    def contain(self, params: Mapping[str, Tensor]) -> Tensor:
        """Return (B,) bool: these are keys; any of them may be drawn by.

        Raises:
            ValueError: other names.
        """
        if set(params) != {"key"}:
            raise ValueError(f"draws of {self.operator.name} are known by 'key', got {sorted(params)}")
        return ((params["key"] >= 0) & (params["key"] < 1 << 32)).all(1)


def _parts(operator: Operator) -> Iterator[Operator]:
    yield operator
    for child in getattr(operator, "children", ()):
        yield from _parts(child)
