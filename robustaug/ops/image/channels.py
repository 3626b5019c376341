"""Channels: what happens to one of them, or to each by itself. Any number of channels."""

from __future__ import annotations

import torch
from torch import Tensor

from robustaug.ops.operator import Operator, rows
from robustaug.ops.space import fixed, noise_key, uniform
from robustaug.registry import register
from robustaug.rng import uniform_field


@register("image.channel_drop", tags={"colour", "pixelwise", "differentiable"})
class ChannelDrop(Operator):
    """Replace one channel by a flat `fill` (0 is black); `channel` picks it, as a share of their number."""

    channel = uniform(0, 1, bounds=(0, 1), unit="of the channels")
    fill = fixed(0.0, bounds=(0, 1))

    def formula(self, image: Tensor, channel: Tensor, fill: Tensor) -> Tensor:
        C = image.shape[1]
        lost = (channel * C).long().clamp(max=C - 1)[:, None] == torch.arange(C, device=image.device)
        return torch.where(lost[:, :, None, None], rows(fill).to(image.dtype), image)


@register("image.channel_shift", tags={"colour", "pixelwise", "differentiable"})
class ChannelShift(Operator):
    """Add a number of its own, even between -reach and reach, to each channel: a colour cast."""

    reach = uniform(0.02, 0.15, identity=0.0, bounds=(0, 1), severity=(0.04, 0.08, 0.12, 0.18, 0.25))
    shifts = noise_key()

    def formula(self, image: Tensor, reach: Tensor, shifts: Tensor) -> Tensor:
        drawn = 2 * uniform_field(shifts, image.shape[1:2]) - 1  # (B, C)
        return (image + drawn[:, :, None, None] * rows(reach)).clamp(0, 1)
