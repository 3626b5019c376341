"""Colour: what happens between the channels.

Operators tagged "rgb" know red, green and blue only. They leave a one-channel image as it is, since grey has
no colour to change, and refuse any other number of channels.
"""

from __future__ import annotations

from torch import Tensor

from robustaug.ops.operator import Operator
from robustaug.ops.pixelwise import Number, Pixelwise, clip, floor, luma, maximum, minimum, where
from robustaug.ops.space import noise_key, uniform
from robustaug.registry import register
from robustaug.rng import uniform_field

Colour = tuple[Number, Number, Number]


def between(x: Number, low: Number, high: Number) -> Number:
    """Return the way from x = low, 0, to x = high, 1."""
    return low + (high - low) * x


@register("image.saturation", tags={"colour", "pixelwise", "rgb", "differentiable"})
class Saturation(Pixelwise):
    """Move each colour away from its grey `factor` times; 0 is grey, 1 the image itself."""

    factor = uniform(
        0.5,
        1.5,
        unit="×",
        identity=1.0,
        bounds=(0, None),
        severity=tuple({"choice": [1 - d, 1 + d]} for d in (0.2, 0.4, 0.6, 0.8, 1.0)),
    )

    @staticmethod
    def pixel(red: Number, green: Number, blue: Number, factor: Number) -> Colour:
        plain = luma(red, green, blue)
        return (
            clip(between(factor, plain, red)),
            clip(between(factor, plain, green)),
            clip(between(factor, plain, blue)),
        )


def in_sixth(chroma: Number, value: Number, sixths: Number) -> Number:
    """Return a channel of HSV: its distance from its own hue, in sixths of the circle, takes of the chroma."""
    away = sixths - 6.0 * floor(sixths / 6.0)
    return clip(value - chroma * clip(minimum(away, 4.0 - away)))


@register("image.hue", tags={"colour", "pixelwise", "rgb", "differentiable"})
class Hue(Pixelwise):
    """Turn every colour round the colour circle (HSV) by shift_turns: 1/3 makes red green, 1/2 its opposite."""

    shift_turns = uniform(
        -0.1,
        0.1,
        unit="turns",
        identity=0.0,
        bounds=(-0.5, 0.5),
        severity=tuple({"choice": [-t, t]} for t in (0.03, 0.07, 0.12, 0.2, 0.3)),
    )

    @staticmethod
    def pixel(red: Number, green: Number, blue: Number, shift_turns: Number) -> Colour:
        value = maximum(maximum(red, green), blue)
        chroma = value - minimum(minimum(red, green), blue)
        span = where(chroma > 0, chroma, 1.0)
        from_red, from_green = (green - blue) / span, 2.0 + (blue - red) / span
        from_blue = 4.0 + (red - green) / span
        sixths = where(value == red, from_red, where(value == green, from_green, from_blue)) + 6.0 * shift_turns
        return (
            in_sixth(chroma, value, 5.0 + sixths),
            in_sixth(chroma, value, 3.0 + sixths),
            in_sixth(chroma, value, 1.0 + sixths),
        )


@register("image.grayscale", tags={"colour", "pixelwise", "rgb", "differentiable"})
class Grayscale(Pixelwise):
    """Replace each colour by its grey (BT.601 luma), in three equal channels."""

    @staticmethod
    def pixel(red: Number, green: Number, blue: Number) -> Colour:
        plain = clip(luma(red, green, blue))
        return plain, plain, plain


@register("image.sepia", tags={"colour", "pixelwise", "rgb", "differentiable"})
class Sepia(Pixelwise):
    """Tint the image brown like an old print; amount 0 is the image itself, 1 the whole tint."""

    amount = uniform(0.2, 1.0, identity=0.0, bounds=(0, 1), severity=(0.2, 0.4, 0.6, 0.8, 1.0))

    @staticmethod
    def pixel(red: Number, green: Number, blue: Number, amount: Number) -> Colour:
        return (
            between(amount, red, clip(0.393 * red + 0.769 * green + 0.189 * blue)),
            between(amount, green, clip(0.349 * red + 0.686 * green + 0.168 * blue)),
            between(amount, blue, clip(0.272 * red + 0.534 * green + 0.131 * blue)),
        )


@register("image.channel_shuffle", tags={"colour", "pixelwise", "differentiable"})
class ChannelShuffle(Operator):
    """Put the channels in a random order, each order as likely; any number of channels."""

    order = noise_key()

    def formula(self, image: Tensor, order: Tensor) -> Tensor:
        shuffled = uniform_field(order, image.shape[1:2]).argsort(dim=1, stable=True)  # (B, C)
        return image.gather(1, shuffled[:, :, None, None].expand_as(image))
