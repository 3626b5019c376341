"""The fast gradient sign method around strong noise, for training in one step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from robustaug.attacks.ask import Ask
from robustaug.attacks.attack import Attack
from robustaug.attacks.state import State
from robustaug.registry import register


@register("attack.nfgsm", tags={"gradient", "single-step"})
@dataclass(frozen=True, kw_only=True, repr=False)
class NFGSM(Attack):
    """Add strong noise, take one step along the gradient's sign there, and stay where that leads.

    de Jorge et al. 2022, "Make some noise: reliable and efficient single-step adversarial training" (N-FGSM),
    arXiv:2202.01181. The point is not brought back to within eps, which keeps training in one step from
    catastrophic overfitting: what training sees may be as far as noise eps + step_size away. A claim that a model is
    broken keeps to eps as any other: there the point's projection is judged.

    Attributes:
        noise: its greatest size in units of eps, uniform in the ball; published 2.
        step_size: length of the step in the norm: a number or a fraction; eps, as published, when left out.
        loss: what is pushed up: "ce", "margin" or "dlr".
    """

    steps: ClassVar[int] = 1  # type: ignore[misc]
    noise: float = 2.0
    step_size: float | str | None = None
    loss: str = "ce"  # type: ignore[misc]

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_number("noise")
        if self.step_size is not None:
            self.check_number("step_size")

    def init(self, start: State, ask: Ask) -> State:
        return start.at(start.ball.within(self.noise * start.eps).start(start.keys))

    def step(self, state: State, ask: Ask) -> State:
        grad = ask.gradient(state.x, self.objective, state.label).grad
        return state.moved(state.ball.endless.climb(state.x, grad, self.step_length(state.eps, self.step_size, 1.0)))

    def finish(self, state: State, ask: Ask) -> None:
        ask.logits(state.ball.project(state.x), self.objective, state.label)
