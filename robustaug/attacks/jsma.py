"""The attack by saliency maps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from robustaug.attacks.ask import Ask
from robustaug.attacks.attack import Attack
from robustaug.attacks.face import nearest_face
from robustaug.attacks.losses import margin_to
from robustaug.attacks.nearest import conclude, draw_nearer, nothing_yet, remember, unit
from robustaug.attacks.state import State
from robustaug.attacks.threat import per_row
from robustaug.attacks.verify import broken
from robustaug.parameters import check_choice
from robustaug.registry import register

CANDIDATES = 64
"""Pairs are sought among so many values that do most for the one class, and so many that do most against the other."""


@register("attack.jsma", tags={"gradient", "minimal-norm"})
@dataclass(frozen=True, kw_only=True, repr=False)
class JSMA(Attack):
    """Change, step by step, the one or two values whose change does most, until the model breaks.

    A value moves in the direction that raises the wanted class above the unwanted, by `theta`, and in later steps only
    on in that direction. What a change does is its gradient times the way that the box leaves it. The saliency of a
    change that raises the wanted class by a and lowers the unwanted by b is a + b, or a b as published, where both
    have to be positive.

    Papernot et al. 2016, "The limitations of deep learning in adversarial settings", arXiv:1511.07528, algorithms 2
    and 3, on logits. We differ: values move up as well as down; pairs are sought among the values that do most for
    either part, not among all D^2; a search without a target takes, as the wanted class, the one whose linearised
    boundary takes the fewest values, and as the unwanted the label; with a target the unwanted are all others, of
    which a + b takes the best; at the end the point is searched for one with fewer changes.

    Attributes:
        steps: most steps.
        values: changed a step: 1 or 2.
        saliency: "sum" or "product".
        theta: how far a value moves at once, in widths of the box (absolute where that is infinite).
        classes: other classes that are looked at for the wanted one where there is no target, a gradient each;
            restart r takes the r-th nearest.
        refine: halvings of the number of changes at the end; 0 as published.
    """

    norm: str = "L0"
    steps: int = 200  # type: ignore[assignment]
    values: int = 1
    saliency: str = "sum"
    theta: float = 1.0
    classes: int = 10
    refine: int = 10

    norms: ClassVar[tuple[str, ...]] = ("L0",)
    minimal: ClassVar[bool] = True
    reads_logits: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_count("steps")
        self.check_count("classes")
        self.check_count("refine", least=0)
        check_choice(self.name, "saliency", self.saliency, ("sum", "product"))
        self.check_number("theta")
        self.check_count("values")
        if self.values > 2:
            raise ValueError(f"{self.name}: values must be 1 or 2, got {self.values!r}")

    def init(self, start: State, ask: Ask) -> State:
        wanted = start.label
        if not self.targeted:
            wanted = nearest_face(ask, start, start.ball.endless, self.classes, start.round).other
        return start.at(
            start.x, wanted=wanted, done=torch.zeros_like(start.label, dtype=torch.bool), **nothing_yet(start)
        )

    def step(self, state: State, ask: Ask) -> State:
        least, most = state.ball.endless.bounds
        answer = ask.gradient(state.x, self._rise, state.label, state.memory["wanted"])
        fell = broken(answer.logits, state.label, self.targeted)
        state = draw_nearer(self, state.at(state.x, **remember(state, state.x, fell)), ask, self.refine)
        moved = state.x - state.clean
        sign = torch.where(moved != 0, moved.sign(), answer.grad.sign())
        room = torch.where(sign > 0, most - state.x, state.x - least).clamp_max(self.theta * unit(state.ball))
        chosen = self._salient(state, ask, answer.grad, sign * room).reshape(state.x.shape)
        chosen &= ~per_row(fell, state.x).bool()
        x = torch.where(chosen, (state.x + sign * room).clamp(least, most), state.x)
        return state.moved(x, done=fell | ~chosen.flatten(1).any(1))

    def _salient(self, state: State, ask: Ask, grad: Tensor, change: Tensor) -> Tensor:
        """Return which values to change, (B, D) bool."""
        total = (grad * change).flatten(1)
        if self.saliency == "sum":
            return _singles(total, self.values)
        wanted = ask.gradient(state.x, _logit, state.memory["wanted"], keep=False).grad
        rise = (wanted * change).flatten(1)
        fall = total - rise
        if self.values == 2:
            return _pairs(rise, fall)
        return _singles(torch.where((rise > 0) & (fall > 0), rise * fall, 0.0), 1)

    def finish(self, state: State, ask: Ask) -> None:
        conclude(self, state, ask, self.refine, self._rise, state.memory["wanted"])

    def _rise(self, logits: Tensor, label: Tensor, wanted: Tensor) -> Tensor:
        """Return the wanted class above the unwanted, (B,) float64."""
        if not self.targeted:
            return margin_to(logits, label, wanted)
        if self.saliency == "sum":
            return self.objective(logits, label)
        return 2 * _logit(logits, wanted) - logits.double().sum(1)


def _logit(logits: Tensor, wanted: Tensor) -> Tensor:
    return logits.double().gather(1, wanted[:, None])[:, 0]


def _singles(score: Tensor, values: int) -> Tensor:
    """Return (B, D) bool: the `values` highest scores, where they are positive."""
    best = score.topk(min(values, score.shape[1]), dim=1).indices
    return torch.zeros_like(score, dtype=torch.bool).scatter(1, best, True) & (score > 0)


def _pairs(rise: Tensor, fall: Tensor) -> Tensor:
    """Return (B, D) bool: the pair (or the single value) whose rises and falls (B, D) have the greatest product."""
    count = min(CANDIDATES, rise.shape[1])
    at = torch.cat([rise.topk(count, dim=1).indices, fall.topk(count, dim=1).indices], dim=1)
    other = at[:, :, None] != at[:, None]  # a value listed twice counts once
    rises, falls = (
        v[:, :, None] + torch.where(other, v[:, None], 0.0) for v in (rise.gather(1, at), fall.gather(1, at))
    )
    score = torch.where((rises > 0) & (falls > 0), rises * falls, 0.0).flatten(1)
    best, place = score.max(1)
    pair = torch.stack([place // at.shape[1], place % at.shape[1]], dim=1)
    chosen = torch.zeros_like(rise, dtype=torch.bool).scatter(1, at.gather(1, pair), True)
    return chosen & (best > 0)[:, None]
