"""The fast minimum-norm attack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from robustaug.attacks.ask import Ask
from robustaug.attacks.attack import Attack
from robustaug.attacks.nearest import begin, conclude, cosine, farthest, remember, unit
from robustaug.attacks.state import State
from robustaug.attacks.threat import NORMS
from robustaug.attacks.verify import broken
from robustaug.registry import register


@register("attack.fmn", tags={"gradient", "minimal-norm"})
@dataclass(frozen=True, kw_only=True, repr=False)
class FMN(Attack):
    """Climb the margin inside a ball whose radius follows: smaller after a breaking point, larger otherwise.

    Until the model breaks for the first time, the radius reaches to the boundary of the linearised model. Step length
    and change of radius fall along a cosine.

    Pintor et al. 2021, "Fast minimum-norm adversarial attacks through adaptive norm constraints", arXiv:2102.12827,
    algorithm 1; L0 as in the authors' code, one value at least each time. We differ in five ways: it begins on the
    nearest boundary of the linearised model, where that breaks the model; until the model breaks the radius grows by
    `gamma` at least, since a point on the linearised boundary need not break it; a step is cut at the box before it is
    projected, and L0 and L1 are projected within the box; step lengths are in widths of the box (absolute where that
    is infinite); at the end the nearest point is drawn nearer.

    Attributes:
        steps: gradients a restart.
        step_size: L2 length of the first step, in widths of the box; the last is a hundredth of it.
        gamma: share by which the radius changes at first; 0.001 at last.
        classes: other classes whose boundaries are looked at for the start, a gradient each; restart r takes the r-th
            nearest. 0 to begin at the sample, as published.
        refine: halvings of the way from the clean sample to the nearest point at the end; 0 as published.
    """

    norm: str = "L2"
    steps: int = 100  # type: ignore[assignment]
    step_size: float = 1.0
    gamma: float = 0.05
    classes: int = 10
    refine: int = 10

    norms: ClassVar[tuple[str, ...]] = ("L0", "L1", "L2", "Linf")
    minimal: ClassVar[bool] = True
    reads_logits: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_count("steps")
        self.check_count("classes", least=0)
        self.check_count("refine", least=0)
        self.check_number("gamma", 0, 1)
        self.check_number("step_size")

    def init(self, start: State, ask: Ask) -> State:
        start = begin(self, start, ask, self.classes)
        # in L0 there is no estimate to begin with
        radius = start.memory["least"].nan_to_num(posinf=1.0) if self.norm == "L0" else start.memory["least"]
        return start.at(start.x, radius=radius)

    def step(self, state: State, ask: Ask) -> State:
        ball = state.ball.endless
        answer = ask.gradient(state.x, self.objective, state.label)
        grad = ball.masked(answer.grad)
        fell = broken(answer.logits, state.label, self.targeted)
        memory = remember(state, state.x, fell)
        gamma = cosine(self.gamma, 0.001, state.steps, self.steps)
        if self.norm == "L0":
            radius = self._count(state.memory["radius"], gamma, fell, memory["least"])
        else:
            radius = self._radius(state, gamma, fell, memory["least"], answer.loss, grad)
        radius = torch.minimum(radius, farthest(ball))
        size = cosine(self.step_size, self.step_size / 100, state.steps, self.steps) * unit(ball)
        # into the box first: what it cuts off must not use up the radius
        x = (state.x + size * NORMS["L2"].steepest(grad)).clamp(*ball.bounds)
        x = ball.within(radius).project(x)
        return state.moved(x, radius=radius, **memory)

    def _radius(self, state: State, gamma: float, fell: Tensor, least: Tensor, loss: Tensor, grad: Tensor) -> Tensor:
        slope = torch.linalg.vector_norm(grad.flatten(1).double(), ord=state.ball.norm.dual, dim=1).clamp_min(1e-12)
        way = (loss.abs() / slope).nan_to_num(nan=0.0, posinf=torch.inf)  # a NaN would never leave the radius again
        radius = state.memory["radius"]
        size = state.ball.measure(state.x)
        # at least the usual growth: the estimate comes ever closer to a boundary and may never cross it
        wider = torch.where(least.isfinite(), radius * (1 + gamma), torch.maximum(size + way, size * (1 + gamma)))
        return torch.where(fell, torch.minimum(radius * (1 - gamma), least), wider)

    def _count(self, radius: Tensor, gamma: float, fell: Tensor, least: Tensor) -> Tensor:
        fewer = torch.minimum(torch.minimum(radius - 1, (radius * (1 - gamma)).floor()), least).clamp_min(0)
        return torch.where(fell, fewer, torch.maximum(radius + 1, (radius * (1 + gamma)).floor()))

    def finish(self, state: State, ask: Ask) -> None:
        conclude(self, state, ask, self.refine)
