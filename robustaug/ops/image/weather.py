"""Weather, made from keys rather than from photographs. Any number of channels.

`strength` runs from 0, clear, to 1. Lengths are fractions of the shorter side. The published weather of ImageNet-C
is `imagenet_c.fog` and its kin.

Legend: B samples, C channels, H rows, W columns.
"""

from __future__ import annotations

import torch
from torch import Tensor

from robustaug.ops.image.blur import gaussian_taps, line, streak
from robustaug.ops.image.convolve import convolve, convolve_separable, filtered
from robustaug.ops.image.fractal import clouds, grains, scatter
from robustaug.ops.image.light import positions
from robustaug.ops.operator import Operator, rows
from robustaug.ops.space import noise_key, uniform
from robustaug.registry import register

_STREAKS = 240


@register("image.fog", tags={"weather", "differentiable"})
class Fog(Operator):
    """Fade the image into white mist whose thickness varies in clouds: x t + 0.9 (1 - t), t = e^(-strength cloud).

    Source: Koschmieder's law of atmospheric scattering, the optical depth 3 strength (0.4 + 0.6 cloud).
    """

    strength = uniform(0.1, 0.6, identity=0.0, bounds=(0, 1), severity=(0.12, 0.22, 0.34, 0.5, 0.75))
    mist = noise_key()

    def formula(self, image: Tensor, strength: Tensor, mist: Tensor) -> Tensor:
        depth = 3 * rows(strength) * (0.4 + 0.6 * clouds(mist, *image.shape[-2:]))
        seen = torch.exp(-depth).to(image.dtype)
        return (image * seen + 0.9 * (1 - seen)).clamp(0, 1)


@register("image.frost", tags={"weather", "differentiable"})
class Frost(Operator):
    """Cover the image with ice crystals, thicker towards the border, bluish white where there are three channels."""

    strength = uniform(0.2, 0.7, identity=0.0, bounds=(0, 1), severity=(0.2, 0.35, 0.5, 0.65, 0.85))
    ice = noise_key()

    def formula(self, image: Tensor, strength: Tensor, ice: Tensor) -> Tensor:
        H, W = image.shape[-2:]
        across, down = positions(image)
        border = 2 * torch.maximum((across - 0.5).abs(), (down - 0.5).abs())  # 0 in the centre, 1 at the border
        crystal = 1 - (2 * clouds(ice, H, W, roughness=0.75, coarsest=4) - 1).abs()  # ridges
        cover = (rows(strength) * (0.35 + 0.65 * border) * (0.5 + crystal)).clamp(0, 1).to(image.dtype)
        tint = torch.tensor([0.78, 0.88, 0.95], dtype=image.dtype, device=image.device).reshape(1, 3, 1, 1)
        colour = tint if image.shape[1] == 3 else tint.mean()
        return (image * (1 - cover) + cover * colour * (0.75 + 0.25 * crystal.to(image.dtype))).clamp(0, 1)


@register("image.snow", tags={"weather", "differentiable"})
class Snow(Operator):
    """Let it snow: flakes drift at angle_deg from the vertical, and the scene pales.

    Flakes are the peaks of a random field, dragged along their fall; both come in two sizes, near and far.
    """

    strength = uniform(0.15, 0.6, identity=0.0, bounds=(0, 1), severity=(0.15, 0.28, 0.42, 0.58, 0.8))
    angle_deg = uniform(-40, 40, unit="degrees", bounds=(-90, 90))
    flakes = noise_key()

    def formula(self, image: Tensor, strength: Tensor, angle_deg: Tensor, flakes: Tensor) -> Tensor:
        H, W = image.shape[-2:]
        lying = torch.zeros_like(image[:, :1])
        for part, size in ((0, 0.006), (1, 0.014)):
            sigma = torch.full_like(strength, size * min(H, W)).clamp(min=0.3)
            field = smoothed(grains(flakes, H, W, part), sigma).to(image.dtype)
            peaks = ((field - (2.3 - 1.5 * rows(strength))) * 1.5).clamp(0, 1)
            lying = torch.maximum(lying, convolve(peaks, streak(sigma * 2.5, angle_deg + 90)))
        pale = image + 0.35 * rows(strength) * (1 - image)
        return (pale + (1 - pale) * (lying * (rows(strength) * 4).clamp(max=1))).clamp(0, 1)


@register("image.rain", tags={"weather", "differentiable"})
class Rain(Operator):
    """Let it rain: up to 240 bright streaks at angle_deg from the vertical, in a darker and paler scene."""

    strength = uniform(0.2, 0.7, identity=0.0, bounds=(0, 1), severity=(0.2, 0.35, 0.5, 0.7, 0.95))
    angle_deg = uniform(-20, 20, unit="degrees", bounds=(-80, 80))
    length = uniform(0.06, 0.15, bounds=(0.001, 2), unit="of the shorter side")
    drops = noise_key()

    def formula(self, image: Tensor, strength: Tensor, angle_deg: Tensor, length: Tensor, drops: Tensor) -> Tensor:
        H, W = image.shape[-2:]
        seeds = scatter(drops, H * W).reshape(-1, 1, H, W)
        # as many streaks for their length at any resolution
        share = rows(strength) * _STREAKS * (min(H, W) / 512) / (H * W)
        falling = (seeds < share).to(image.dtype)
        trail = convolve(falling, line(length * min(H, W), angle_deg + 90))
        lit = (trail * (rows(length) * min(H, W)).clamp(min=1)).clamp(0, 1) * 0.6
        dim = image * (1 - 0.35 * rows(strength)) + 0.12 * rows(strength)
        return (dim + (0.85 - dim).clamp(min=0) * lit * (rows(strength) * 3).clamp(max=1)).clamp(0, 1)


@register("image.spatter", tags={"weather", "differentiable"})
class Spatter(Operator):
    """Splash drops onto the lens: blobs of `strength` of the area, darker inside and bright along their upper edge."""

    strength = uniform(
        0.05, 0.3, unit="of the area", identity=0.0, bounds=(0, 1), severity=(0.05, 0.1, 0.18, 0.28, 0.42)
    )
    splash = noise_key()

    def formula(self, image: Tensor, strength: Tensor, splash: Tensor) -> Tensor:
        H, W = image.shape[-2:]
        field = clouds(splash, H, W, roughness=0.6, coarsest=6)
        wet = torch.stack(
            [torch.quantile(f.flatten(), 1 - s) for f, s in zip(field, strength.clamp(0, 1), strict=True)]
        )
        depth = ((field - rows(wet)) * 10).clamp(0, 1) * (rows(strength) > 0)
        edge = depth - torch.roll(depth, 1, dims=2)
        sigma = torch.full_like(strength, 0.012 * min(H, W))
        inside = convolve_separable(image, gaussian_taps(sigma)) * 0.72
        covered = image + (inside - image) * depth.to(image.dtype)
        return (covered + 0.6 * edge.clamp(min=0).to(image.dtype) * depth.to(image.dtype)).clamp(0, 1)


def smoothed(field: Tensor, sigma_px: Tensor) -> Tensor:
    """Smooth a random field (B, 1, H, W) and bring each sample back to mean 0 and standard deviation 1."""
    soft = filtered(field, gaussian_taps(sigma_px))
    soft = soft - soft.mean(dim=(2, 3), keepdim=True)
    return soft / soft.std(dim=(2, 3), keepdim=True, correction=0).clamp(min=1e-6)
