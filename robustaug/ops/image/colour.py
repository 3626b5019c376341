"""Colour: what happens between the channels.

Operators tagged "rgb" know red, green and blue only. They leave a one-channel image as it is, since grey has
no colour to change, and refuse any other number of channels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from robustaug.ops.image.tone import grey
from robustaug.ops.operator import Operator, rows
from robustaug.ops.space import noise_key, uniform
from robustaug.registry import register
from robustaug.rng import uniform_field

SEPIA = ((0.393, 0.769, 0.189), (0.349, 0.686, 0.168), (0.272, 0.534, 0.131))


def is_colour(name: str, image: Tensor) -> bool:
    """Return whether (B, C, H, W) has three channels, False for one.

    Raises:
        ValueError: any other number, which operator `name` cannot read.
    """
    channels = image.shape[1]
    if channels not in (1, 3):
        raise ValueError(
            f"{name} needs 3 channels (red, green, blue), or 1, which it leaves as it is; got {channels} channels"
        )
    return channels == 3


@register("image.saturation", tags={"colour", "pixelwise", "rgb", "differentiable"})
class Saturation(Operator):
    """Move each colour away from its grey `factor` times; 0 is grey, 1 the image itself."""

    factor = uniform(
        0.5,
        1.5,
        unit="×",
        identity=1.0,
        bounds=(0, None),
        severity=tuple({"choice": [1 - d, 1 + d]} for d in (0.2, 0.4, 0.6, 0.8, 1.0)),
    )

    def formula(self, image: Tensor, factor: Tensor) -> Tensor:
        if not is_colour(self.name, image):
            return image
        plain = grey(image)
        return (plain + (image - plain) * rows(factor)).clamp(0, 1)


@register("image.hue", tags={"colour", "pixelwise", "rgb", "differentiable"})
class Hue(Operator):
    """Turn every colour round the colour circle (HSV) by shift_turns: 1/3 makes red green, 1/2 its opposite."""

    shift_turns = uniform(
        -0.1,
        0.1,
        unit="turns",
        identity=0.0,
        bounds=(-0.5, 0.5),
        severity=tuple({"choice": [-t, t]} for t in (0.03, 0.07, 0.12, 0.2, 0.3)),
    )

    def formula(self, image: Tensor, shift_turns: Tensor) -> Tensor:
        if not is_colour(self.name, image):
            return image
        red, green, blue = image.split(1, dim=1)
        value = image.amax(dim=1, keepdim=True)
        chroma = value - image.amin(dim=1, keepdim=True)
        span = torch.where(chroma > 0, chroma, 1.0)
        sixths = torch.where(
            value == red,
            (green - blue) / span,
            torch.where(value == green, 2 + (blue - red) / span, 4 + (red - green) / span),
        )
        sixths = sixths + 6 * rows(shift_turns)
        position = torch.tensor([5.0, 3.0, 1.0], device=image.device).reshape(1, 3, 1, 1)
        distance = torch.remainder(position + sixths, 6)
        return (value - chroma * torch.minimum(distance, 4 - distance).clamp(0, 1)).clamp(0, 1)


@register("image.grayscale", tags={"colour", "pixelwise", "rgb", "differentiable"})
class Grayscale(Operator):
    """Replace each colour by its grey (BT.601 luma), in three equal channels."""

    def formula(self, image: Tensor) -> Tensor:
        return grey(image).expand_as(image).clamp(0, 1) if is_colour(self.name, image) else image


@register("image.sepia", tags={"colour", "pixelwise", "rgb", "differentiable"})
class Sepia(Operator):
    """Tint the image brown like an old print; amount 0 is the image itself, 1 the whole tint."""

    amount = uniform(0.2, 1.0, identity=0.0, bounds=(0, 1), severity=(0.2, 0.4, 0.6, 0.8, 1.0))

    def formula(self, image: Tensor, amount: Tensor) -> Tensor:
        if not is_colour(self.name, image):
            return image
        weights = torch.tensor(SEPIA, dtype=image.dtype, device=image.device)
        tinted = torch.einsum("dc,bchw->bdhw", weights, image).clamp(0, 1)
        return image + (tinted - image) * rows(amount)


@register("image.channel_shuffle", tags={"colour", "pixelwise", "differentiable"})
class ChannelShuffle(Operator):
    """Put the channels in a random order, each order as likely; any number of channels."""

    order = noise_key()

    def formula(self, image: Tensor, order: Tensor) -> Tensor:
        shuffled = uniform_field(order, image.shape[1:2]).argsort(dim=1, stable=True)  # (B, C)
        return image.gather(1, shuffled[:, :, None, None].expand_as(image))
