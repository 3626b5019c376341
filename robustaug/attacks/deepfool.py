"""DeepFool."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from robustaug.attacks.ask import Ask
from robustaug.attacks.attack import Attack
from robustaug.attacks.face import nearest_face
from robustaug.attacks.nearest import conclude, draw_nearer, nothing_yet, remember
from robustaug.attacks.state import State
from robustaug.attacks.threat import per_row
from robustaug.attacks.verify import broken
from robustaug.registry import register


@register("attack.deepfool", tags={"gradient", "minimal-norm"})
@dataclass(frozen=True, kw_only=True, repr=False)
class DeepFool(Attack):
    """Step onto the nearest boundary of the linearised model, and a little beyond, until the model breaks.

    Moosavi-Dezfooli et al. 2016, "DeepFool: a simple and accurate method to fool deep neural networks",
    arXiv:1511.04599, algorithm 2 and section 2.3 for Linf; the overshoot is part of each step, as in the authors'
    code. We differ in three ways: a value that the box lets go no farther takes no part in the linearised model; a
    targeted search steps onto the farthest boundary still to be crossed; at the end the point is drawn nearer.

    Attributes:
        steps: most steps.
        classes: other classes that are looked at, those of the largest clean logits; a gradient each.
        overshoot: how far beyond the boundary a step goes, as a share of the step.
        refine: halvings of the way from the clean sample to the point at the end; 0 as published. Restart r begins
            with the r-th nearest boundary.
    """

    norm: str = "L2"
    steps: int = 50  # type: ignore[assignment]
    classes: int = 10
    overshoot: float = 0.02
    refine: int = 10

    minimal: ClassVar[bool] = True
    reads_logits: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_count("steps")
        self.check_count("classes")
        self.check_number("overshoot", open_=False)
        self.check_count("refine", least=0)

    def init(self, start: State, ask: Ask) -> State:
        return start.at(start.x, **nothing_yet(start), done=torch.zeros_like(start.label, dtype=torch.bool))

    def step(self, state: State, ask: Ask) -> State:
        ball = state.ball.endless
        face = nearest_face(ask, state, ball, self.classes, rank=state.round if state.steps == 0 else 0)
        fell = broken(face.logits, state.label, self.targeted)
        x = ball.project(state.x + (1 + self.overshoot) * face.way)
        found = remember(state, state.x, fell)
        state = draw_nearer(self, state.at(state.x, **found), ask, self.refine)
        x = x.where(~per_row(fell, x).bool(), state.x)
        return state.moved(x, done=fell)

    def finish(self, state: State, ask: Ask) -> None:
        conclude(self, state, ask, self.refine)
