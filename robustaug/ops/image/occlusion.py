"""Occlusion: part of the image is hidden under a flat grey `fill` (0 is black). Any number of channels.

Lengths are fractions of the image's sides, so that a severity means the same at 28 and at 224 pixels. A
rectangle smaller than half a pixel hides nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor

from robustaug.ops.operator import Operator, rows
from robustaug.ops.space import fixed, log_uniform, uniform
from robustaug.registry import register


def cover(image: Tensor, hidden: Tensor, fill: Tensor) -> Tensor:
    """Put `fill` (B,) wherever `hidden` (B, H, W) is true."""
    return torch.where(hidden[:, None], rows(fill).to(image.dtype), image)


def band(n: int, start: Tensor, stop: Tensor) -> Tensor:
    """Return (B, n) bool: the pixels in [start, stop)."""
    at = torch.arange(n, device=start.device)
    return (at >= start[:, None]) & (at < stop[:, None])


@register("image.erasing", tags={"occlusion", "differentiable"})
class Erasing(Operator):
    """Hide a random rectangle inside the image (Zhong et al. 2017, arXiv 1708.04896).

    It covers `area` of the image; `aspect` is how many times wider it is, relative to the image's own shape.
    (x, y) in [0, 1] places it between the borders.
    """

    area = uniform(0.02, 0.33, unit="of the image", identity=0.0, bounds=(0, 1), severity=(0.05, 0.1, 0.2, 0.3, 0.45))
    aspect = log_uniform(0.4, 2.5, unit="×", bounds=(0.01, 100))
    x = uniform(0, 1, bounds=(0, 1), unit="of the free width")
    y = uniform(0, 1, bounds=(0, 1), unit="of the free height")
    fill = fixed(0.0, bounds=(0, 1))

    def formula(self, image: Tensor, area: Tensor, aspect: Tensor, x: Tensor, y: Tensor, fill: Tensor) -> Tensor:
        H, W = image.shape[-2:]
        width = torch.round((area * aspect).sqrt().clamp(max=1) * W)
        height = torch.round((area / aspect).sqrt().clamp(max=1) * H)
        left, top = torch.round(x * (W - width)), torch.round(y * (H - height))
        hidden = band(H, top, top + height)[:, :, None] & band(W, left, left + width)[:, None, :]
        return cover(image, hidden, fill)


@register("image.cutout", tags={"occlusion", "differentiable"})
class Cutout(Operator):
    """Hide a rectangle of `side` of both sides, centred anywhere, so that part may lie outside.

    Source: DeVries & Taylor 2017, arXiv 1708.04552; their square on a square image. (x, y) is the centre.
    """

    side = uniform(0.2, 0.5, unit="of each side", identity=0.0, bounds=(0, 2), severity=(0.2, 0.3, 0.4, 0.55, 0.7))
    x = uniform(0, 1, bounds=(0, 1), unit="of width")
    y = uniform(0, 1, bounds=(0, 1), unit="of height")
    fill = fixed(0.0, bounds=(0, 1))

    def formula(self, image: Tensor, side: Tensor, x: Tensor, y: Tensor, fill: Tensor) -> Tensor:
        H, W = image.shape[-2:]
        left, right = torch.round((x - side / 2) * W), torch.round((x + side / 2) * W)
        top, bottom = torch.round((y - side / 2) * H), torch.round((y + side / 2) * H)
        return cover(image, band(H, top, bottom)[:, :, None] & band(W, left, right)[:, None, :], fill)


@register("image.grid_mask", tags={"occlusion", "differentiable"})
class GridMask(Operator):
    """Hide a regular grid of squares (Chen et al. 2020, arXiv 2001.04086, without its rotation).

    The grid repeats every `period` of the shorter side, starts at (x, y) of a period, and hides `ratio` of each
    period along both sides.
    """

    period = uniform(0.25, 0.5, unit="of the shorter side", bounds=(0.001, 2))
    ratio = uniform(0.3, 0.6, unit="of the period", identity=0.0, bounds=(0, 1), severity=(0.25, 0.4, 0.5, 0.6, 0.7))
    x = uniform(0, 1, bounds=(0, 1), unit="of the period")
    y = uniform(0, 1, bounds=(0, 1), unit="of the period")
    fill = fixed(0.0, bounds=(0, 1))

    def formula(self, image: Tensor, period: Tensor, ratio: Tensor, x: Tensor, y: Tensor, fill: Tensor) -> Tensor:
        H, W = image.shape[-2:]
        length = (period * min(H, W))[:, None]  # pixels
        across, down = (
            torch.remainder((torch.arange(n, device=image.device) + 0.5) / length - start[:, None], 1) < ratio[:, None]
            for n, start in ((W, x), (H, y))
        )
        return cover(image, down[:, :, None] & across[:, None, :], fill)
