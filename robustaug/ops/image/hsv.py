"""Hue, saturation and value: the changes that keep the other two.

Legend: B samples, H rows, W columns.
"""

from __future__ import annotations

import torch
from torch import Tensor

from robustaug.ops.image.colour import is_colour
from robustaug.ops.operator import Operator, rows
from robustaug.ops.space import uniform
from robustaug.registry import register


def with_value(image: Tensor, value: Tensor) -> Tensor:
    """Return (B, 3, H, W) with V of HSV set to `value` (B, 1, H, W); hue and saturation stay, black becomes grey."""
    old = image.amax(dim=1, keepdim=True)
    black = old <= 0
    return torch.where(black, value, image * (value / torch.where(black, 1.0, old)))


def with_saturation(image: Tensor, saturation: Tensor) -> Tensor:
    """Return (B, 3, H, W) with S of HSV set to `saturation` (B, 1, H, W); hue and value stay.

    Grey has hue 0: it turns reddish, as in every implementation that goes through HSV.
    """
    value, low = image.amax(dim=1, keepdim=True), image.amin(dim=1, keepdim=True)
    chroma = value - low
    grey = chroma <= 0
    share = (value - image) / torch.where(grey, 1.0, chroma)  # how far each channel lies below V, 0 to 1
    red = torch.tensor([0.0, 1.0, 1.0], dtype=image.dtype, device=image.device).reshape(1, 3, 1, 1)
    return value * (1 - saturation * torch.where(grey, red, share))


def saturation_of(image: Tensor) -> Tensor:
    """Return S of HSV, (B, 1, H, W); 0 for black."""
    value = image.amax(dim=1, keepdim=True)
    chroma = value - image.amin(dim=1, keepdim=True)
    return torch.where(value > 0, chroma / torch.where(value > 0, value, 1.0), 0.0)


@register("image.value_shift", tags={"colour", "pixelwise"})
class ValueShift(Operator):
    """Add `shift` to V of HSV, the greatest channel; hue and saturation stay. Any number of channels."""

    shift = uniform(
        -0.2,
        0.2,
        identity=0.0,
        bounds=(-1, 1),
        severity=tuple({"choice": [-s, s]} for s in (0.05, 0.1, 0.15, 0.2, 0.3)),
    )

    def formula(self, image: Tensor, shift: Tensor) -> Tensor:
        value = (image.amax(dim=1, keepdim=True) + rows(shift)).clamp(0, 1)
        return torch.where(rows(shift) == 0, image, with_value(image, value)).clamp(0, 1)


@register("image.saturation_shift", tags={"colour", "pixelwise", "rgb"})
class SaturationShift(Operator):
    """Add `shift` to S of HSV; hue and value stay, and grey stays grey."""

    shift = uniform(
        -0.3,
        0.3,
        identity=0.0,
        bounds=(-1, 1),
        severity=tuple({"choice": [-s, s]} for s in (0.08, 0.15, 0.25, 0.35, 0.5)),
    )

    def formula(self, image: Tensor, shift: Tensor) -> Tensor:
        if not is_colour(self.name, image):
            return image
        old = saturation_of(image)
        changed = with_saturation(image, (old + rows(shift)).clamp(0, 1))
        return torch.where((old > 0) & (rows(shift) != 0), changed, image).clamp(0, 1)
