"""What attacks that search parameters share: where the point that they make must lie, and whether it is made again.

Legend: B samples, ... the rest of a sample's shape.
"""

from __future__ import annotations

import torch
from torch import Tensor

from robustaug.attacks.threat import Ball, per_row

ROUNDING = 1e-5
"""How far a point may be from what its parameters make again, for values of size 1: batches round differently."""


def cut(made: Tensor, ball: Ball) -> Tensor:
    """Return what was made of the clean samples (B, ...), cut at the box, and the sample itself off the mask.

    The ball's radius does not count here: it limits what may be a witness, not what is made.
    """
    low, high = (torch.as_tensor(v, dtype=made.dtype, device=made.device) for v in (ball.threat.low, ball.threat.high))
    inside = torch.minimum(torch.maximum(made, low), high)
    return inside if ball.mask is None else torch.where(ball.mask, inside, ball.clean)


def same(made: Tensor, x: Tensor) -> Tensor:
    """Return (B,) bool: the points (B, ...) are equal but for rounding."""
    size = made.abs().flatten(1).amax(1).clamp_min(1)
    return ((made - x).abs() <= ROUNDING * per_row(size, made)).flatten(1).all(1)


def check_unit_box(name: str, ball: Ball) -> None:
    """Refuse a box other than [0, 1], which operators on images are made for.

    Raises:
        ValueError: another box.
    """
    low, high = (torch.as_tensor(side) for side in (ball.threat.low, ball.threat.high))
    if bool((low != 0).any()) or bool((high != 1).any()):
        raise ValueError(f"{name}: images must lie in the box (0, 1), got {ball.threat.low, ball.threat.high}")
