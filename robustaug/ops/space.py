"""Declared parameters: what may be drawn, from where, in which unit, and what severity 1 to 5 means.

One declaration serves sampling, checking, the catalogue, the property tests and the attacks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from robustaug.config import parse_ratio
from robustaug.rng import Keys

Value = float | int | bool


@dataclass(frozen=True)
class Space:
    """One parameter of an operator.

    Attributes:
        distribution: "uniform", "log_uniform", "integer", "choice" or "key".
        low, high: the range drawn from, both ends included for integers; equal ends fix the value.
        values: what "choice" picks from, each as likely.
        unit: shown to people: "px", "degrees", "×", ...
        identity: the value at which the operator changes nothing, if there is one.
        severity: five specifications (a number, a (low, high) pair, or {"choice": [...]}) for severity 1 to 5.
        bounds: the least and greatest value that makes sense, None for no limit.
        shape: draws a sample, () for one number.
    """

    distribution: str
    low: float = 0.0
    high: float = 0.0
    values: tuple[Value, ...] = ()
    unit: str = ""
    identity: Value | None = None
    severity: tuple[Any, Any, Any, Any, Any] | None = None
    bounds: tuple[float | None, float | None] = (None, None)
    shape: tuple[int, ...] = ()

    def sample(self, keys: Keys) -> Tensor:
        """Draw (B, *shape): float32, int64 for integers, bool for true/false; key rows (B, 4) for "key"."""
        if self.distribution == "key":
            return keys.rows()
        return self.at(keys.uniform(math.prod(self.shape))).reshape(len(keys), *self.shape)

    def at(self, u: Tensor) -> Tensor:
        """Return the values that lie at shares u in [0, 1] of the space; differentiable where values are real.

        Raises:
            ValueError: the space is that of a random key, which has no order.
        """
        if self.distribution == "uniform":
            return self.low + u * (self.high - self.low)
        if self.distribution == "log_uniform":
            return torch.exp(math.log(self.low) + u * (math.log(self.high) - math.log(self.low)))
        if self.distribution == "integer":
            place = torch.floor(u * (self.high - self.low + 1)).clamp(max=self.high - self.low)
            return (self.low + place).to(torch.int64)
        if self.distribution == "choice":
            table = torch.tensor(self.values, device=u.device)
            return table[(u * len(self.values)).to(torch.int64).clamp(max=len(self.values) - 1)]
        raise ValueError("a random key has no values to choose from; draw it with sample")

    def contains(self, drawn: Tensor) -> Tensor:
        """Return (B,) bool: every value of the row, (B, *shape) or (B, 4) for a key, could have been drawn here.

        Real numbers may be beside the range by the rounding of float32.
        """
        values = drawn.reshape(len(drawn), math.prod(drawn.shape[1:]))
        if self.distribution == "key":
            good = (values >= 0) & (values < 1 << 32)
        elif self.distribution == "choice":
            table = torch.tensor(self.values, device=values.device)
            good = (values[:, :, None] == table).any(2)
        else:
            slip = 0.0 if self.distribution == "integer" else 1e-6 * max(abs(self.low), abs(self.high))
            good = (values >= self.low - slip) & (values <= self.high + slip)
        return good.all(1)

    @property
    def is_real(self) -> bool:
        """Whether it is a range of real numbers, with more than one in it."""
        return self.distribution in ("uniform", "log_uniform") and self.low < self.high

    @property
    def count(self) -> float:
        """How many values a number drawn here can have: infinite for a range of real numbers and for a key."""
        if self.distribution == "choice":
            return len(set(self.values))
        if self.distribution == "integer":
            return self.high - self.low + 1
        return math.inf if self.is_real or self.distribution == "key" else 1

    def override(self, name: str, spec: Any) -> Space:
        """Return this space narrowed to what a user gave.

        Args:
            name: "operator: parameter", for messages.
            spec: a number (fixed), a [low, high] pair, {"choice": [...]}; for a choice also a plain list.

        Raises:
            ValueError: the value is not of this form or lies outside the bounds.
        """
        if self.distribution == "key":
            raise ValueError(f"{name} is a random key and cannot be set; pass another seed instead")
        if isinstance(spec, dict) and set(spec) == {"choice"}:
            values = tuple(self._number(name, v) for v in spec["choice"])
        elif self.distribution == "choice":
            values = tuple(self._number(name, v) for v in (spec if isinstance(spec, (list, tuple)) else [spec]))
        else:
            return self._range(name, spec)
        if not values:
            raise ValueError(f"{name} needs at least one value to choose from")
        if self.distribution == "integer":
            values = tuple(self._whole(name, value) for value in values)
        elif self.distribution != "choice":
            values = tuple(float(value) for value in values)  # a whole number must not turn the draw into int64
        return replace(self, distribution="choice", values=values)

    def _range(self, name: str, spec: Any) -> Space:
        pair = spec if isinstance(spec, (list, tuple)) else (spec, spec)
        if len(pair) != 2:
            raise ValueError(f"{name} must be a number or a [low, high] pair, got {spec!r}")
        low, high = (float(self._number(name, value)) for value in pair)
        if low > high:
            raise ValueError(f"{name} must have low <= high, got [{low:g}, {high:g}]")
        if self.distribution == "integer":
            low, high = self._whole(name, low), self._whole(name, high)
        return replace(self, low=low, high=high)

    @staticmethod
    def _whole(name: str, value: Value) -> int:
        if value % 1:
            raise ValueError(f"{name} must be a whole number, got {value:g}")
        return int(value)

    def _number(self, name: str, value: Any) -> Value:
        value = parse_ratio(value)
        if not isinstance(value, (int, float)) or not math.isfinite(value):
            raise ValueError(f"{name} must be a finite number, got {value!r}")
        low, high = self.bounds
        if low is not None and value < low:
            raise ValueError(f"{name} must be >= {low:g}, got {value:g}")
        if high is not None and value > high:
            raise ValueError(f"{name} must be <= {high:g}, got {value:g}")
        return value

    def spec(self) -> Any:
        """Return what `override` reads back into this space."""
        if self.distribution == "choice":
            values = [*self.values]
            return {"choice": values} if len(values) > 1 else values[0]
        number = int if self.distribution == "integer" else float
        return number(self.low) if self.low == self.high else [number(self.low), number(self.high)]

    def describe(self) -> str:
        """Return the space in words: "0.6 to 1.4 ×"."""
        if self.distribution == "key":
            return "random key"
        if self.distribution == "choice":
            text = " | ".join(str(v) for v in self.values)
        elif self.low == self.high:
            text = f"{self.low:g}"
        else:
            text = f"{self.low:g} to {self.high:g}" + (" (log)" if self.distribution == "log_uniform" else "")
        return f"{text} {self.unit}".rstrip()


def uniform(low: float, high: float, **declared: Any) -> Space:
    """A real number, each value of [low, high) as likely."""
    return Space("uniform", low, high, **declared)


def log_uniform(low: float, high: float, **declared: Any) -> Space:
    """A positive real number, each ratio as likely: for scales and counts of photons."""
    declared.setdefault("bounds", (1e-12, None))
    return Space("log_uniform", low, high, **declared)


def integer(low: int, high: int, **declared: Any) -> Space:
    """A whole number in [low, high], both ends included."""
    return Space("integer", low, high, **declared)


def choice(values: Sequence[Value], **declared: Any) -> Space:
    """One of the values, each as likely."""
    return Space("choice", values=tuple(values), **declared)


def fixed(value: float, **declared: Any) -> Space:
    """A value that stays the same unless a user sets it."""
    return Space("uniform", value, value, **declared)


def noise_key() -> Space:
    """A random key a sample, from which `apply` draws a whole field of noise: storable and replayable."""
    return Space("key")
