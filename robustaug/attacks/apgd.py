"""Auto-PGD: projected gradient descent that sets its own step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from robustaug.attacks import apgd_l1
from robustaug.attacks.ask import Answer, Ask
from robustaug.attacks.attack import Attack
from robustaug.attacks.losses import dlr_to
from robustaug.attacks.preset import preset
from robustaug.attacks.state import State
from robustaug.attacks.threat import per_row
from robustaug.registry import register

MOMENTUM = 0.75
RISING = 0.75
"""The share of steps in a window that must raise the loss, or else the step is halved."""


@register("attack.apgd", tags={"gradient"})
@dataclass(frozen=True, kw_only=True, repr=False)
class APGD(Attack):
    """Climb the loss with momentum, from a step of 2 eps that is halved, and taken up again at the best point, when
    the loss stops rising.

    Croce & Hein 2020, arXiv:2003.01690, algorithm 1; for L1 Croce & Hein 2021, arXiv:2103.01208, algorithm 1. Rises
    are counted from the loss at the start, as in the paper; the published code compares the first one with zero.

    Attributes:
        steps: gradients a restart.
        loss: "ce" (cross-entropy), "dlr" (difference of logits ratio) or "margin".
        eot: passes a gradient is averaged over, for models that are random.
    """

    norms: ClassVar[tuple[str, ...]] = ("Linf", "L2", "L1")

    steps: int = 100  # type: ignore[assignment]
    loss: str = "ce"  # type: ignore[misc]
    eot: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_count("steps")
        self.check_count("eot")

    def init(self, start: State, ask: Ask) -> State:
        return begin(start, self.steps)

    def step(self, state: State, ask: Ask) -> State:
        return advance(state, ask.gradient(state.x, self.objective, state.label, repeats=self.eot), self.steps)


@register("attack.apgd_t", tags={"gradient"})
@dataclass(frozen=True, kw_only=True, repr=False)
class APGDT(Attack):
    """Run Auto-PGD towards each of the likeliest wrong classes in turn, on the targeted difference of logits ratio.

    Any wrong class counts. Below four classes, where that loss is not defined, the margin to the target is used.
    Croce & Hein 2020, arXiv:2003.01690, section 5.

    Attributes:
        steps: gradients a target.
        targets: how many classes to try, the likeliest on the clean sample first; all wrong ones if there are fewer.
        skip: how many of the likeliest classes to leave out.
        eot: passes a gradient is averaged over, for models that are random.
    """

    norms: ClassVar[tuple[str, ...]] = ("Linf", "L2", "L1")
    can_target: ClassVar[bool] = False
    reads_logits: ClassVar[bool] = True

    steps: int = 100  # type: ignore[assignment]
    targets: int = 9
    skip: int = 0
    eot: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in ("steps", "targets", "eot"):
            self.check_count(key)
        self.check_count("skip", least=0)

    def rounds(self, classes: int) -> int:
        return self.restarts * max(0, min(self.targets, classes - 1 - self.skip))

    def init(self, start: State, ask: Ask) -> State:
        return begin(start, self.steps, target=likeliest(start, self.targets, self.skip))

    def step(self, state: State, ask: Ask) -> State:
        rows = state.label, state.memory["target"]
        return advance(state, ask.gradient(state.x, dlr_to, *rows, repeats=self.eot), self.steps)

    def finish(self, state: State, ask: Ask) -> None:
        ask.logits(state.x, dlr_to, state.label, state.memory["target"])


preset(
    "attack.apgd_ce",
    APGD,
    """Climb the cross-entropy by Auto-PGD: `attack.apgd` by the name AutoAttack gives it.""",
    tags={"gradient"},
)
preset(
    "attack.apgd_dlr",
    APGD,
    """Climb the difference of logits ratio by Auto-PGD: `attack.apgd` by the name AutoAttack gives it.""",
    tags={"gradient"},
    loss="dlr",
)


def likeliest(start: State, targets: int, skip: int = 0) -> Tensor:
    """Return the wrong class (B,) of this round: the likeliest on the clean sample in the first, then the next."""
    wrong = start.logits.scatter(1, start.label[:, None], -torch.inf)
    rank = skip + start.round % min(targets, wrong.shape[1] - 1 - skip)
    return wrong.argsort(dim=1, descending=True, stable=True)[:, rank]


def begin(start: State, steps: int, **memory: Tensor) -> State:
    """Return the start of one run: a random point on the edge of the ball."""
    if start.ball.norm.name == "L1":
        return apgd_l1.begin(start, steps, **memory)
    direction = start.ball.masked(start.ball.norm.random(start.keys, start.clean.shape[1:], torch.ones_like(start.eps)))
    scale = start.eps / start.ball.norm.measure(direction).clamp_min(1e-12)
    x = start.ball.project(start.clean + direction.to(start.clean.dtype) * per_row(scale, start.clean))
    low = torch.full_like(start.eps, -torch.inf)
    return start.at(
        x,
        previous=x,
        best=x,
        best_grad=torch.zeros_like(x),
        best_loss=low,
        last_loss=low,
        checked_loss=low,  # the best at the last checkpoint
        halved=torch.ones_like(start.label, dtype=torch.bool),  # there: the first window has nothing to compare with
        size=2 * start.eps,
        rises=torch.zeros_like(start.label),
        **memory,
    )


def advance(state: State, answer: Answer, steps: int) -> State:
    """Return the state one step on, given what the model says at `state.x`."""
    if state.ball.norm.name == "L1":
        return apgd_l1.advance(state, answer, steps)
    old, loss = state.memory, answer.loss
    better = loss > old["best_loss"]
    best = torch.where(per_row(better, state.x).bool(), state.x, old["best"])
    best_grad = torch.where(per_row(better, state.x).bool(), answer.grad, old["best_grad"])
    best_loss = torch.where(better, loss, old["best_loss"])
    rises = old["rises"] + (loss > old["last_loss"]) * (state.steps > 0)
    x, grad, size, halved, checked = state.x, answer.grad, old["size"], old["halved"], old["checked_loss"]
    window = windows(steps).get(state.steps)
    if window is not None:
        stuck = ~halved & (checked >= best_loss)
        halved = (rises <= RISING * window) | stuck
        size = torch.where(halved, size / 2, size)
        back = per_row(halved, x).bool()
        x, grad = torch.where(back, best, x), torch.where(back, best_grad, grad)
        checked, rises = best_loss, torch.zeros_like(rises)
    moved = state.ball.climb(x, grad, size)
    if state.steps:
        moved = state.ball.project(x + MOMENTUM * (moved - x) + (1 - MOMENTUM) * (x - old["previous"]))
    return state.moved(
        moved,
        # where the run went back, the momentum is that of the point it left, as published
        previous=x,
        best=best,
        best_grad=best_grad,
        best_loss=best_loss,
        last_loss=loss,
        checked_loss=checked,
        halved=halved,
        size=size,
        rises=rises,
    )


def windows(steps: int) -> dict[int, int]:
    """Return the checkpoints of a run: after how many steps, and how many steps the window before it has.

    >>> [*windows(100)]
    [22, 41, 57, 70, 80, 87, 93, 99]
    """
    width, least, less = max(int(0.22 * steps), 1), max(int(0.06 * steps), 1), max(int(0.03 * steps), 1)
    at, found = width, {}
    while at <= steps:
        found[at] = width
        width = max(width - less, least)
        at += width
    return found
