"""Projected gradient descent that stops soon after it has crossed the boundary, for training on friendlier points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from robustaug.attacks.ask import Ask
from robustaug.attacks.attack import Attack
from robustaug.attacks.state import State
from robustaug.attacks.threat import per_row
from robustaug.attacks.verify import broken
from robustaug.registry import register


@register("attack.friendly_pgd", tags={"gradient"})
@dataclass(frozen=True, kw_only=True, repr=False)
class FriendlyPGD(Attack):
    """Climb the loss as PGD does, each sample only until `beyond` steps after the model got it wrong.

    Zhang et al. 2020, "Attacks which do not kill training make adversarial learning stronger" (FAT), arXiv:2002.11242,
    algorithm 1: of the points that the model has wrong, training sees one of low loss. As a judge it breaks what PGD
    breaks, for there a sample is done once it is broken.

    Attributes:
        steps: gradients a restart, at most.
        beyond: steps from a point that is wrong already; tau in the paper, which raises it from 0 to 3 in training.
        step_size: length of a step in the norm: a number or a fraction; 2.5 eps / steps when left out.
        random_start: begin anywhere in the ball; otherwise at the sample itself.
        loss: what is pushed up: "ce", "margin" or "dlr".
    """

    norms: ClassVar[tuple[str, ...]] = ("Linf", "L2", "L1")

    steps: int = 10  # type: ignore[assignment]
    beyond: int = 0
    step_size: float | str | None = None
    random_start: bool = True
    loss: str = "ce"  # type: ignore[misc]

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_count("steps")
        self.check_count("beyond", 0)
        self.check_start(self.random_start, self.step_size)

    def init(self, start: State, ask: Ask) -> State:
        x = start.ball.start(start.keys) if self.random_start else start.x
        return start.at(x, left=torch.full_like(start.label, self.beyond))

    def step(self, state: State, ask: Ask) -> State:
        answer, left = ask.gradient(state.x, self.objective, state.label), state.memory["left"]
        wrong = broken(answer.logits, state.label, self.targeted)
        moved = state.ball.climb(state.x, answer.grad, self.step_length(state.eps, self.step_size))
        x = torch.where(per_row(~wrong | (left > 0), moved).bool(), moved, state.x)
        return state.moved(x, left=(left - wrong.long()).clamp_min(0))
