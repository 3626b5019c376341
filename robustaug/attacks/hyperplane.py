"""The shortest step onto a hyperplane that stays in the box. Legend: B samples, D values a sample."""

from __future__ import annotations

import torch
from torch import Tensor

from robustaug.attacks.threat import Ball

PIECES = 30
"""Most Newton steps; each passes at least one value that reaches the box, and few are needed."""


def step_onto(ball: Ball, x: Tensor, slope: Tensor, rise: Tensor) -> Tensor:
    """Return the shortest d, in the ball's norm, with slope . d = rise and x + d in the box.

    Where the box does not reach the hyperplane, d goes as near to it as the box allows. Croce & Hein 2020,
    arXiv:1907.02044, section 2.2. In Linf and L2 the gain of a step of size t is concave in t and made of straight
    pieces, so Newton's method climbs to the root from below in a few steps and no sorting is needed; in L1 the values
    with the steepest slopes go first.

    Args:
        ball: gives the norm, the box and the mask; its radius does not count.
        x: (B, ...) in the box.
        slope: (B, ...).
        rise: (B,) float64.

    Returns:
        (B, ...).
    """
    low, high = ball.endless.bounds
    sign = torch.where(rise >= 0, 1.0, -1.0).to(x.dtype)
    weight = (slope.flatten(1) * sign[:, None]).double()
    room = torch.where(weight >= 0, (high - x).flatten(1), (x - low).flatten(1)).double().clamp_min(0)
    room = torch.where(weight == 0, 0.0, room)
    size = weight.abs()
    wanted = rise.abs().double()
    if ball.norm.name == "L1":
        way = _steepest_first(size, room, wanted)
    else:
        pace = torch.ones_like(size) if ball.norm.name == "Linf" else size
        way = torch.minimum(_time(size, pace, room, wanted)[:, None] * pace, room)
    return (way * weight.sign()).to(x.dtype).reshape(x.shape)


def _time(size: Tensor, pace: Tensor, room: Tensor, wanted: Tensor) -> Tensor:
    """Solve sum size min(t pace, room) = wanted for t (B,), the least such t; where there is none, a t beyond all."""
    gain = size * pace
    time = torch.zeros_like(wanted)
    for _ in range(PIECES):
        free = time[:, None] * pace < room
        slope = torch.where(free, gain, 0.0).sum(1)
        reached = torch.where(free, time[:, None] * gain, size * room).sum(1)
        missing = (wanted - reached).clamp_min(0)
        more = torch.where(slope > 0, missing / slope.clamp_min(1e-300), 0.0)
        time = time + more
        if not time.is_cuda and not bool((more > 1e-12 * time).any()):
            break
    return time


def _steepest_first(size: Tensor, room: Tensor, wanted: Tensor) -> Tensor:
    """Return how far each value goes (B, D), the steepest filled to the box first, until the gain is `wanted`."""
    order = size.argsort(dim=1, descending=True, stable=True)
    sizes, rooms = size.gather(1, order), room.gather(1, order)
    bounded = torch.where(rooms.isinf() & (sizes > 0), 1e300, rooms)
    before = (sizes * bounded).cumsum(1) - sizes * bounded
    way = ((wanted[:, None] - before) / sizes.clamp_min(1e-300)).clamp_min(0).minimum(rooms)
    way = torch.where(sizes > 0, way, 0.0)
    return torch.zeros_like(way).scatter(1, order, way)
