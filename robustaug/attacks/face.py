"""The boundary to other classes as it looks from one point: the model made linear there.

Legend: B samples, ... the rest of a sample's shape, D its number of values, M other classes.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from robustaug.attacks.ask import Ask
from robustaug.attacks.state import State
from robustaug.attacks.threat import NORMS, Ball, per_row


class Face(NamedTuple):
    """A linearised boundary: to which class (B,), the way to it (B, ...), and what the model says (B, K)."""

    other: Tensor
    way: Tensor
    logits: Tensor


def nearest_face(ask: Ask, state: State, ball: Ball, classes: int, rank: int = 0) -> Face:
    """Return the boundary between the label and another class that is first to be crossed from `state.x`.

    On the way out of the label's region that is the nearest one; on the way into it (targeted) the farthest of those
    still to be crossed. Values that cannot move, by the box or the mask, take no part.

    Args:
        ball: the norm, and the box to stay in.
        classes: other classes that are looked at, those of the largest clean logits; a gradient each.
        rank: 0 for the first, 1 for the second, and so on, and over again.
    """
    likely = state.logits.scatter(1, state.label[:, None], -torch.inf)
    others = likely.topk(min(classes, likely.shape[1] - 1), dim=1).indices
    logits, slopes = ask.jacobian(state.x, torch.cat([state.label[:, None], others], dim=1))
    gap = (logits.gather(1, others) - logits.gather(1, state.label[:, None])).double()
    ways, distances = zip(
        *(_way(ball, state.x, gap[:, m], slopes[:, m + 1] - slopes[:, 0]) for m in range(others.shape[1])),
        strict=True,
    )
    signed = torch.stack(distances, dim=1) * gap.sign()
    chosen = signed.argsort(dim=1, descending=True, stable=True)[:, rank % others.shape[1]]
    way = torch.stack(ways, dim=1)[torch.arange(len(chosen), device=chosen.device), chosen]
    return Face(others.gather(1, chosen[:, None])[:, 0], way, logits)


def _way(ball: Ball, x: Tensor, gap: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    """Return the shortest change (B, ...) that closes the gap (B,) along the slope, and its length (B,)."""
    least, most = ball.bounds
    uphill = -per_row(gap.sign(), slope) * slope
    room = torch.where(uphill > 0, most - x, x - least).double()
    steep = torch.where(room > 0, uphill.double().abs(), 0.0)
    if ball.norm.name in ("L0", "L1"):
        amount = _fewest(gap.abs(), steep.flatten(1), room.flatten(1), whole=ball.norm.name == "L0").reshape(x.shape)
        lacking = (steep * amount.nan_to_num(posinf=0.0)).flatten(1).sum(1) < gap.abs() * (1 - 1e-9)
        way = amount * uphill.sign()
        return way.to(x.dtype), torch.where(lacking, torch.inf, NORMS[ball.norm.name].measure(way))
    dual = torch.linalg.vector_norm(steep.flatten(1), ord=ball.norm.dual, dim=1)
    direction = ball.norm.steepest(steep) * uphill.sign()
    distance = torch.where(dual > 0, gap.abs() / dual.clamp_min(1e-300), torch.inf)
    return (per_row(distance.nan_to_num(posinf=0.0), direction) * direction).to(x.dtype), distance


def _fewest(gap: Tensor, steep: Tensor, room: Tensor, whole: bool) -> Tensor:
    """Return how far each value (B, D) moves if those that bring most move first, until the gap is closed.

    Where `whole`, a value moves to the end of its room, and those move first that bring most so; otherwise no
    farther than it must, and the steepest first.
    """
    gain = torch.where(steep > 0, steep * room, 0.0)
    order = (gain if whole else steep).argsort(dim=1, descending=True, stable=True)
    gain, sorted_steep, sorted_room = (v.gather(1, order) for v in (gain, steep, room))
    before = torch.zeros_like(gain)
    before[:, 1:] = gain.cumsum(1)[:, :-1]
    need = (gap[:, None] - before).clamp_min(0)
    amount = torch.where(sorted_steep > 0, torch.minimum(need / sorted_steep.clamp_min(1e-300), sorted_room), 0.0)
    if whole:
        amount = torch.where((need > 0) & (sorted_steep > 0) & sorted_room.isfinite(), sorted_room, amount)
    return torch.zeros_like(amount).scatter(1, order, amount)
