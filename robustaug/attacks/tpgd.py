"""The inner attack of TRADES."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from robustaug.attacks.ask import Ask
from robustaug.attacks.attack import Attack
from robustaug.attacks.losses import divergence_from
from robustaug.attacks.state import State
from robustaug.registry import register
from robustaug.rng import normal_field


@register("attack.tpgd", tags={"gradient"})
@dataclass(frozen=True, kw_only=True, repr=False)
class TPGD(Attack):
    """Climb the divergence from what the model says of the clean sample, whatever the true class is.

    Zhang et al. 2019, "Theoretically principled trade-off between robustness and accuracy" (TRADES), arXiv:1901.08573,
    algorithm 1. The divergence has no slope at the sample itself, so it begins beside it.

    Attributes:
        steps: gradients a restart.
        step_size: length of a step in the norm: a number or a fraction such as "2/255"; 2.5 eps / steps when left out
            (published for eps 0.031: 0.007).
        sigma: standard deviation of the Gaussian draw that it begins at, in units of the box.
    """

    norms: ClassVar[tuple[str, ...]] = ("Linf", "L2", "L1")
    can_target: ClassVar[bool] = False
    reads_logits: ClassVar[bool] = True

    steps: int = 10  # type: ignore[assignment]
    step_size: float | str | None = None
    sigma: float | str = 0.001

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_count("steps")
        for key in ("step_size", "sigma"):
            if getattr(self, key) is not None:
                self.check_number(key)

    def init(self, start: State, ask: Ask) -> State:
        draw = normal_field(start.keys.fold("start").rows(), start.x.shape[1:]).to(start.x.dtype)
        return start.at(start.ball.project(start.x + start.ball.masked(float(self.sigma) * draw)))

    def step(self, state: State, ask: Ask) -> State:
        grad = ask.gradient(state.x, divergence_from, state.logits).grad
        return state.moved(state.ball.climb(state.x, grad, self.step_length(state.eps, self.step_size)))

    def finish(self, state: State, ask: Ask) -> None:
        ask.logits(state.x, divergence_from, state.logits)
