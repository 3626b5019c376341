"""What an attacker may do: move a sample within a norm ball of radius eps, inside the box of valid values.

Legend: B samples, ... the rest of a sample's shape (any rank), D its number of values.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from robustaug.rng import Keys, normal_field, uniform_field


class Norm(Protocol):
    """One way to measure a perturbation; all functions work on whole batches (B, ...), row by row."""

    name: ClassVar[str]
    usual_eps: ClassVar[float]
    """The budget papers use for CIFAR-10 in [0, 1]."""

    dual: ClassVar[float]
    """The order q of the dual norm: a linear function of slope w falls by eps ||w||_q at most."""

    def measure(self, delta: Tensor) -> Tensor:
        """Return each row's norm, (B,) float64."""
        ...

    def project(self, delta: Tensor, eps: Tensor, least: Tensor, most: Tensor) -> Tensor:
        """Return a near perturbation of norm at most eps (B,); `least` <= 0 <= `most` bound each value.

        The nearest one; in L2 the nearest of the ball alone, which the caller clips.
        """
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
    dual: ClassVar[float] = 1.0

    def measure(self, delta: Tensor) -> Tensor:
        return delta.flatten(1).abs().amax(1).double()

    def project(self, delta: Tensor, eps: Tensor, least: Tensor, most: Tensor) -> Tensor:
        limit = per_row(eps, delta)
        return torch.clamp(delta, -limit, limit).clamp(least, most)

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
    dual: ClassVar[float] = 2.0

    def measure(self, delta: Tensor) -> Tensor:
        return torch.linalg.vector_norm(delta.flatten(1), dim=1, dtype=torch.float64)

    def project(self, delta: Tensor, eps: Tensor, least: Tensor, most: Tensor) -> Tensor:
        scale = (eps.double() / self.measure(delta).clamp_min(1e-300)).clamp_max(1)
        # float64: each value is rounded once, which `Threat.around` allows for
        return (delta.double() * per_row(scale, delta.double())).to(delta.dtype)

    def random(self, keys: Keys, shape: Sequence[int], eps: Tensor) -> Tensor:
        direction = self.steepest(normal_field(keys.fold("direction").rows(), shape))
        # the volume within radius r grows as r^D
        radius = keys.fold("radius").uniform()[:, 0].double() ** (1 / math.prod(shape))
        return direction * per_row(eps * radius, direction)

    def steepest(self, grad: Tensor) -> Tensor:
        # float64: the square of a small float32 gradient is 0, and such gradients still point somewhere
        length = self.measure(grad).clamp_min(1e-300)
        return (grad.double() / per_row(length, grad.double())).to(grad.dtype)

    def of_ones(self, values: int) -> float:
        return math.sqrt(values)


class L1:
    """The sum of the absolute changes.

    Steps change the hundredth of the values with the largest gradients (SLIDE: Tramèr & Boneh 2019, arXiv:1904.13000,
    section 4): the single steepest value would reach the end of the box at once.
    """

    name: ClassVar[str] = "L1"
    usual_eps: ClassVar[float] = 12.0
    dual: ClassVar[float] = math.inf
    share: ClassVar[float] = 0.01

    def measure(self, delta: Tensor) -> Tensor:
        return torch.linalg.vector_norm(delta.flatten(1), ord=1, dim=1, dtype=torch.float64)

    def project(self, delta: Tensor, eps: Tensor, least: Tensor, most: Tensor) -> Tensor:
        """Shrink all values by one amount, cut at the box, so that the sum is eps: found exactly, by sorting.

        The sum of min(max(|d| - t, 0), room) falls in t along straight pieces that bend at |d| - room and |d|
        (Croce & Hein 2021, "Mind the box", arXiv:2103.01208, proposition 2.2).
        """
        size = delta.abs().flatten(1).double()
        room = torch.where(delta >= 0, most.expand_as(delta), -least.expand_as(delta)).flatten(1).double()
        kept = torch.minimum(size, room)
        over = kept.sum(1) > eps
        if not bool(over.any()):
            return delta.clamp(least, most)
        bends = torch.cat([(size - room).clamp_min(0), size], dim=1)
        # beyond its first bend a value starts to shrink (slope -1), beyond its second it is gone (slope 0)
        slopes = torch.cat([-torch.ones_like(size), torch.ones_like(size)], dim=1)
        bends, order = bends.sort(dim=1)
        slope = slopes.gather(1, order).cumsum(1)
        fall = torch.zeros_like(bends)
        fall[:, 1:] = (slope[:, :-1] * bends.diff(dim=1)).cumsum(1)
        total = kept.sum(1, keepdim=True) + fall  # the sum at each bend
        piece = (total >= eps[:, None]).sum(1, keepdim=True).clamp_min(1) - 1  # the last bend where it is still above
        at, height, steep = (v.gather(1, piece) for v in (bends, total, slope))
        shift = at + (height - eps[:, None]) / -steep.clamp_max(-1)
        shift = torch.where(over[:, None], shift, 0.0)
        shrunk = torch.minimum((size - shift).clamp_min(0), room)
        # far outside the ball the shift is only as exact as the largest value: what is still over is scaled away
        scale = (eps.double() / shrunk.sum(1).clamp_min(1e-300)).clamp_max(1)
        return ((shrunk * scale[:, None]).reshape(delta.shape) * delta.sign()).to(delta.dtype)

    def random(self, keys: Keys, shape: Sequence[int], eps: Tensor) -> Tensor:
        values = math.prod(shape)
        # shares of D + 1 exponentials are uniform on the simplex; the last is what is left of the budget
        spread = -torch.log1p(-uniform_field(keys.fold("spread").rows(), (values + 1,)).double())
        parts = (spread / spread.sum(1, keepdim=True).clamp_min(1e-300))[:, :values].reshape(-1, *shape)
        sign = uniform_field(keys.fold("sign").rows(), shape).sub_(0.5).sign()
        return (parts * per_row(eps, parts)).float() * sign

    def steepest(self, grad: Tensor) -> Tensor:
        rows = grad.abs().flatten(1)
        count = max(1, int(self.share * rows.shape[1]))
        least = rows.topk(count, dim=1).values[:, -1:]
        chosen = (rows >= least) & (rows > 0)
        share = chosen / chosen.sum(1, keepdim=True).clamp_min(1)
        return share.reshape(grad.shape).to(grad.dtype) * grad.sign()

    def of_ones(self, values: int) -> float:
        return float(values)


class L0:
    """How many values are changed; each may go anywhere in the box."""

    name: ClassVar[str] = "L0"
    usual_eps: ClassVar[float] = 24.0
    dual: ClassVar[float] = math.nan  # no norm, no dual

    def measure(self, delta: Tensor) -> Tensor:
        return (delta.flatten(1) != 0).sum(1).double()

    def project(self, delta: Tensor, eps: Tensor, least: Tensor, most: Tensor) -> Tensor:
        inside = delta.clamp(least, most)
        # how much nearer to delta a value brings us when it may change: delta^2 - (delta - inside)^2
        gain = inside.double() * (2 * delta.double() - inside.double())
        rank = gain.flatten(1).argsort(dim=1, descending=True, stable=True).argsort(dim=1)
        return torch.where((rank < eps.floor()[:, None]).reshape(delta.shape), inside, 0.0)

    def random(self, keys: Keys, shape: Sequence[int], eps: Tensor) -> Tensor:
        rank = uniform_field(keys.fold("place").rows(), shape).flatten(1).argsort(dim=1).argsort(dim=1)
        value = uniform_field(keys.fold("value").rows(), shape).mul_(2).sub_(1)
        return torch.where((rank < eps.floor()[:, None]).reshape(value.shape), value, 0.0)

    def steepest(self, grad: Tensor) -> Tensor:
        best = grad.abs().flatten(1).argmax(1, keepdim=True)
        unit = torch.zeros_like(grad).flatten(1).scatter(1, best, 1.0)
        return unit.reshape(grad.shape) * grad.sign()

    def of_ones(self, values: int) -> float:
        return float(values)


NORMS: dict[str, Norm] = {norm.name: norm for norm in (Linf(), L2(), L1(), L0())}


@dataclass(frozen=True)
class Threat:
    """A norm and a box. Clean samples are taken to lie in the box.

    Attributes:
        norm: measures perturbations.
        low, high: every value of a sample stays in [low, high]: a number, infinite for no limit, or a tensor of the
            shape of one sample where each value has limits of its own.
    """

    norm: Norm
    low: float | Tensor = 0.0
    high: float | Tensor = 1.0

    @property
    def width(self) -> float:
        """The greatest distance between the two sides of the box."""
        return float((torch.as_tensor(self.high) - torch.as_tensor(self.low)).max())

    def around(self, clean: Tensor, eps: Tensor, mask: Tensor | None = None) -> Ball:
        """Return where samples may go; no norm is above eps (B,) after rounding to the dtype of `clean`.

        Rounding moves a value v by up to u |v|, with u half of the dtype's eps. Storing delta and then clean + delta
        so adds u eps and u (the norm of clean + eps) at most, by the triangle inequality; eps shrinks by that. Where
        it is smaller, nothing can be changed safely and the radius is 0.

        Args:
            clean: (B, ...) samples in the box.
            mask: (B, ...) bool, the values that may be changed; all when left out.
        """
        if self.norm.name == "L0":
            return Ball(self, clean, eps, mask)
        unit = torch.finfo(clean.dtype).eps  # twice u: more than the products of roundings come to
        return Ball(self, clean, (eps * (1 - unit) - unit / 2 * self.norm.measure(clean)).clamp_min(0), mask)


@dataclass(frozen=True)
class Ball:
    """Where each sample of a batch may go: the ball around it, the box, and the values that may be changed.

    Attributes:
        threat: the norm and the box.
        clean: (B, ...) the centres.
        eps: (B,) float64, the radii; infinite for no limit.
        mask: (B, ...) bool, the values that may be changed; None for all.
    """

    threat: Threat
    clean: Tensor
    eps: Tensor
    mask: Tensor | None = None

    @property
    def norm(self) -> Norm:
        """The norm that perturbations are measured in."""
        return self.threat.norm

    @cached_property
    def bounds(self) -> tuple[Tensor, Tensor]:
        """The least and the most that each value may become, (B, ...) both."""
        box, clean = (self.threat.low, self.threat.high), self.clean
        low, high = (torch.as_tensor(side, dtype=clean.dtype, device=clean.device) for side in box)
        if self.norm.name == "Linf":  # here the ball is a box too: projecting is one clamp
            eps = per_row(self.eps, self.clean)
            least, most = torch.maximum(self.clean - eps, low), torch.minimum(self.clean + eps, high)
        else:
            least, most = low.expand_as(self.clean), high.expand_as(self.clean)
        # what rounding put beside the box may stay there
        least, most = torch.minimum(least, self.clean), torch.maximum(most, self.clean)
        if self.mask is not None:
            least, most = torch.where(self.mask, least, self.clean), torch.where(self.mask, most, self.clean)
        return least, most

    def take(self, rows: Tensor | slice) -> Ball:
        """Return the balls of some samples, by positions or a slice."""
        mask = None if self.mask is None else self.mask[rows]
        return Ball(self.threat, self.clean[rows], self.eps[rows], mask)

    def within(self, eps: Tensor) -> Ball:
        """Return the balls with other radii (B,)."""
        return Ball(self.threat, self.clean, eps, self.mask)

    @cached_property
    def endless(self) -> Ball:
        """The box and the mask alone: the ball without its radius."""
        return self.within(torch.full_like(self.eps, torch.inf))

    def measure(self, x: Tensor) -> Tensor:
        """Return how far x is from the clean samples, (B,) float64, exact for x as it is stored."""
        return self.norm.measure(x.double() - self.clean.double())

    def project(self, x: Tensor) -> Tensor:
        """Return x moved into the ball and into the box; clipping to the box never leaves the ball."""
        least, most = self.bounds
        if self.norm.name == "Linf":
            return torch.clamp(x, least, most)
        delta = self.norm.project(x - self.clean, self.eps, least - self.clean, most - self.clean)
        return (self.clean + delta).clamp(least, most)

    def start(self, keys: Keys) -> Tensor:
        """Return points drawn uniformly from the ball, clipped to the box."""
        delta = self.norm.random(keys, self.clean.shape[1:], self.eps).to(self.clean.dtype)
        return self.project(self.clean + self.masked(delta))

    def masked(self, delta: Tensor) -> Tensor:
        """Return delta (B, ...) with zeros where nothing may be changed."""
        return delta if self.mask is None else torch.where(self.mask, delta, 0.0)

    def climb(self, x: Tensor, grad: Tensor, size: Tensor) -> Tensor:
        """Return x after one step of steepest ascent, `size` (B,) long in the norm, projected."""
        grad = self.masked(grad)
        if self.norm.name in ("L1", "L0"):  # few values move a step: none of them may stand at its limit already
            least, most = self.bounds
            grad = torch.where(((x >= most) & (grad > 0)) | ((x <= least) & (grad < 0)), 0.0, grad)
        return self.project(x + per_row(size, x) * self.norm.steepest(grad))


def within(norm: Tensor, eps: Tensor) -> Tensor:
    """Return (B,) bool: a distance (B,) is no more than eps (B,), but for one millionth that rounding may add."""
    return norm <= eps * (1 + 1e-6)


def per_row(value: Tensor, like: Tensor) -> Tensor:
    """Reshape (B,) so that it broadcasts over the rows of `like`, in its dtype."""
    return value.to(like.dtype).reshape(-1, *[1] * (like.ndim - 1))
