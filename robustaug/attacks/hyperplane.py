"""The shortest step onto a hyperplane that stays in the box. Legend: B samples, D values a sample."""

from __future__ import annotations

import torch
from torch import Tensor

from robustaug.attacks.threat import Ball

PIECES = 30
"""Most Newton steps; each passes at least one value that reaches the box, and few are needed."""

SETTLED = 1e-6
"""The relative change of the step below which it is found."""


def step_onto(ball: Ball, x: Tensor, slope: Tensor, rise: Tensor) -> Tensor:
    """Return the shortest d, in the ball's norm, with slope . d = rise and x + d in the box.

    Where the box does not reach the hyperplane, d goes as near to it as the box allows. Croce & Hein 2020,
    arXiv:1907.02044, section 2.2. In Linf and L2 the gain of a step of size t is concave in t and made of straight
    pieces, so Newton's method climbs to the root from below in a few steps and no sorting is needed; in L1 the values
    with the steepest slopes go first, and in L0 those that bring most, to the end of their room. The steepest slope of
    a row that has room is its unit, so that neither squares nor sums of slopes of any size vanish or overflow
    in float32.

    Args:
        ball: gives the norm, the box and the mask; its radius does not count.
        x: (B, ...) in the box.
        slope: (B, ...).
        rise: (B,) float64.

    Returns:
        (B, ...).
    """
    low, high = ball.endless.bounds
    slope = slope.flatten(1)
    up = (slope > 0) == (rise >= 0)[:, None]  # which way a value has to go
    room = torch.where(up, (high - x).flatten(1), (x - low).flatten(1)).clamp_min(0)
    size = torch.where(room > 0, slope.abs(), 0)
    unit = size.amax(1)
    unit = torch.where(unit > 0, unit, 1.0)
    size = size / unit[:, None]
    wanted = (rise.double().abs() / unit.double()).clamp_max(torch.finfo(x.dtype).max)
    if ball.norm.name == "L1":
        way = _steepest_first(size, room, wanted)
    elif ball.norm.name == "L0":
        way = _farthest_first(size, room, wanted)
    elif ball.norm.name == "Linf":
        way = room.minimum(_time(size, room, wanted)[:, None])
        way = torch.where(size > 0, way, 0)
    else:
        bends = room / size.clamp_min(torch.finfo(x.dtype).tiny)  # when a value reaches the box, at pace `size`
        way = (_time(size * size, bends, wanted)[:, None] * size).minimum(room)
    return torch.where(up, way, -way).reshape(x.shape)


def _time(gain: Tensor, bends: Tensor, wanted: Tensor) -> Tensor:
    """Solve sum gain min(t, bends) = wanted for the least t (B,); where there is none, return one beyond all bends.

    `wanted` (B,) is float64; t has the dtype of `bends` and is finite: an infinite one times no slope would be NaN.
    """
    time, longest = torch.zeros_like(wanted), torch.finfo(bends.dtype).max
    for _ in range(PIECES):
        now = time.clamp_max(longest).to(bends.dtype)[:, None]
        reached = torch.linalg.vecdot(gain, bends.minimum(now)).double()
        slope = torch.linalg.vecdot(gain, (bends > now).to(gain.dtype)).double()
        more = torch.where(slope > 0, (wanted - reached).clamp_min(0) / slope.clamp_min(1e-300), 0.0)
        time = time + more
        if not time.is_cuda and not bool((more > SETTLED * time).any()):
            break
    return time.clamp_max(longest).to(bends.dtype)


def _steepest_first(size: Tensor, room: Tensor, wanted: Tensor) -> Tensor:
    """Return how far each value goes (B, D), the steepest filled to the box first, until the gain is `wanted`."""
    order = size.argsort(dim=1, descending=True, stable=True)
    sizes, rooms = size.gather(1, order), room.gather(1, order)
    bounded = torch.where(rooms.isinf() & (sizes > 0), torch.finfo(size.dtype).max ** 0.5, rooms)
    gain = sizes * bounded
    before = torch.nn.functional.pad(gain.cumsum(1)[:, :-1], (1, 0))  # a difference would lose it beside an open side
    left = (wanted.to(size.dtype)[:, None] - before).clamp_min(0)
    way = (left / sizes.clamp_min(torch.finfo(size.dtype).tiny)).minimum(rooms)
    way = torch.where(sizes > 0, way, 0.0)
    return torch.zeros_like(way).scatter(1, order, way)


def _farthest_first(size: Tensor, room: Tensor, wanted: Tensor) -> Tensor:
    """Return how far each value goes (B, D), those that bring most first and all the way, until the gain is `wanted`.

    Where there is no end, no farther than it takes.
    """
    gain = torch.where(size > 0, size * room, 0.0)
    order = gain.argsort(dim=1, descending=True, stable=True)
    gains, sizes, rooms = (values.gather(1, order) for values in (gain, size, room))
    before = torch.nn.functional.pad(gains.cumsum(1)[:, :-1], (1, 0))
    left = (wanted.to(size.dtype)[:, None] - before).clamp_min(0)
    enough = torch.where(rooms.isinf(), left / sizes.clamp_min(torch.finfo(size.dtype).tiny), rooms)
    way = torch.where((left > 0) & (sizes > 0), enough, 0.0)
    return torch.zeros_like(way).scatter(1, order, way)
