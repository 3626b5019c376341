"""Light that falls unevenly. Any number of channels; positions are fractions of the sides.

Legend: B samples, C channels, H rows, W columns.
"""

from __future__ import annotations

import torch
from torch import Tensor

from robustaug.ops.image.motion import grid
from robustaug.ops.operator import Operator, rows
from robustaug.ops.space import log_uniform, uniform
from robustaug.registry import register


def positions(image: Tensor) -> tuple[Tensor, Tensor]:
    """Return x (1, 1, 1, W) and y (1, 1, H, 1) of the pixels' centres, 0 to 1 across the image."""
    H, W = image.shape[-2:]
    at = (grid(H, W, image.device) + 0.5).to(image.dtype)
    return at[0, :, 0].reshape(1, 1, 1, W) / W, at[:, 0, 1].reshape(1, 1, H, 1) / H


@register("image.vignetting", tags={"colour", "differentiable"})
class Vignetting(Operator):
    """Darken towards the corners: multiply by 1 - strength r^2, r the distance from (x, y), 1 at half the diagonal."""

    strength = uniform(0.2, 0.7, identity=0.0, bounds=(0, 1), severity=(0.2, 0.35, 0.5, 0.7, 0.9))
    x = uniform(0.4, 0.6, bounds=(0, 1), unit="of width")
    y = uniform(0.4, 0.6, bounds=(0, 1), unit="of height")

    def formula(self, image: Tensor, strength: Tensor, x: Tensor, y: Tensor) -> Tensor:
        H, W = image.shape[-2:]
        across, down = positions(image)
        radius = ((across - rows(x)) * W) ** 2 + ((down - rows(y)) * H) ** 2
        return image * (1 - rows(strength) * radius / ((H**2 + W**2) / 4)).clamp(0, 1)


@register("image.lighting_gradient", tags={"colour", "differentiable"})
class LightingGradient(Operator):
    """Light the image from one side: multiply by 1 + strength t, t from -1 to 1 in the direction angle_deg."""

    strength = uniform(0.1, 0.5, identity=0.0, bounds=(0, 1), severity=(0.15, 0.25, 0.4, 0.55, 0.75))
    angle_deg = uniform(0, 360, unit="degrees")

    def formula(self, image: Tensor, strength: Tensor, angle_deg: Tensor) -> Tensor:
        across, down = positions(image)
        angle = torch.deg2rad(rows(angle_deg))
        reach = torch.cos(angle).abs() + torch.sin(angle).abs()
        ramp = ((2 * across - 1) * torch.cos(angle) + (2 * down - 1) * torch.sin(angle)) / reach
        return (image * (1 + rows(strength) * ramp)).clamp(0, 1)


@register("image.shadow", tags={"colour", "differentiable"})
class Shadow(Operator):
    """Cast a straight-edged shadow that takes `darkness` of the light: a band `width` wide through (x, y).

    The band lies at angle_deg; its edges are `softness` of the sides wide.
    """

    darkness = uniform(
        0.2, 0.7, unit="of the light", identity=0.0, bounds=(0, 1), severity=(0.2, 0.35, 0.5, 0.65, 0.85)
    )
    angle_deg = uniform(0, 180, unit="degrees")
    x = uniform(0.2, 0.8, bounds=(0, 1), unit="of width")
    y = uniform(0.2, 0.8, bounds=(0, 1), unit="of height")
    width = uniform(0.2, 0.7, bounds=(0, 3), unit="of the sides")
    softness = log_uniform(0.005, 0.08, bounds=(1e-4, 3), unit="of the sides")

    def formula(
        self,
        image: Tensor,
        darkness: Tensor,
        angle_deg: Tensor,
        x: Tensor,
        y: Tensor,
        width: Tensor,
        softness: Tensor,
    ) -> Tensor:
        across, down = positions(image)
        angle = torch.deg2rad(rows(angle_deg))
        away = ((across - rows(x)) * torch.sin(angle) - (down - rows(y)) * torch.cos(angle)).abs()
        inside = ((rows(width) / 2 - away) / rows(softness) + 0.5).clamp(0, 1)
        return image * (1 - rows(darkness) * inside)


@register("image.sun_flare", tags={"weather", "differentiable"})
class SunFlare(Operator):
    """Let the sun shine into the lens: a glow at (x, y) and five ghosts on the line through the centre.

    What the light adds is screened, 1 - (1 - x)(1 - light), so that nothing exceeds white.
    """

    strength = uniform(0.3, 0.9, identity=0.0, bounds=(0, 1), severity=(0.25, 0.4, 0.55, 0.75, 0.95))
    size = uniform(0.15, 0.35, bounds=(0.01, 2), unit="of the shorter side")
    x = uniform(0.1, 0.9, bounds=(0, 1), unit="of width")
    y = uniform(0.0, 0.5, bounds=(0, 1), unit="of height")

    def formula(self, image: Tensor, strength: Tensor, size: Tensor, x: Tensor, y: Tensor) -> Tensor:
        H, W = image.shape[-2:]
        across, down = positions(image)
        scale = rows(size) * min(H, W)
        light = torch.zeros_like(image[:, :1])
        # along the line from the sun (0) through the centre (1), their radius and brightness: one ghost a lens surface
        for along, radius, brightness in (
            (0.55, 0.25, 0.18),
            (0.8, 0.12, 0.25),
            (1.25, 0.35, 0.12),
            (1.6, 0.2, 0.2),
            (1.95, 0.5, 0.1),
        ):
            ghost_x, ghost_y = (rows(v) + along * (0.5 - rows(v)) for v in (x, y))
            away = (((across - ghost_x) * W) ** 2 + ((down - ghost_y) * H) ** 2) / (scale * radius) ** 2
            light = light + brightness * torch.sigmoid((1 - away) * 6)
        away = (((across - rows(x)) * W) ** 2 + ((down - rows(y)) * H) ** 2) / scale**2
        light = light + torch.exp(-2 * away) + 0.35 / (1 + 3 * away)
        return 1 - (1 - image) * (1 - rows(strength) * light.clamp(0, 1))
