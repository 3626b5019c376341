"""Hue, saturation and value: the changes that keep the other two.

Legend: B samples, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from robustaug.ops.image.colour import Colour
from robustaug.ops.operator import Operator, Params, rows
from robustaug.ops.pixelwise import Number, Pixelwise, clip, maximum, minimum, where
from robustaug.ops.program import Step
from robustaug.ops.space import uniform
from robustaug.registry import register


def with_value(image: Tensor, value: Tensor) -> Tensor:
    """Return (B, 3, H, W) with V of HSV set to `value` (B, 1, H, W); hue and saturation stay, black becomes grey."""
    old = image.amax(dim=1, keepdim=True)
    black = old <= 0
    return torch.where(black, value, image * (value / torch.where(black, 1.0, old)))


def times_value(x: Number, old: Number, new: Number) -> Number:
    """Return a channel where V of HSV goes from `old` to `new`; black becomes grey."""
    return clip(where(old > 0, x * (new / where(old > 0, old, 1.0)), new))


def saturated(x: Number, value: Number, chroma: Number, grey_share: float, saturation: Number) -> Number:
    """Return a channel where S of HSV becomes `saturation`; `grey_share` is how far below V it lies where all agree."""
    share = where(chroma > 0, (value - x) / where(chroma > 0, chroma, 1.0), grey_share)
    return clip(value * (1.0 - saturation * share))


def chroma_share(value: Number, chroma: Number) -> Number:
    """Return S of HSV; 0 for black."""
    return where(value > 0, chroma / where(value > 0, value, 1.0), 0.0)


class ValueWise(Pixelwise):
    """Base of what changes V of HSV. V is the greatest channel, so any number of channels will do."""

    name: ClassVar[str] = ""

    def formula(self, image: Tensor, shift: Tensor) -> Tensor:
        if image.shape[1] == 3:
            return super().formula(image, shift=shift)
        value = (image.amax(dim=1, keepdim=True) + rows(shift)).clamp(0, 1)
        return torch.where(rows(shift) == 0, image, with_value(image, value)).clamp(0, 1)

    def lower(self, params: Params, shape: Sequence[int], n: int) -> list[Step]:
        return super().lower(params, shape, n) if shape[0] == 3 else Operator.lower(self, params, shape, n)

    @staticmethod
    def pixel(red: Number, green: Number, blue: Number, shift: Number) -> Colour:
        old = maximum(maximum(red, green), blue)
        new = clip(old + shift)
        return (
            where(shift == 0.0, red, times_value(red, old, new)),
            where(shift == 0.0, green, times_value(green, old, new)),
            where(shift == 0.0, blue, times_value(blue, old, new)),
        )


@register("image.value_shift", tags={"colour", "pixelwise"})
class ValueShift(ValueWise):
    """Add `shift` to V of HSV, the greatest channel; hue and saturation stay. Any number of channels."""

    shift = uniform(
        -0.2,
        0.2,
        identity=0.0,
        bounds=(-1, 1),
        severity=tuple({"choice": [-s, s]} for s in (0.05, 0.1, 0.15, 0.2, 0.3)),
    )


@register("image.saturation_shift", tags={"colour", "pixelwise", "rgb"})
class SaturationShift(Pixelwise):
    """Add `shift` to S of HSV; hue and value stay, and grey stays grey."""

    shift = uniform(
        -0.3,
        0.3,
        identity=0.0,
        bounds=(-1, 1),
        severity=tuple({"choice": [-s, s]} for s in (0.08, 0.15, 0.25, 0.35, 0.5)),
    )

    @staticmethod
    def pixel(red: Number, green: Number, blue: Number, shift: Number) -> Colour:
        value = maximum(maximum(red, green), blue)
        chroma = value - minimum(minimum(red, green), blue)
        old = chroma_share(value, chroma)
        new = clip(old + shift)
        stays = (old <= 0.0) | (shift == 0.0)
        return (
            where(stays, red, saturated(red, value, chroma, 0.0, new)),
            where(stays, green, saturated(green, value, chroma, 1.0, new)),
            where(stays, blue, saturated(blue, value, chroma, 1.0, new)),
        )
