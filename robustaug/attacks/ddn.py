"""The decoupled direction and norm attack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from robustaug.attacks.ask import Ask
from robustaug.attacks.attack import Attack
from robustaug.attacks.nearest import begin, conclude, cosine, farthest, remember, unit
from robustaug.attacks.state import State
from robustaug.attacks.threat import NORMS, per_row
from robustaug.attacks.verify import broken
from robustaug.registry import register
from robustaug.rng import normal_field


@register("attack.ddn", tags={"gradient", "minimal-norm"})
@dataclass(frozen=True, kw_only=True, repr=False)
class DDN(Attack):
    """Turn towards the gradient, then set the length: shorter after a point that breaks the model, longer otherwise.

    Rony et al. 2019, "Decoupling direction and norm for efficient gradient-based L2 adversarial attacks and
    defenses", arXiv:1811.09600, algorithm 1. The turning step falls from 1 to 0.01 along a cosine. Where the gradient
    is zero it turns at random. We differ in five ways: it begins on the nearest boundary of the linearised model, where
    that breaks the model; a step is cut at the box before its length is set; lengths are in widths of the box (absolute
    where that is infinite) and at most that of its farthest corner; values are not rounded to 256 levels; at the end
    the nearest point is drawn nearer.

    Attributes:
        steps: gradients a restart.
        gamma: share by which the length changes each step.
        first_norm: the length at the start, in widths of the box, where it begins at the sample.
        classes: other classes whose boundaries are looked at for the start, a gradient each; restart r takes the r-th
            nearest. 0 to begin at the sample, as published.
        refine: halvings of the way from the clean sample to the nearest point at the end; 0 as published.
    """

    norm: str = "L2"
    steps: int = 100  # type: ignore[assignment]
    gamma: float = 0.05
    first_norm: float = 1.0
    classes: int = 10
    refine: int = 10

    norms: ClassVar[tuple[str, ...]] = ("L2",)
    minimal: ClassVar[bool] = True
    reads_logits: ClassVar[bool] = True
    loss: ClassVar[str] = "ce"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_count("steps")
        self.check_count("classes", least=0)
        self.check_count("refine", least=0)
        self.check_number("gamma", 0, 1)
        self.check_number("first_norm")

    def init(self, start: State, ask: Ask) -> State:
        start = begin(self, start, ask, self.classes)
        length = torch.full_like(start.eps, self.first_norm * unit(start.ball))
        return start.at(start.x, length=torch.where(start.memory["least"].isfinite(), start.memory["least"], length))

    def step(self, state: State, ask: Ask) -> State:
        ball = state.ball.endless
        answer = ask.gradient(state.x, self.objective, state.label)
        fell = broken(answer.logits, state.label, self.targeted)
        length = state.memory["length"] * torch.where(fell, 1 - self.gamma, 1 + self.gamma)
        length = torch.minimum(length, farthest(ball))
        turn = cosine(1.0, 0.01, state.steps, self.steps) * unit(ball)
        # into the box first: what it cuts off must not use up the length
        delta = (state.x + turn * self._direction(state, answer.grad)).clamp(*ball.bounds) - state.clean
        x = state.clean + per_row(length, delta) * NORMS["L2"].steepest(delta)
        return state.moved(ball.project(x), length=length, **remember(state, state.x, fell))

    def _direction(self, state: State, grad: torch.Tensor) -> torch.Tensor:
        grad = state.ball.masked(grad)
        flat = ~grad.flatten(1).any(1)
        if bool(flat.any()):
            keys = state.keys.fold("direction").fold(state.steps)
            noise = state.ball.masked(normal_field(keys.rows(), grad.shape[1:]).to(grad.dtype))
            grad = torch.where(per_row(flat, grad).bool(), noise, grad)
        return NORMS["L2"].steepest(grad)

    def finish(self, state: State, ask: Ask) -> None:
        conclude(self, state, ask, self.refine)
