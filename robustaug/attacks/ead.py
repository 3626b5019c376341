"""The elastic-net attack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from robustaug.attacks.ask import Ask
from robustaug.attacks.attack import Attack
from robustaug.attacks.nearest import begin, draw_nearer, remember, unit
from robustaug.attacks.state import State
from robustaug.attacks.threat import per_row
from robustaug.attacks.tradeoff import first_search, searched
from robustaug.attacks.verify import broken
from robustaug.parameters import check_choice
from robustaug.registry import register


@register("attack.ead", tags={"gradient", "minimal-norm"})
@dataclass(frozen=True, kw_only=True, repr=False)
class EAD(Attack):
    """Descend on the squared L2 plus beta times the L1 distance plus a constant times the margin that is left.

    Chen et al. 2018, "EAD: elastic-net attacks to deep neural networks via adversarial examples", arXiv:1709.04114,
    algorithm 1: accelerated shrinkage and thresholding, with steps that shrink as the square root of what is left.

    We differ: a step shrinks changes by beta times its length, which is what the minimum of the elastic net asks for
    (the paper shrinks by beta whatever the length, which weighs L1 by beta / length: its 0.001 at 0.01 is our 0.1;
    the default is larger, since the L1 distance is what counts at the end);
    the first constant is what the linearised model needs instead of 0.001, which saves searches; distances are in
    widths of the box; the search begins on the nearest boundary of the linearised model, where that breaks the model;
    at the end the nearest point is drawn nearer.

    Attributes:
        searches: constants that are tried for each sample.
        iterations: most gradients a search.
        step_size: of the first step.
        beta: weight of the L1 distance beside the squared L2 distance, in widths of the box.
        rule: the nearest point is that of the least "L1" or elastic-net ("EN") distance; `norm` of the result is L1
            either way, and with "EN" a point is only shown to count at the end.
        classes: other classes whose boundaries are looked at for the start, a gradient each; restart r takes the r-th
            nearest. 0 to begin at the sample, as published.
        refine: halvings of the way from the clean sample to the nearest point at the end; 0 as published.
    """

    norm: str = "L1"
    searches: int = 5
    iterations: int = 100
    step_size: float = 0.03
    beta: float = 3.0
    rule: str = "L1"
    classes: int = 10
    refine: int = 10

    norms: ClassVar[tuple[str, ...]] = ("L1",)
    minimal: ClassVar[bool] = True
    reads_logits: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_count("searches")
        self.check_count("iterations")
        self.check_count("classes", least=0)
        self.check_count("refine", least=0)
        self.check_number("step_size")
        self.check_number("beta")
        check_choice(self.name, "rule", self.rule, ("L1", "EN"))

    @property
    def steps(self) -> int:
        """The most steps of one round: a sample whose searches end early takes fewer."""
        return self.searches * self.iterations

    def init(self, start: State, ask: Ask) -> State:
        ask = ask if self.rule == "L1" else ask.unseen()
        answer = ask.gradient(start.x, self.objective, start.label)
        slope = start.ball.masked(answer.grad).flatten(1).double() * unit(start.ball)
        steep, long = (v.clamp_min(1e-150) for v in (slope.abs().amax(1), torch.linalg.vector_norm(slope, dim=1)))
        # on a linear model about so much overcomes the margin; twice that to be beyond
        needed = 2 * (2 * answer.loss.abs() / long.square() + self.beta / steep)
        start = begin(self, start, ask, self.classes)
        least = torch.where(start.memory["least"].isfinite(), self._distance(start, start.x), torch.inf)
        return start.at(
            start.x, ahead=start.x, first=start.x, **first_search(needed.clamp(1e-6, 1e6)) | {"least": least}
        )

    def step(self, state: State, ask: Ask) -> State:
        memory, width = state.memory, unit(state.ball)
        ball, ahead, taken = state.ball.endless, memory["ahead"], memory["taken"]
        # not kept: it may lie outside the box
        answer = ask.gradient(ahead, self._short, state.label, keep=False)
        delta = (ahead - state.clean) / width
        size = self.step_size * (1 - taken.double() / self.iterations).sqrt()
        grad = 2 * delta - per_row(memory["constant"], delta) * ball.masked(answer.grad) * width
        delta = delta - per_row(size, delta) * grad
        shrunk = delta.sign() * (delta.abs() - per_row(size * self.beta, delta)).clamp_min(0)
        x = ball.project(state.clean + width * shrunk)
        # with "EN" the nearest point in the elastic norm is shown at the end, and no other
        logits = ask.logits(x, self.objective, state.label, keep=self.rule == "L1")
        fell = broken(logits, state.label, self.targeted)
        found = remember(state, x, fell, self._distance(state, x))
        cost = self._elastic(state, x) - memory["constant"] * self._short(logits, state.label)
        search = searched(memory, fell, cost, self.iterations, self.searches)
        ahead = x + per_row(taken.double() / (taken + 3), x) * (x - state.x)
        over = per_row(search.over, x).bool()
        ended = search.memory["done"] & ~memory["done"]
        state = self._end(state.at(x, **found), ask, ended)
        return state.moved(
            torch.where(over, memory["first"], x), ahead=torch.where(over, memory["first"], ahead), **search.memory
        )

    def _end(self, state: State, ask: Ask, ended: Tensor) -> State:
        """Show the nearest points of the samples whose last search has ended, and draw them nearer."""
        rows = (ended & state.memory["least"].isfinite()).nonzero()[:, 0]
        if self.rule == "EN" and len(rows):
            nearest = state.memory["nearest"]
            ask.of(rows).logits(nearest[rows])
            state = state.at(state.x, least=torch.where(ended, state.ball.measure(nearest), state.memory["least"]))
        return draw_nearer(self, state.at(state.x, done=~ended), ask, self.refine)

    def _distance(self, state: State, x: Tensor) -> Tensor:
        return state.ball.measure(x) if self.rule == "L1" else self._elastic(state, x)

    def _elastic(self, state: State, x: Tensor) -> Tensor:
        delta = ((x - state.clean) / unit(state.ball)).flatten(1).double()
        return delta.square().sum(1) + self.beta * delta.abs().sum(1)

    def _short(self, logits: Tensor, label: Tensor) -> Tensor:
        """Return the margin until it is crossed: beyond it only the distance counts."""
        return self.objective(logits, label).clamp_max(0)

    def finish(self, state: State, ask: Ask) -> None:
        """Do nothing: every sample was drawn nearer when its last search ended."""
