"""The fast gradient sign method after a random step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from robustaug.attacks.ask import Ask
from robustaug.attacks.attack import Attack
from robustaug.attacks.state import State
from robustaug.registry import register
from robustaug.rng import normal_field


@register("attack.rfgsm", tags={"gradient", "single-step", "transfer"})
@dataclass(frozen=True, kw_only=True, repr=False)
class RFGSM(Attack):
    """Take a random step, then one along the gradient's sign there; together they are eps long.

    Tramèr et al. 2018, "Ensemble adversarial training", arXiv:1705.07204, equations 7 and 8: the random step gets the
    sign of a Gaussian draw. In L2 both steps keep their direction and get the length instead.

    Attributes:
        share: of eps that the random step takes, in (0, 1).
        loss: what is pushed up: "ce", "margin" or "dlr".
    """

    steps: ClassVar[int] = 1  # type: ignore[misc]
    share: float | str = 0.5
    loss: str = "ce"  # type: ignore[misc]

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_number("share", most=1)

    def init(self, start: State, ask: Ask) -> State:
        direction = normal_field(start.keys.fold("direction").rows(), start.x.shape[1:]).to(start.x.dtype)
        return start.at(start.ball.climb(start.x, direction, float(self.share) * start.eps))

    def step(self, state: State, ask: Ask) -> State:
        grad = ask.gradient(state.x, self.objective, state.label).grad
        return state.moved(state.ball.climb(state.x, grad, (1 - float(self.share)) * state.eps))
