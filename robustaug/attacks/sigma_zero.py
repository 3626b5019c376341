"""The sigma-zero attack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from robustaug.attacks.adam import adam
from robustaug.attacks.ask import Ask
from robustaug.attacks.attack import Attack
from robustaug.attacks.nearest import begin, conclude, cosine, remember, unit
from robustaug.attacks.state import State
from robustaug.attacks.threat import per_row
from robustaug.attacks.verify import broken
from robustaug.registry import register


@register("attack.sigma_zero", tags={"gradient", "minimal-norm"})
@dataclass(frozen=True, kw_only=True, repr=False)
class SigmaZero(Attack):
    """Climb the margin with a smooth stand-in for the number of changed values, and drop changes below a threshold.

    The stand-in is the mean of d^2 / (d^2 + sigma). The threshold rises after a point that breaks the model, and falls
    otherwise. Steps are Adam's, on the gradient divided by its largest value, and shrink to a tenth along a cosine.

    Cinà et al. 2024, "Sigma-zero: gradient-based optimization of L0-norm adversarial examples", arXiv:2402.01879,
    algorithm 1, with Adam as in the authors' code. We differ in three ways: it begins on the nearest boundary of the
    linearised model, where that breaks the model; lengths are in widths of the box (absolute where that is infinite);
    at the end the nearest point is searched for one with fewer changes. Targeted searches climb the target's margin.

    Attributes:
        steps: gradients a restart.
        step_size: of the first step, in widths of the box.
        sigma: how smooth the stand-in is: about the square of a change that counts half.
        threshold: changes below it are dropped at first, in widths of the box.
        threshold_step: change of the threshold a step, as a share of the step size.
        classes: other classes whose boundaries are looked at for the start, a gradient each; restart r takes the r-th
            nearest. 0 to begin at the sample, as published.
        refine: halvings of the number of changes at the end; 0 as published.
    """

    norm: str = "L0"
    steps: int = 100  # type: ignore[assignment]
    step_size: float = 1.0
    sigma: float = 1e-3
    threshold: float = 0.3
    threshold_step: float = 0.01
    classes: int = 10
    refine: int = 10

    norms: ClassVar[tuple[str, ...]] = ("L0",)
    minimal: ClassVar[bool] = True
    reads_logits: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_count("steps")
        self.check_count("classes", least=0)
        self.check_count("refine", least=0)
        self.check_number("step_size")
        self.check_number("sigma")
        self.check_number("threshold", 0, 1, open_=False)
        self.check_number("threshold_step", open_=False)

    def init(self, start: State, ask: Ask) -> State:
        start = begin(self, start, ask, self.classes)
        zeros, threshold = torch.zeros_like(start.x), torch.full_like(start.eps, self.threshold)
        return start.at(start.x, mean=zeros, square=zeros, threshold=threshold)

    def step(self, state: State, ask: Ask) -> State:
        ball, width = state.ball.endless, unit(state.ball)
        answer = ask.gradient(state.x, self._short, state.label)
        fell = broken(answer.logits, state.label, self.targeted)
        delta = (state.x - state.clean) / width
        # the derivative of the mean of d^2 / (d^2 + sigma)
        sparse = 2 * self.sigma * delta / (delta.square() + self.sigma).square() / delta[0].numel()
        grad = ball.masked(sparse - answer.grad * width)
        grad = grad / per_row(grad.flatten(1).abs().amax(1).clamp_min(1e-12), grad)
        taken = torch.full_like(state.label, state.steps)
        direction, mean, square = adam(grad, state.memory["mean"], state.memory["square"], taken)
        size = cosine(self.step_size, self.step_size / 10, state.steps, self.steps)
        x = ball.project(state.x - size * width * direction)
        # the authors step the size before the threshold
        change = self.threshold_step * cosine(self.step_size, self.step_size / 10, state.steps + 1, self.steps)
        threshold = (state.memory["threshold"] + torch.where(fell, change, -change)).clamp(0, 1)
        kept = (x - state.clean).abs() >= per_row(threshold * width, x)
        found = remember(state, state.x, fell)
        return state.moved(torch.where(kept, x, state.clean), mean=mean, square=square, threshold=threshold, **found)

    def _short(self, logits: Tensor, label: Tensor) -> Tensor:
        """Return the margin until it is crossed: beyond it only the number of changes counts."""
        return self.objective(logits, label).clamp_max(0)

    def finish(self, state: State, ask: Ask) -> None:
        conclude(self, state, ask, self.refine)
