"""Tone: each value by itself, or by its image's statistics. Any number of channels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from robustaug.ops.operator import Operator, Params
from robustaug.ops.pixelwise import Number, Pixelwise, clip, floor, maximum, power, where
from robustaug.ops.program import Kernel, Step
from robustaug.ops.space import integer, log_uniform, uniform
from robustaug.registry import register


def to_linear(x: Number) -> Number:
    """Decode sRGB in [0, 1] to linear light (IEC 61966-2-1)."""
    # the bound inside the power keeps its slope finite where the other branch is taken
    return where(x <= 0.04045, x / 12.92, power((maximum(x, 0.04045) + 0.055) / 1.055, 2.4))


def to_srgb(light: Number) -> Number:
    """Encode linear light in [0, 1] as sRGB."""
    return where(light <= 0.0031308, 12.92 * light, 1.055 * power(maximum(light, 0.0031308), 1 / 2.4) - 0.055)


def around(x: Number, factor: Number, centre: Number) -> Number:
    """Move a value away from `centre` factor times."""
    return clip(centre + (x - centre) * factor)


@register("image.brightness", tags={"colour", "pixelwise", "differentiable"})
class Brightness(Pixelwise):
    """Multiply every value by `factor`; above 1 is brighter, and white stays white."""

    factor = uniform(
        0.7,
        1.3,
        unit="×",
        identity=1.0,
        bounds=(0, None),
        severity=tuple({"choice": [1 - d, 1 + d]} for d in (0.1, 0.2, 0.3, 0.4, 0.55)),
    )

    @staticmethod
    def value(x: Number, factor: Number) -> Number:
        return clip(x * factor)


@register("image.contrast", tags={"colour", "differentiable"})
class Contrast(Pixelwise):
    """Stretch or squeeze the values about the image's mean grey `factor` times; 0 leaves flat grey.

    Severities are the published ones of CIFAR-10-C (Hendrycks & Dietterich 2019), which take each channel's own
    mean instead.
    """

    factor = uniform(0.6, 1.4, unit="×", identity=1.0, bounds=(0, None), severity=(0.75, 0.5, 0.4, 0.3, 0.15))

    reads = "grey_mean"
    value = staticmethod(around)


@register("image.gamma", tags={"colour", "pixelwise", "differentiable"})
class Gamma(Pixelwise):
    """Raise every value to the power `gamma`; above 1 darkens the middle tones, black and white stay."""

    gamma = log_uniform(
        0.67,
        1.5,
        identity=1.0,
        bounds=(0.01, 100),
        severity=tuple({"choice": [1 / g, g]} for g in (1.2, 1.4, 1.7, 2.1, 2.7)),
    )

    @staticmethod
    def value(x: Number, gamma: Number) -> Number:
        # the slope at black is infinite for gamma < 1: it counts as 0
        return where(x > 0, power(where(x > 0, x, 1.0), gamma), 0.0)


@register("image.exposure", tags={"colour", "pixelwise", "differentiable"})
class Exposure(Pixelwise):
    """Let in 2^stops times the light: multiply in linear light, sRGB in and out (IEC 61966-2-1)."""

    stops = uniform(
        -0.7,
        0.7,
        unit="stops",
        identity=0.0,
        bounds=(-20, 20),
        severity=tuple({"choice": [-s, s]} for s in (0.3, 0.6, 1.0, 1.5, 2.0)),
    )

    def arguments(self, stops: Tensor) -> list[Tensor]:
        return [torch.exp2(stops)]

    @staticmethod
    def value(x: Number, light: Number) -> Number:
        return to_srgb(clip(to_linear(x) * light))


@register("image.invert", tags={"colour", "pixelwise", "differentiable"})
class Invert(Pixelwise):
    """Turn the image into its negative: 1 - x."""

    @staticmethod
    def value(x: Number) -> Number:
        return 1.0 - x


@register("image.solarize", tags={"colour", "pixelwise", "differentiable"})
class Solarize(Pixelwise):
    """Invert the values above `threshold`; at 1 nothing is above.

    torchvision also inverts values equal to the threshold, so that its weakest setting blackens white.
    """

    threshold = uniform(0.5, 1.0, identity=1.0, bounds=(0, 1), severity=(0.95, 0.85, 0.75, 0.6, 0.45))

    @staticmethod
    def value(x: Number, threshold: Number) -> Number:
        return where(x > threshold, 1.0 - x, x)


@register("image.posterize", tags={"colour", "pixelwise"})
class Posterize(Pixelwise):
    """Keep the `bits` highest of each value's 8 bits; 8 keeps the value as it is, also between levels."""

    bits = integer(3, 7, unit="bits", identity=8, bounds=(1, 8), severity=(6, 5, 4, 3, 2))

    def arguments(self, bits: Tensor) -> list[Tensor]:
        return [torch.exp2(8.0 - bits)]

    @staticmethod
    def value(x: Number, step: Number) -> Number:
        # a level k survives k / 255 * 255 only up to rounding, hence the nudge before the floor
        return where(step <= 1.0, x, floor((x * 255.0 + 1e-3) / step) * step / 255.0)


@register("image.auto_contrast", tags={"colour", "differentiable"})
class AutoContrast(Pixelwise):
    """Stretch each channel so that its darkest value becomes 0 and its brightest 1; a flat channel stays."""

    reads = "channel_range"

    @staticmethod
    def value(x: Number, low: Number, high: Number) -> Number:
        return clip(where(high > low, (x - low) / where(high > low, high - low, 1.0), x))


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

    def lower(self, params: Params, shape: Sequence[int], n: int) -> list[Step]:
        return [Step.of(Kernel("equalize", self.name), [], shape, n)]
