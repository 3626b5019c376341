"""What an attacker may do: move a sample within a norm ball of radius eps, inside the box of valid values.

Legend: B samples, ... the rest of a sample's shape (any rank), D its number of values.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from robustaug.rng import Keys, normal_field, uniform_field


class Norm(Protocol):
    """One way to measure a perturbation; all functions work on whole batches (B, ...), row by row."""

    name: ClassVar[str]
    usual_eps: ClassVar[float]
    """The budget papers use for CIFAR-10 in [0, 1]."""

    def measure(self, delta: Tensor) -> Tensor:
        """Return each row's norm, (B,) float64."""
        ...

    def project(self, delta: Tensor, eps: Tensor) -> Tensor:
        """Return the nearest perturbation of norm at most eps (B,)."""
        ...

    def random(self, keys: Keys, shape: Sequence[int], eps: Tensor) -> Tensor:
        """Draw (B, *shape) float32 uniformly from the ball of radius eps (B,)."""
        ...

    def steepest(self, grad: Tensor) -> Tensor:
        """Return the direction of norm 1 along which the loss grows fastest; zero where the gradient is zero."""
        ...

    def of_ones(self, values: int) -> float:
        """Return the norm of a vector of `values` ones."""
        ...


class Linf:
    """The largest absolute change of any value."""

    name: ClassVar[str] = "Linf"
    usual_eps: ClassVar[float] = 8 / 255

    def measure(self, delta: Tensor) -> Tensor:
        return delta.flatten(1).abs().amax(1).double()

    def project(self, delta: Tensor, eps: Tensor) -> Tensor:
        limit = per_row(eps, delta)
        return torch.clamp(delta, -limit, limit)

    def random(self, keys: Keys, shape: Sequence[int], eps: Tensor) -> Tensor:
        unit = uniform_field(keys.rows(), shape).mul_(2).sub_(1)
        return unit.mul_(per_row(eps, unit))

    def steepest(self, grad: Tensor) -> Tensor:
        return grad.sign()

    def of_ones(self, values: int) -> float:
        return 1.0


class L2:
    """The Euclidean length of the change."""

    name: ClassVar[str] = "L2"
    usual_eps: ClassVar[float] = 0.5

    def measure(self, delta: Tensor) -> Tensor:
        return torch.linalg.vector_norm(delta.flatten(1), dim=1, dtype=torch.float64)

    def project(self, delta: Tensor, eps: Tensor) -> Tensor:
        scale = (eps.double() / self.measure(delta).clamp_min(1e-300)).clamp_max(1)
        return delta * per_row(scale, delta)

    def random(self, keys: Keys, shape: Sequence[int], eps: Tensor) -> Tensor:
        direction = self.steepest(normal_field(keys.fold("direction").rows(), shape))
        # the volume within radius r grows as r^D
        radius = keys.fold("radius").uniform()[:, 0].double() ** (1 / math.prod(shape))
        return direction * per_row(eps * radius, direction)

    def steepest(self, grad: Tensor) -> Tensor:
        # float64: the square of a small float32 gradient is 0, and such gradients still point somewhere
        length = self.measure(grad).clamp_min(1e-300)
        return (grad.double() / length.reshape(-1, *[1] * (grad.ndim - 1))).to(grad.dtype)

    def of_ones(self, values: int) -> float:
        return math.sqrt(values)


NORMS: dict[str, Norm] = {norm.name: norm for norm in (Linf(), L2())}


@dataclass(frozen=True)
class Threat:
    """A norm and a box. Clean samples are taken to lie in the box.

    Attributes:
        norm: measures perturbations.
        low, high: every value of a sample stays in [low, high]; infinite for no limit.
    """

    norm: Norm
    low: float = 0.0
    high: float = 1.0

    def radius(self, clean: Tensor, eps: Tensor) -> Tensor:
        """Return the radius (B,) to search in, so that after rounding to the dtype of `clean` no norm is above eps.

        Storing clean + delta moves each value by up to half a unit in the last place; eps shrinks by the norm of
        that. Where eps is below it, nothing can be changed safely and the radius is 0.
        """
        rows = clean.flatten(1)
        largest = rows.abs().amax(1).double() + eps
        slack = torch.finfo(clean.dtype).eps / 2 * self.norm.of_ones(rows.shape[1])
        return (eps - slack * largest).clamp_min(0)

    def project(self, clean: Tensor, x: Tensor, eps: Tensor) -> Tensor:
        """Return x moved into the ball around `clean` and into the box; clipping to the box never leaves the ball."""
        return (clean + self.norm.project(x - clean, eps)).clamp(self.low, self.high)

    def start(self, clean: Tensor, eps: Tensor, keys: Keys) -> Tensor:
        """Return points drawn uniformly from the ball around `clean`, clipped to the box."""
        delta = self.norm.random(keys, clean.shape[1:], eps).to(clean.dtype)
        return self.project(clean, clean + delta, eps)

    def climb(self, clean: Tensor, x: Tensor, grad: Tensor, size: Tensor, eps: Tensor) -> Tensor:
        """Return x after one step of steepest ascent, `size` (B,) long in the norm, projected."""
        return self.project(clean, x + per_row(size, x) * self.norm.steepest(grad), eps)


def per_row(value: Tensor, like: Tensor) -> Tensor:
    """Reshape (B,) so that it broadcasts over the rows of `like`, in its dtype."""
    return value.to(like.dtype).reshape(-1, *[1] * (like.ndim - 1))
