"""FAB, the fast adaptive boundary attack: the nearest point across the boundary."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from robustaug.attacks.apgd import likeliest
from robustaug.attacks.ask import Ask
from robustaug.attacks.attack import Attack
from robustaug.attacks.hyperplane import step_onto
from robustaug.attacks.losses import margin_to
from robustaug.attacks.state import State
from robustaug.attacks.threat import per_row
from robustaug.attacks.verify import broken
from robustaug.registry import register


@register("attack.fab_t", tags={"gradient", "minimal-norm"})
@dataclass(frozen=True, kw_only=True, repr=False)
class FABT(Attack):
    """Step onto the linearised boundary to a target class, drawn towards the sample, and back again once across.

    Croce & Hein 2020, arXiv:1907.02044, algorithm 1, for one target class a round as in AutoAttack. The gradient at
    a point that is not across serves as its verdict too, where the published code asks the model twice.

    Attributes:
        steps: of each target.
        targets: how many classes to try, the likeliest on the clean sample first; all wrong ones if there are fewer.
        alpha_max: the most that a step is drawn towards the step from the clean sample.
        eta: how far across the linearised boundary a step goes.
        beta: the share of the way from the clean sample that is left after a step back.
    """

    norms: ClassVar[tuple[str, ...]] = ("Linf", "L2", "L1")
    can_target: ClassVar[bool] = False
    minimal: ClassVar[bool] = True
    reads_logits: ClassVar[bool] = True

    steps: int = 100  # type: ignore[assignment]
    targets: int = 9
    alpha_max: float = 0.1
    eta: float = 1.05
    beta: float = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_count("steps")
        self.check_count("targets")
        _check_shares(self)

    def rounds(self, classes: int) -> int:
        return self.restarts * min(self.targets, classes - 1)

    def init(self, start: State, ask: Ask) -> State:
        restart = start.round // min(self.targets, start.logits.shape[1] - 1)
        return begin(start, restart, target=likeliest(start, self.targets))

    def step(self, state: State, ask: Ask) -> State:
        def look(at: Tensor | slice, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            asked = ask if isinstance(at, slice) else ask.of(at)
            return asked.gradient(x, margin_to, state.label[at], state.memory["target"][at])

        return advance(state, ask, look, self.alpha_max, self.eta, self.beta)


@register("attack.fab", tags={"gradient", "minimal-norm"})
@dataclass(frozen=True, kw_only=True, repr=False)
class FAB(Attack):
    """Step onto the nearest linearised boundary of any class, drawn towards the sample, and back again once across.

    Croce & Hein 2020, arXiv:1907.02044, algorithm 1. A step needs the gradient of every logit; `attack.fab_t` needs
    one, and is the cheaper where there are many classes.

    Attributes:
        steps: of each restart.
        alpha_max, eta, beta: as in `attack.fab_t`.
    """

    norms: ClassVar[tuple[str, ...]] = ("Linf", "L2", "L1")
    can_target: ClassVar[bool] = False
    minimal: ClassVar[bool] = True
    reads_logits: ClassVar[bool] = True  # for their number

    steps: int = 100  # type: ignore[assignment]
    alpha_max: float = 0.1
    eta: float = 1.05
    beta: float = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_count("steps")
        _check_shares(self)

    def init(self, start: State, ask: Ask) -> State:
        return begin(start, start.round)

    def step(self, state: State, ask: Ask) -> State:
        classes = torch.arange(state.logits.shape[1], device=state.x.device)

        def look(at: Tensor | slice, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            asked = ask if isinstance(at, slice) else ask.of(at)
            label = state.label[at]
            logits, grads = asked.jacobian(x, classes.expand(len(x), -1))
            gap = logits.double() - logits.double().gather(1, label[:, None])
            own = grads[torch.arange(len(x), device=x.device), label]
            slopes = (grads - own[:, None]).flatten(2)
            dual = torch.linalg.vector_norm(slopes.double(), ord=state.ball.norm.dual, dim=2)
            far = torch.where(classes == label[:, None], torch.inf, gap.abs() / dual.clamp_min(1e-12))
            nearest = far.argmin(1)
            chosen = slopes.gather(1, nearest[:, None, None].expand(-1, 1, slopes.shape[2]))
            return logits, gap.gather(1, nearest[:, None])[:, 0], chosen.reshape(x.shape)

        return advance(state, ask, look, self.alpha_max, self.eta, self.beta)


Look = Callable[[Any, Tensor], tuple[Tensor, Tensor, Tensor]]
"""From the positions of some samples and their points to logits, the margin to a class and its gradient there."""


def begin(start: State, restart: int, **memory: Tensor) -> State:
    """Return the start of one run: the sample itself, then anywhere in half the ball."""
    x = start.x if restart == 0 else start.ball.within(_reach(start) / 2).start(start.keys)
    return start.at(x, across=torch.zeros_like(start.label, dtype=torch.bool), **memory)


def advance(state: State, ask: Ask, look: Look, alpha_max: float, eta: float, beta: float) -> State:
    """Return the state after one step onto the boundary that `look` sees.

    The published code asks for a verdict at each point, and then for the gradient there, or a step back where it is
    across. A gradient comes with a verdict, so the verdict alone is only worth a pass where one expects to step back:
    where the last point was across.
    """
    x, across = state.x, state.memory["across"].clone()
    rows = across.nonzero()[:, 0]
    if len(rows):
        logits = ask.of(rows).logits(x[rows])
        across[rows] = broken(logits, state.label[rows])
        x = _back(state, x, across, beta)
    logits, gap, grad = look(slice(None), x)
    surprised = broken(logits, state.label) & ~across
    rows = surprised.nonzero()[:, 0]
    if len(rows):
        x = _back(state, x, surprised, beta)
        gap, grad = gap.clone(), grad.clone()
        _, gap[rows], grad[rows] = look(rows, x[rows])
    grad = state.ball.masked(grad)
    here = step_onto(state.ball, x, grad, -gap)
    back = ((x - state.clean) * grad).flatten(1).sum(1, dtype=torch.float64)
    there = step_onto(state.ball, state.clean, grad, back - gap)
    own, drawn = (state.ball.norm.measure(way).clamp_min(1e-8) for way in (here, there))
    alpha = per_row((own / (own + drawn)).clamp_max(alpha_max), x)
    moved = (x + eta * here) * (1 - alpha) + (state.clean + eta * there) * alpha
    return state.moved(moved.clamp(*state.ball.endless.bounds), across=across | surprised)


def _back(state: State, x: Tensor, across: Tensor, beta: float) -> Tensor:
    """Take the samples that are across back towards where they started."""
    return torch.where(per_row(across, x).bool(), state.clean + beta * (x - state.clean), x)


def _check_shares(attack: FABT | FAB) -> None:
    attack.check_number("alpha_max", 0, 1, open_=False)
    attack.check_number("eta", 1, open_=False)
    attack.check_number("beta", 0, 1)


def _reach(start: State) -> Tensor:
    """The budget, or where there is none a tenth of the box."""
    usual = torch.full_like(start.eps, 0.1 * min(start.ball.threat.width, 1.0))
    return torch.where(start.eps.isinf(), usual, start.eps)
