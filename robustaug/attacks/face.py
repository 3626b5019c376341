"""The boundary to other classes as it looks from one point: the model made linear there.

Legend: B samples, ... the rest of a sample's shape, D its number of values, M other classes.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from robustaug.attacks.ask import Ask
from robustaug.attacks.hyperplane import step_onto
from robustaug.attacks.state import State
from robustaug.attacks.threat import Ball

NEAR = 1e-4
"""A gap is closed but for this share: the step onto a boundary is found to rounding."""


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
    way = step_onto(ball, x, slope, -gap)
    closed = (way.double() * slope.double()).flatten(1).sum(1).abs()
    lacking = closed < gap.abs() * (1 - NEAR)
    return way, torch.where(lacking, torch.inf, ball.norm.measure(way))
