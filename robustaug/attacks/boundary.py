"""The boundary attack: a random walk along the boundary, from the far side towards the sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from robustaug.attacks.ask import Ask
from robustaug.attacks.attack import Attack
from robustaug.attacks.decision import find_start, to_boundary
from robustaug.attacks.state import State
from robustaug.attacks.threat import per_row
from robustaug.attacks.verify import broken
from robustaug.registry import register
from robustaug.rng import normal_field

CHECK_EVERY = 10
"""Steps between two questions whether points at equal distance break the model, which the walk's length follows."""

HALVINGS = 10
"""Of the way from the first broken point to the sample, a query each: to the boundary but for a thousandth of it."""

WALK_RATE, SHRINK_RATE = 0.5, 0.25
"""The shares of steps at equal distance and of steps nearer that should succeed: the lengths settle where they do."""

ENOUGH = 1e-7
"""The length of a step nearer, as a share of the distance, below which a sample is done."""


@register("attack.boundary", tags={"decision", "minimal-norm"})
@dataclass(frozen=True, kw_only=True, repr=False)
class Boundary(Attack):
    """Walk at random at equal distance, then a little nearer, and stay wherever the model is still broken.

    Brendel et al. 2018, "Decision-based adversarial attacks", arXiv:1712.04248. Both step lengths follow how often
    steps succeed, as published (half of those at equal distance, a quarter of those nearer), but with every decision
    rather than by averages over many, so that far fewer queries are needed. A sample is done once the steps nearer
    have become shorter than 1e-7 of the distance.

    Attributes:
        steps: of the walk, a query each and every tenth time two; the paper takes 25,000 and more for ImageNet.
        walk: first length of a step at equal distance, as a share of the distance.
        shrink: first length of a step nearer, as a share of the distance.
        draws: random points that are asked in search of a start.
    """

    norm: str = "L2"
    steps: int = 5000  # type: ignore[assignment]
    walk: float = 0.01
    shrink: float = 0.01
    draws: int = 100

    norms: ClassVar[tuple[str, ...]] = ("L2",)
    minimal: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_count("steps")
        self.check_count("draws")
        self.check_number("walk", most=1.0)
        self.check_number("shrink", most=1.0)

    def init(self, start: State, ask: Ask) -> State:
        walk, shrink = (torch.full_like(start.eps, share) for share in (self.walk, self.shrink))
        state = find_start(start, ask, self.targeted, self.draws)
        return state.at(state.x, walk=walk, shrink=shrink)

    def step(self, state: State, ask: Ask) -> State:
        x = to_boundary(state, ask, self.targeted, HALVINGS) if state.steps == 0 else state.x
        walk, shrink = state.memory["walk"], state.memory["shrink"]
        beside, distance = self._beside(state, x, walk)
        if state.steps % CHECK_EVERY == 0:
            walk = _followed(walk, broken(ask.logits(beside), state.label, self.targeted), WALK_RATE)
        # the box may have changed how far `beside` is
        away = beside - state.clean
        kept = ((1 - shrink) * distance / state.ball.measure(beside).clamp_min(1e-300)).clamp_max(1)
        nearer = state.clean + per_row(kept, away) * away
        fell = broken(ask.logits(nearer), state.label, self.targeted)
        shrink = _followed(shrink, fell, SHRINK_RATE)
        return state.moved(
            torch.where(per_row(fell, x).bool(), nearer, x), walk=walk, shrink=shrink, done=shrink < ENOUGH
        )

    def finish(self, state: State, ask: Ask) -> None:
        """Do nothing: every point has been judged."""

    def _beside(self, state: State, x: Tensor, walk: Tensor) -> tuple[Tensor, Tensor]:
        """Return a random point about as far from the sample as x, and that distance (B,)."""
        norm = state.ball.norm
        distance = state.ball.measure(x)
        away = x - state.clean
        unit = norm.steepest(away)
        noise = normal_field(state.keys.fold("walk").fold(state.steps).rows(), x.shape[1:]).to(x.dtype)
        noise = state.ball.masked(noise)
        noise = noise - per_row((noise * unit).flatten(1).sum(1), unit) * unit
        moved = away + per_row(walk * distance, noise) * norm.steepest(noise)
        least, most = state.ball.endless.bounds
        return (state.clean + per_row(distance, moved) * norm.steepest(moved)).clamp(least, most), distance


def _followed(size: Tensor, held: Tensor, rate: float) -> Tensor:
    """Return sizes that grow with a success and shrink with a failure, and rest where successes come at `rate`."""
    return (size * 1.5 ** (held.to(size.dtype) - rate)).clamp_max(1)
