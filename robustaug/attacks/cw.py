"""The L2 attack of Carlini and Wagner."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from robustaug.attacks.adam import adam
from robustaug.attacks.ask import Ask
from robustaug.attacks.attack import Attack
from robustaug.attacks.nearest import begin, draw_nearer, remember, unit
from robustaug.attacks.state import State
from robustaug.attacks.threat import per_row
from robustaug.attacks.tradeoff import first_search, searched
from robustaug.attacks.verify import broken
from robustaug.registry import register


@register("attack.cw", tags={"gradient", "minimal-norm"})
@dataclass(frozen=True, kw_only=True, repr=False)
class CW(Attack):
    """Descend on the squared distance plus a constant times the margin that is left, in a space without a box.

    Carlini & Wagner 2017, "Towards evaluating the robustness of neural networks", arXiv:1608.04644, section VI.A. Each
    value is (a hyperbolic tangent of) a free one, which Adam moves; the constant is searched for each sample.

    We differ: values at the side of the box are put `inset` of the box inside for the start, where the tangent still
    has a slope (the authors' 1e-6 leaves such values all but frozen); values with an infinite side are moved as they
    are and kept in the box; the first constant is what the linearised model needs instead of 0.001, which saves
    searches; distances are in widths of the box; the search begins on the nearest boundary of the linearised model,
    where that breaks the model; at the end the nearest point is drawn nearer.

    Attributes:
        searches: constants that are tried for each sample.
        iterations: most gradients a search.
        step_size: of Adam.
        inset: how far from the sides of the box a search begins at least, as a share of half its width.
        classes: other classes whose boundaries are looked at for the start, a gradient each; restart r takes the r-th
            nearest. 0 to begin at the sample, as published.
        refine: halvings of the way from the clean sample to the nearest point at the end; 0 as published.
    """

    norm: str = "L2"
    searches: int = 5
    iterations: int = 100
    step_size: float = 0.05
    inset: float = 0.01
    classes: int = 10
    refine: int = 10

    norms: ClassVar[tuple[str, ...]] = ("L2",)
    minimal: ClassVar[bool] = True
    reads_logits: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_count("searches")
        self.check_count("iterations")
        self.check_count("classes", least=0)
        self.check_count("refine", least=0)
        self.check_number("step_size")
        self.check_number("inset", 0, 1)

    @property
    def steps(self) -> int:
        """The most steps of one round: a sample whose searches end early takes fewer."""
        return self.searches * self.iterations

    def init(self, start: State, ask: Ask) -> State:
        answer = ask.gradient(start.x, self.objective, start.label)
        slope = start.ball.norm.measure(start.ball.masked(answer.grad)) * unit(start.ball)
        # on a linear model the margin m of slope g is overcome from 2 m / g^2 on
        needed = (4 * answer.loss.abs() / slope.square().clamp_min(1e-300)).clamp(1e-6, 1e6)
        start = begin(self, start, ask, self.classes)
        free = _free(start.x, *start.ball.endless.bounds, self.inset)
        zeros = torch.zeros_like(free)
        return start.at(start.x, free=free, first=free, mean=zeros, square=zeros, **first_search(needed))

    def step(self, state: State, ask: Ask) -> State:
        memory, width = state.memory, unit(state.ball)
        least, most = state.ball.endless.bounds
        free = memory["free"]
        x, slope = _inside(free, least, most)
        answer = ask.gradient(
            free, self._short, state.label, view=lambda free, part: _inside(free, least[part], most[part])[0]
        )
        fell = broken(answer.logits, state.label, self.targeted)
        state = state.at(x, **remember(state, x, fell))
        delta = (x - state.clean) / width
        cost = delta.flatten(1).double().square().sum(1) - memory["constant"] * answer.loss
        grad = 2 * delta * slope / width - per_row(memory["constant"], free) * answer.grad
        direction, mean, square = adam(grad, memory["mean"], memory["square"], memory["taken"])
        free = free - self.step_size * direction
        free = torch.where((most - least).isfinite(), free, free.clamp(least, most))
        search = searched(memory, fell, cost, self.iterations, self.searches)
        over = per_row(search.over, free).bool()
        ended = state.at(x, done=~search.memory["done"] | memory["done"])
        return draw_nearer(self, ended, ask, self.refine).moved(
            x,
            free=torch.where(over, memory["first"], free),
            mean=mean.masked_fill(over, 0),
            square=square.masked_fill(over, 0),
            **search.memory,
        )

    def _short(self, logits: Tensor, label: Tensor) -> Tensor:
        """Return the margin until it is crossed: beyond it only the distance counts."""
        return self.objective(logits, label).clamp_max(0)

    def finish(self, state: State, ask: Ask) -> None:
        """Do nothing: every sample was drawn nearer when its last search ended."""


def _inside(free: Tensor, least: Tensor, most: Tensor) -> tuple[Tensor, Tensor]:
    """Return the values in the box that stand for the free ones, and the slope of the one by the other."""
    bent = (most - least).isfinite()
    # 0 where it is not used: infinity times a slope of 0 would be NaN
    low, half = torch.where(bent, least, 0.0), torch.where(bent, (most - least) / 2, 0.0)
    tangent = torch.tanh(free)
    x = torch.where(bent, low + half * (1 + tangent), free).clamp(least, most)
    return x, torch.where(bent, half * (1 - tangent.square()), 1.0)


def _free(x: Tensor, least: Tensor, most: Tensor, inset: float) -> Tensor:
    """Return the free values that stand for x."""
    half = (most - least) / 2
    share = ((x - least) / half.clamp_min(torch.finfo(x.dtype).tiny) - 1).clamp(inset - 1, 1 - inset)
    return torch.where(half.isfinite(), torch.atanh(share), x)
