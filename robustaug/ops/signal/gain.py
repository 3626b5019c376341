"""What changes the size of values: scaling, gain, saturation, quantisation.

Legend: B samples, C channels, T steps.
"""

from __future__ import annotations

import torch
from torch import Tensor

from robustaug.ops.signal.series import SeriesOperator, column, mean, smooth_curve, spread
from robustaug.ops.space import integer, noise_key, uniform
from robustaug.registry import register
from robustaug.rng import normal_field

_KNOTS = 6  # four inner ones and the ends, as published


@register("signal.scaling", tags={"gain", "differentiable"})
class Scaling(SeriesOperator):
    """Multiply each channel by its own factor from N(1, sigma) (Um et al. 2017, arXiv 1706.00527)."""

    sigma = uniform(0.02, 0.2, unit="×", identity=0.0, bounds=(0, None), severity=(0.05, 0.1, 0.2, 0.4, 0.8))
    factor = noise_key()

    def formula(self, image: Tensor, sigma: Tensor, factor: Tensor) -> Tensor:
        return image * (1 + column(sigma).to(image) * normal_field(factor, (image.shape[1], 1)).to(image))


@register("signal.magnitude_warp", tags={"gain", "differentiable"})
class MagnitudeWarp(SeriesOperator):
    """Multiply each channel by a smooth curve through values from N(1, sigma) (Um et al. 2017, arXiv 1706.00527)."""

    sigma = uniform(0.05, 0.3, unit="×", identity=0.0, bounds=(0, None), severity=(0.05, 0.1, 0.2, 0.4, 0.8))
    curve = noise_key()

    def formula(self, image: Tensor, sigma: Tensor, curve: Tensor) -> Tensor:
        warp = smooth_curve(curve, image.shape[1], _KNOTS, image.shape[2]).to(image)
        return image * (1 + column(sigma).to(image) * warp)


@register("signal.gain_change", tags={"gain", "differentiable"})
class GainChange(SeriesOperator):
    """Multiply every channel by `factor` from the moment `at` on: an amplifier that was switched, a new sensor."""

    factor = uniform(
        0.5,
        1.5,
        unit="×",
        identity=1.0,
        severity=tuple({"choice": [1 - d, 1 + d]} for d in (0.1, 0.2, 0.4, 0.6, 0.9)),
    )
    at = uniform(0.1, 0.9, unit="of the time", bounds=(0, 1))

    def formula(self, image: Tensor, factor: Tensor, at: Tensor) -> Tensor:
        time = torch.arange(image.shape[2], device=image.device) / image.shape[2]
        return torch.where(time >= column(at), image * column(factor).to(image), image)


@register("signal.saturation", tags={"gain", "differentiable"})
class Saturation(SeriesOperator):
    """Clip each channel at `limit` standard deviations from its mean: a sensor at the end of its range."""

    limit = uniform(0.75, 2, unit="sd", bounds=(0, None), severity=(1.3, 1, 0.75, 0.5, 0.25))

    def formula(self, image: Tensor, limit: Tensor) -> Tensor:
        centre, reach = mean(image), column(limit).to(image) * spread(image)
        return image.clamp(centre - reach, centre + reach)


@register("signal.quantize", tags={"gain"})
class Quantize(SeriesOperator):
    """Round each channel to the nearest of `levels` values, evenly spaced from its least to its greatest."""

    levels = integer(8, 64, bounds=(2, None), severity=(64, 32, 16, 8, 4))

    def formula(self, image: Tensor, levels: Tensor) -> Tensor:
        low = image.nan_to_num(torch.inf).amin(2, keepdim=True)
        high = image.nan_to_num(-torch.inf).amax(2, keepdim=True)
        step = (high - low) / (column(levels).to(image) - 1)
        rounded = low + ((image - low) / step).round() * step
        return torch.where((step > 0) & step.isfinite(), rounded, image)  # flat, or nothing but gaps
