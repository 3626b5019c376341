"""SPSA: the gradient estimated from losses at random pairs of points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from robustaug.attacks.adam import adam
from robustaug.attacks.ask import Ask
from robustaug.attacks.attack import Attack
from robustaug.attacks.probes import ask_each, chunks
from robustaug.attacks.state import State
from robustaug.attacks.threat import per_row
from robustaug.parameters import check_choice
from robustaug.registry import register
from robustaug.rng import uniform_field

RULES = ("adam", "steepest")


@register("attack.spsa", tags={"score"})
@dataclass(frozen=True, kw_only=True, repr=False)
class SPSA(Attack):
    """Climb a gradient estimated by moving all values at once, each at random forth or back.

    Uesato et al. 2018, "Adversarial risk and the dangers of evaluating against weak attacks", arXiv:1802.05666,
    algorithm 1; the estimate is by Spall 1992. The published evaluation takes up to 4,096 pairs and 100 steps.

    Attributes:
        steps: estimates a restart; each takes two queries a pair, and one at the point itself.
        pairs: of an estimate, at x + radius v and x - radius v.
        radius: how far a probe moves each value; probes may leave the box.
        rule: "adam" (the published), or "steepest": along the sign for Linf, along the estimate itself for L2. When
            left out "adam" for Linf and "steepest" for L2, where Adam's steps of like size in each value lead astray.
        step_size: length of a step in the norm: a number or a fraction; when left out a third of eps with Adam (the
            published 0.01 at 8/255), and 2.5 eps / steps otherwise.
        random_start: begin anywhere in the ball; otherwise at the sample itself.
        loss: what is pushed up: "margin" (the published), "ce" or "dlr".
    """

    steps: int = 100  # type: ignore[assignment]
    pairs: int = 64
    radius: float | str = 0.01
    rule: str | None = None
    step_size: float | str | None = None
    random_start: bool = False
    loss: str = "margin"  # type: ignore[misc]

    norms: ClassVar[tuple[str, ...]] = ("Linf", "L2")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_count("steps")
        self.check_count("pairs")
        self.check_number("radius")
        if self.rule is not None:
            check_choice(self.name, "rule", self.rule, RULES)
        self.check_flag("random_start")
        if self.step_size is not None:
            self.check_number("step_size")

    @property
    def takes_adam(self) -> bool:
        """Whether steps are Adam's."""
        return self.norm == "Linf" if self.rule is None else self.rule == "adam"

    def init(self, start: State, ask: Ask) -> State:
        x = start.ball.start(start.keys) if self.random_start else start.x
        if not self.takes_adam:
            return start.at(x)
        return start.at(x, mean=torch.zeros_like(x), square=torch.zeros_like(x))

    def step(self, state: State, ask: Ask) -> State:
        ask.logits(state.x, self.objective, state.label)
        grad = self.estimate(state, ask)
        if not self.takes_adam:
            return state.moved(state.ball.climb(state.x, grad, self.step_length(state.eps, self.step_size)))
        taken = torch.full_like(state.label, state.steps)
        unit, mean, square = adam(grad, state.memory["mean"], state.memory["square"], taken)
        size = self.step_length(state.eps, self.step_size, 1 / 3) / state.ball.norm.of_ones(grad[0].numel())
        return state.moved(state.ball.project(state.x + per_row(size, unit) * unit), mean=mean, square=square)

    def estimate(self, state: State, ask: Ask) -> Tensor:
        """Return an unbiased estimate of the loss's gradient at `state.x`, (B, ...), for a loss that is linear nearby.

        The mean of (loss(x + r v) - loss(x - r v)) / 2r times v, with v of random signs.
        """
        radius = float(self.radius)
        total = torch.zeros_like(state.x)
        keys = state.keys.fold("probes").fold(state.steps)
        for chunk, size in chunks(self.pairs):
            sign = uniform_field(keys.fold(chunk).rows(), (size, *state.x.shape[1:])).sub_(0.5).sign()
            sign = torch.where(sign == 0, 1.0, sign).to(state.x.dtype)
            if state.ball.mask is not None:
                sign = torch.where(state.ball.mask[:, None], sign, 0.0)
            points = torch.cat([state.x[:, None] + radius * sign, state.x[:, None] - radius * sign], dim=1)
            logits = ask_each(ask, points)
            losses = self.objective(logits.flatten(0, 1), state.label.repeat_interleave(2 * size)).reshape(-1, 2, size)
            slope = (losses[:, 0] - losses[:, 1]) / (2 * radius)
            slope = torch.nan_to_num(slope, nan=0.0, posinf=0.0, neginf=0.0).to(sign.dtype)  # no answer, no slope
            total += torch.einsum("bn,bnd->bd", slope, sign.flatten(2)).reshape(total.shape)
        return total / self.pairs
