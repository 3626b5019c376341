"""The nearest breaking point that a minimal-norm attack has passed, and how it is drawn nearer at the end.

The session keeps every breaking point for the result; an attack keeps the nearest one as well where its next step
depends on it. Legend: B samples, ... the rest of a sample's shape, D its number of values.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from robustaug.attacks.ask import Ask, Loss
from robustaug.attacks.face import nearest_face
from robustaug.attacks.state import State
from robustaug.attacks.threat import Ball, per_row
from robustaug.attacks.verify import broken

if TYPE_CHECKING:
    from robustaug.attacks.attack import Attack

OVERSHOOT = 0.02
"""How far beyond a linearised boundary a guess goes, as a share of the way: DeepFool's."""

GUESS_HALVINGS = 10
"""A guess is drawn nearer to a thousandth of its way: a search that goes on beside it must beat it."""


def unit(ball: Ball) -> float:
    """Return the width of the box, 1 where it is infinite: published lengths are in boxes of width 1."""
    return ball.threat.width if math.isfinite(ball.threat.width) else 1.0


def farthest(ball: Ball) -> Tensor:
    """Return the distance of the farthest point of each sample's box, (B,) float64."""
    least, most = ball.bounds
    return ball.norm.measure(torch.maximum(ball.clean - least, most - ball.clean).double())


def cosine(first: float, last: float, step: int, steps: int) -> float:
    """Return a value that falls from `first` at step 0 towards `last` at `steps` along half a cosine."""
    return last + (first - last) * (1 + math.cos(math.pi * step / steps)) / 2


def nothing_yet(state: State) -> dict[str, Tensor]:
    """Return the memory of a search that has not broken anything."""
    return {"nearest": state.x, "least": torch.full_like(state.eps, torch.inf)}


def remember(state: State, x: Tensor, fell: Tensor, norm: Tensor | None = None) -> dict[str, Tensor]:
    """Return the memory with x (B, ...) where it broke the model, `fell` (B,), and is nearer than what did before.

    Args:
        norm: (B,) float64, how far x is; in the norm of the ball when left out.
    """
    norm = state.ball.measure(x) if norm is None else norm
    nearer = fell & (norm < state.memory["least"])
    return {
        "nearest": torch.where(per_row(nearer, x).bool(), x, state.memory["nearest"]),
        "least": torch.where(nearer, norm, state.memory["least"]),
    }


def conclude(attack: Attack, state: State, ask: Ask, halvings: int, loss: Loss | None = None, *rows: Tensor) -> None:
    """Have the last point judged too, then draw the nearest breaking point of each sample nearer.

    Args:
        loss: what the attack pushed up, a function of the logits, the labels and `rows`; its objective when left out.
    """
    logits = ask.logits(state.x, loss or attack.objective, state.label, *rows)
    state = state.at(state.x, **remember(state, state.x, broken(logits, state.label, attack.targeted)))
    draw_nearer(attack, state, ask, halvings)


def begin(attack: Attack, start: State, ask: Ask, classes: int) -> State:
    """Return where a search begins: on the boundary as the linearised model shows it, where the model agrees.

    A search that begins at the sample itself follows the class that is likeliest there, and settles on the way to
    it where another class is nearer. Restart r begins at the r-th nearest boundary.

    Args:
        classes: other classes that are looked at, a gradient each; 0 to begin at the sample.
    """
    start = start.at(start.x, **nothing_yet(start))
    if not classes:
        return start
    ball = start.ball.endless
    way = nearest_face(ask, start, ball, classes, start.round).way
    guess = ball.project(start.x + (1 + OVERSHOOT) * way)
    fell = broken(ask.logits(guess, attack.objective, start.label), start.label, attack.targeted)
    start = draw_nearer(attack, start.at(start.x, **remember(start, guess, fell)), ask, GUESS_HALVINGS)
    return start.at(start.memory["nearest"])


def draw_nearer(attack: Attack, state: State, ask: Ask, halvings: int) -> State:
    """Look for breaking points between the clean sample and the nearest breaking point, and return the state with them.

    On the straight way between the two, in `halvings` halvings. In L0, where the way has no length, for the fewest of
    the changes that suffice, in the order of their effect to first order: of the changes as they are, and of changes
    to the far end of the box, wherever they are. Samples that are done already are left as they are.
    """
    found = state.memory["least"].isfinite()
    if "done" in state.memory:
        found &= ~state.memory["done"]
    rows = found.nonzero()[:, 0]
    if not len(rows) or not halvings:
        return state
    some = (_fewer if attack.norm == "L0" else _shorter)(attack, state.take(rows), ask.of(rows), halvings)
    memory = {key: state.memory[key].index_copy(0, rows, some.memory[key]) for key in ("nearest", "least")}
    return state.at(state.x, **memory)


def _shorter(attack: Attack, state: State, ask: Ask, halvings: int) -> State:
    least, most = state.ball.endless.bounds
    way = state.memory["nearest"] - state.clean
    low, high = torch.zeros_like(state.eps), torch.ones_like(state.eps)
    for _ in range(halvings):
        middle = (low + high) / 2
        x = (state.clean + per_row(middle, way) * way).clamp(least, most)
        fell = broken(ask.logits(x), state.label, attack.targeted)
        state = state.at(state.x, **remember(state, x, fell))
        low, high = torch.where(fell, low, middle), torch.where(fell, middle, high)
    return state


def _fewer(attack: Attack, state: State, ask: Ask, halvings: int) -> State:
    least, most = state.ball.endless.bounds
    grad = ask.gradient(state.memory["nearest"], attack.objective, state.label).grad
    end = torch.where(grad > 0, most, least)
    for moved in (state.memory["nearest"], torch.where(end.isfinite(), end, state.memory["nearest"])):
        effect = (grad * (moved - state.clean)).flatten(1)
        rank = effect.argsort(dim=1, descending=True, stable=True).argsort(dim=1).reshape(moved.shape)
        low, high = torch.zeros_like(state.eps), state.memory["least"]
        for _ in range(halvings):
            middle = ((low + high) / 2).floor()
            x = torch.where(rank < per_row(middle, rank), moved, state.clean)
            fell = broken(ask.logits(x), state.label, attack.targeted)
            state = state.at(state.x, **remember(state, x, fell))
            low, high = torch.where(fell, low, middle), torch.where(fell, middle, high)
    return state
