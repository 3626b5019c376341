"""HopSkipJump: the gradient at the boundary, estimated from decisions alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from robustaug.attacks.ask import Ask
from robustaug.attacks.attack import Attack
from robustaug.attacks.decision import find_start, to_boundary
from robustaug.attacks.probes import ask_each, chunks
from robustaug.attacks.state import State
from robustaug.attacks.threat import L2, per_row
from robustaug.attacks.verify import broken
from robustaug.registry import register
from robustaug.rng import normal_field

JUMPS = 12


@register("attack.hopskipjump", tags={"decision", "minimal-norm"})
@dataclass(frozen=True, kw_only=True, repr=False)
class HopSkipJump(Attack):
    """Go to the boundary, estimate its normal from decisions, jump along it, and go back to the boundary.

    Chen et al. 2020, "HopSkipJumpAttack", arXiv:1904.02144, algorithm 2. All sizes of the geometric search are asked at
    once, so that each sample needs the same number of queries. With fewer than 100 values a sample the published
    tolerance of the boundary, d^(-3/2), and radius of the probes, the distance over d, are coarse: they are 0.001 and
    0.01 of the distance at most.

    Attributes:
        steps: estimates; each takes `probes` sqrt(step) queries, and about 30 more.
        probes: queries of the first estimate.
        most_probes: of any estimate.
        draws: random points that are asked in search of a start.
    """

    norm: str = "L2"
    steps: int = 40  # type: ignore[assignment]
    probes: int = 100
    most_probes: int = 10_000
    draws: int = 100

    minimal: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in ("steps", "probes", "most_probes", "draws"):
            self.check_count(key)

    def init(self, start: State, ask: Ask) -> State:
        return find_start(start, ask, self.targeted, self.draws)

    def step(self, state: State, ask: Ask) -> State:
        boundary = state.at(to_boundary(state, ask, self.targeted, self._halvings(state)))
        radius = state.ball.measure(state.x) * min(1 / state.x[0].numel(), 0.01)
        normal = self.normal(boundary, ask, radius)
        # the largest of the sizes distance / sqrt(step) / 1, 2, 4, ... that keeps the model broken
        sizes = state.ball.measure(boundary.x)[:, None] / math.sqrt(state.steps + 1) * 0.5 ** _count(JUMPS, state.x)
        sizes = per_row(sizes.flatten(), normal).unflatten(0, sizes.shape)
        least, most = state.ball.endless.bounds
        points = (boundary.x[:, None] + sizes * normal[:, None]).clamp(least[:, None], most[:, None])
        fell = self._fell(ask_each(ask, points), state.label)
        largest = (fell * (JUMPS - _count(JUMPS, state.x))).argmax(1)
        jumped = points[torch.arange(len(points), device=points.device), largest]
        return state.moved(torch.where(per_row(fell.any(1), jumped).bool(), jumped, boundary.x))

    def finish(self, state: State, ask: Ask) -> None:
        to_boundary(state, ask, self.targeted, self._halvings(state))

    def normal(self, state: State, ask: Ask, radius: Tensor) -> Tensor:
        """Return the direction of norm 1 that leads deepest behind the boundary at `state.x`, (B, ...).

        The mean of probes on a sphere, each with the sign of its decision, less the mean decision (section III-C,
        equation 16).

        Args:
            radius: (B,) L2 length of the probes.
        """
        least, most = state.ball.endless.bounds
        number = min(self.most_probes, int(self.probes * math.sqrt(state.steps + 1)))
        signed, plain = torch.zeros_like(state.x), torch.zeros_like(state.x)
        votes = torch.zeros_like(radius)
        keys = state.keys.fold("probes").fold(state.steps)
        for chunk, size in chunks(number):
            noise = normal_field(keys.fold(chunk).rows(), (size, *state.x.shape[1:])).to(state.x.dtype)
            if state.ball.mask is not None:
                noise = torch.where(state.ball.mask[:, None], noise, 0.0)
            noise = L2().steepest(noise.flatten(0, 1)).unflatten(0, noise.shape[:2])
            reach = per_row(radius, noise)
            points = (state.x[:, None] + reach * noise).clamp(least[:, None], most[:, None])
            vote = self._fell(ask_each(ask, points), state.label).to(radius.dtype) * 2 - 1
            probe = (points - state.x[:, None]).flatten(2)  # what the box has left of it
            signed += torch.einsum("bn,bnd->bd", vote.to(probe.dtype), probe).reshape(signed.shape)
            plain += probe.sum(1).reshape(plain.shape)
            votes += vote.sum(1)
        mean = votes / number
        centre = torch.where(mean.abs() == 1, 0.0, mean)  # all alike: the mean probe itself
        return state.ball.norm.steepest(signed - per_row(centre, plain) * plain)

    def _fell(self, logits: Tensor, label: Tensor) -> Tensor:
        number = logits.shape[1]
        flat = broken(logits.flatten(0, 1), label.repeat_interleave(number), self.targeted)
        return flat.unflatten(0, (len(label), number))

    def _halvings(self, state: State) -> int:
        values, order = state.x[0].numel(), 1.5 if self.norm == "L2" else 2.0
        finest = torch.finfo(state.x.dtype).eps
        return math.ceil(-math.log2(max(min(values**-order, 0.001), finest)))


def _count(number: int, like: Tensor) -> Tensor:
    return torch.arange(number, device=like.device)
