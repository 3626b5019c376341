"""The fast gradient sign method, and its form for fast adversarial training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from robustaug.attacks.ask import Ask
from robustaug.attacks.attack import Attack
from robustaug.attacks.state import State
from robustaug.registry import register


@register("attack.fgsm", tags={"gradient", "single-step"})
@dataclass(frozen=True, kw_only=True, repr=False)
class FGSM(Attack):
    """Take one step along the gradient's sign (Linf), or along the gradient itself (L2).

    Goodfellow et al. 2015, arXiv:1412.6572; with `random_start` as in Wong et al. 2020, "Fast is better than free",
    arXiv:2001.03994.

    Attributes:
        step_size: length of the step: a number or a fraction; when left out eps, or 1.25 eps from a random start.
        random_start: begin anywhere in the ball; otherwise at the sample itself.
        loss: what is pushed up: "ce", "margin" or "dlr".
    """

    steps: ClassVar[int] = 1  # type: ignore[misc]
    step_size: float | str | None = None
    random_start: bool = False
    loss: str = "ce"  # type: ignore[misc]

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_start(self.random_start, self.step_size)

    def init(self, start: State, ask: Ask) -> State:
        return start.at(start.ball.start(start.keys)) if self.random_start else start

    def step(self, state: State, ask: Ask) -> State:
        grad = ask.gradient(state.x, self.objective, state.label).grad
        size = self.step_length(state.eps, self.step_size, 1.25 if self.random_start else 1.0)
        return state.moved(state.ball.climb(state.x, grad, size))
