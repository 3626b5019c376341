"""Tone: each value by itself, or by its image's statistics. Any number of channels."""

from __future__ import annotations

import torch
from torch import Tensor

from robustaug.ops.operator import Operator, rows
from robustaug.ops.space import integer, log_uniform, uniform
from robustaug.registry import register

LUMA = (0.2989, 0.587, 0.114)
"""Weights of red, green and blue in grey (ITU-R BT.601, as PIL and torchvision)."""


def grey(image: Tensor) -> Tensor:
    """Return (B, 1, H, W): luma for three channels, otherwise the plain mean of the channels."""
    if image.shape[1] != 3:
        return image.mean(dim=1, keepdim=True)
    red, green, blue = image.split(1, dim=1)
    return LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue


@register("image.brightness", tags={"colour", "pixelwise", "differentiable"})
class Brightness(Operator):
    """Multiply every value by `factor`; above 1 is brighter, and white stays white."""

    factor = uniform(
        0.7,
        1.3,
        unit="×",
        identity=1.0,
        bounds=(0, None),
        severity=tuple({"choice": [1 - d, 1 + d]} for d in (0.1, 0.2, 0.3, 0.4, 0.55)),
    )

    def formula(self, image: Tensor, factor: Tensor) -> Tensor:
        return (image * rows(factor)).clamp(0, 1)


@register("image.contrast", tags={"colour", "differentiable"})
class Contrast(Operator):
    """Stretch or squeeze the values about the image's mean grey `factor` times; 0 leaves flat grey.

    Severities are the published ones of CIFAR-10-C (Hendrycks & Dietterich 2019), which take each channel's own
    mean instead.
    """

    factor = uniform(0.6, 1.4, unit="×", identity=1.0, bounds=(0, None), severity=(0.75, 0.5, 0.4, 0.3, 0.15))

    def formula(self, image: Tensor, factor: Tensor) -> Tensor:
        mean = grey(image).mean(dim=(1, 2, 3), keepdim=True)
        return (mean + (image - mean) * rows(factor)).clamp(0, 1)


@register("image.gamma", tags={"colour", "pixelwise", "differentiable"})
class Gamma(Operator):
    """Raise every value to the power `gamma`; above 1 darkens the middle tones, black and white stay."""

    gamma = log_uniform(
        0.67,
        1.5,
        identity=1.0,
        bounds=(0.01, 100),
        severity=tuple({"choice": [1 / g, g]} for g in (1.2, 1.4, 1.7, 2.1, 2.7)),
    )

    def formula(self, image: Tensor, gamma: Tensor) -> Tensor:
        positive = image > 0  # the slope at black is infinite for gamma < 1: it counts as 0
        return torch.where(positive, torch.where(positive, image, 1.0) ** rows(gamma), 0.0)


@register("image.exposure", tags={"colour", "pixelwise", "differentiable"})
class Exposure(Operator):
    """Let in 2^stops times the light: multiply in linear light, sRGB in and out (IEC 61966-2-1)."""

    stops = uniform(
        -0.7,
        0.7,
        unit="stops",
        identity=0.0,
        bounds=(-20, 20),
        severity=tuple({"choice": [-s, s]} for s in (0.3, 0.6, 1.0, 1.5, 2.0)),
    )

    def formula(self, image: Tensor, stops: Tensor) -> Tensor:
        linear = torch.where(image <= 0.04045, image / 12.92, ((image + 0.055) / 1.055) ** 2.4)
        lit = (linear * torch.exp2(rows(stops))).clamp(0, 1)
        # the clamp inside the power keeps its slope finite where the other branch is taken
        return torch.where(lit <= 0.0031308, 12.92 * lit, 1.055 * lit.clamp(min=0.0031308) ** (1 / 2.4) - 0.055)


@register("image.invert", tags={"colour", "pixelwise", "differentiable"})
class Invert(Operator):
    """Turn the image into its negative: 1 - x."""

    def formula(self, image: Tensor) -> Tensor:
        return 1 - image


@register("image.solarize", tags={"colour", "pixelwise", "differentiable"})
class Solarize(Operator):
    """Invert the values above `threshold`; at 1 nothing is above.

    torchvision also inverts values equal to the threshold, so that its weakest setting blackens white.
    """

    threshold = uniform(0.5, 1.0, identity=1.0, bounds=(0, 1), severity=(0.95, 0.85, 0.75, 0.6, 0.45))

    def formula(self, image: Tensor, threshold: Tensor) -> Tensor:
        return torch.where(image > rows(threshold), 1 - image, image)


@register("image.posterize", tags={"colour", "pixelwise"})
class Posterize(Operator):
    """Keep the `bits` highest of each value's 8 bits; 8 keeps the value as it is, also between levels."""

    bits = integer(3, 7, unit="bits", identity=8, bounds=(1, 8), severity=(6, 5, 4, 3, 2))

    def formula(self, image: Tensor, bits: Tensor) -> Tensor:
        step = torch.exp2(8.0 - rows(bits))
        # a level k survives k / 255 * 255 only up to rounding, hence the nudge before the floor
        kept = torch.floor((image * 255 + 1e-3) / step) * step / 255
        return torch.where(rows(bits) >= 8, image, kept)


@register("image.auto_contrast", tags={"colour", "differentiable"})
class AutoContrast(Operator):
    """Stretch each channel so that its darkest value becomes 0 and its brightest 1; a flat channel stays."""

    def formula(self, image: Tensor) -> Tensor:
        low, high = image.amin(dim=(2, 3), keepdim=True), image.amax(dim=(2, 3), keepdim=True)
        flat = high <= low
        stretched = (image - low) / torch.where(flat, 1.0, high - low)
        return torch.where(flat, image, stretched).clamp(0, 1)


@register("image.equalize", tags={"colour"})
class Equalize(Operator):
    """Spread each channel's values so that all 256 levels are as common as can be (PIL's rule).

    Floating images are read at 256 levels. A channel with too few distinct pixels stays as it is.
    """

    def formula(self, image: Tensor) -> Tensor:
        levels = (image.flatten(2) * 255).round().to(torch.int64)  # (B, C, H W)
        histogram = torch.zeros(*levels.shape[:2], 256, dtype=torch.int64, device=image.device)
        histogram.scatter_add_(2, levels, torch.ones_like(levels))
        brightest = histogram.gather(2, levels.amax(dim=2, keepdim=True))
        step = (levels.shape[2] - brightest) // 255  # pixels a level, (B, C, 1)
        before = histogram.cumsum(2) - histogram
        table = ((before + step // 2) // step.clamp(min=1)).clamp(max=255)
        spread = table.gather(2, levels).to(image.dtype) / 255
        return torch.where(step == 0, image.flatten(2), spread).reshape(image.shape)
