"""Filters that are no plain blur: order statistics, several exposures, scattering, and overdone sharpening.

Legend: B samples, C channels, H rows, W columns.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from robustaug.ops.image.blur import gaussian_taps
from robustaug.ops.image.convolve import convolve, convolve_separable, filtered, sum_of
from robustaug.ops.image.motion import grid
from robustaug.ops.image.resample import centred, read_at, resample, scaling
from robustaug.ops.operator import Operator, rows
from robustaug.ops.space import choice, noise_key, uniform
from robustaug.registry import register
from robustaug.rng import uniform_field

_EXPOSURES = 12


@register("image.median_blur", tags={"blur"})
class MedianBlur(Operator):
    """Replace each value by the median over a square of width_px (odd); edges stay sharp. The border repeats."""

    width_px = choice([3, 5], unit="px", identity=1, bounds=(1, 31), severity=(3, 5, 7, 9, 11))

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        for width in self.spaces["width_px"].values:
            if width % 2 != 1:
                raise ValueError(f"{self.name}: width_px must be odd, got {width:g}")

    def formula(self, image: Tensor, width_px: Tensor) -> Tensor:
        out = image
        for width in width_px.unique().tolist():
            if width > 1:
                chosen = (width_px == width).nonzero()[:, 0]
                out = out.index_copy(0, chosen, _median(image[chosen], int(width)))
        return out


def _median(image: Tensor, width: int) -> Tensor:
    radius = width // 2
    wide = torch.nn.functional.pad(image, (radius,) * 4, mode="replicate")
    squares = wide.unfold(2, width, 1).unfold(3, width, 1).flatten(4)  # (B, C, H, W, width^2)
    return squares.median(dim=-1).values


@register("image.zoom_blur", tags={"blur", "differentiable"})
class ZoomBlur(Operator):
    """Zoom in while the shutter is open: the mean of 12 enlargements, 1 to `factor` times about the centre."""

    factor = uniform(1.03, 1.2, unit="×", identity=1.0, bounds=(1, 10), severity=(1.06, 1.11, 1.16, 1.21, 1.26))

    def formula(self, image: Tensor, factor: Tensor) -> Tensor:
        size = image.shape[-2:]
        factors = [1 + (factor - 1) * step / (_EXPOSURES - 1) for step in range(_EXPOSURES)]
        zoomed = (resample(image, centred(scaling(f, f), size), "edge") for f in factors)
        return (sum_of(zoomed) / _EXPOSURES).clamp(0, 1)


@register("image.glass_blur", tags={"blur", "differentiable"})
class GlassBlur(Operator):
    """Look through frosted glass: each pixel comes from up to `reach` of the shorter side away, then a slight blur.

    ImageNet-C's glass_blur swaps pixels one after another instead: `imagenet_c.glass_blur`. Here every pixel is
    drawn on its own, all at once.
    """

    reach = uniform(
        0.005, 0.04, unit="of the shorter side", identity=0.0, bounds=(0, 1), severity=(0.01, 0.02, 0.03, 0.045, 0.065)
    )
    scatter = noise_key()

    def formula(self, image: Tensor, reach: Tensor, scatter: Tensor) -> Tensor:
        H, W = image.shape[-2:]
        length = rows(reach) * min(H, W)  # px
        away = (2 * uniform_field(scatter, (H, W, 2)) - 1).to(torch.float64) * length
        position = grid(H, W, image.device) + away
        return convolve_separable(read_at(image, position, "edge"), gaussian_taps(length.flatten() / 6))


@register("image.unsharp_mask", tags={"blur", "differentiable"})
class UnsharpMask(Operator):
    """Add `amount` times what a Gaussian blur of sigma_px takes away: the over-sharpening of cheap cameras."""

    amount = uniform(0.3, 2.0, unit="×", identity=0.0, bounds=(0, None), severity=(0.5, 1, 1.7, 2.6, 4))
    sigma_px = uniform(0.7, 1.5, unit="px", bounds=(0, 1000))

    def formula(self, image: Tensor, amount: Tensor, sigma_px: Tensor) -> Tensor:
        smooth = convolve_separable(image, gaussian_taps(sigma_px))
        return (image + rows(amount) * (image - smooth)).clamp(0, 1)


@register("image.emboss", tags={"blur", "differentiable"})
class Emboss(Operator):
    """Light the image as a relief from the top left: add `strength` times the slope along the diagonal."""

    strength = uniform(0.2, 0.8, identity=0.0, bounds=(0, None), severity=(0.2, 0.4, 0.6, 0.9, 1.3))

    def formula(self, image: Tensor, strength: Tensor) -> Tensor:
        kernel = torch.tensor([[-1.0, -1, 0], [-1, 0, 1], [0, 1, 1]], dtype=image.dtype, device=image.device)
        centre = torch.zeros_like(kernel)
        centre[1, 1] = 1
        return convolve(image, centre + kernel * strength.to(image.dtype)[:, None, None])


@register("image.ringing", tags={"blur", "differentiable"})
class Ringing(Operator):
    """Cut the spatial frequencies above `cutoff` off sharply, so that edges ring, as poor resizing does.

    The filter is a product of two sincs of 7 + 7 taps: cutoff 1 keeps everything (Nyquist's limit).
    """

    cutoff = uniform(0.35, 0.8, unit="of Nyquist", identity=1.0, bounds=(0.05, 1), severity=(0.8, 0.65, 0.5, 0.4, 0.3))

    def formula(self, image: Tensor, cutoff: Tensor) -> Tensor:
        at = torch.arange(-7, 8, dtype=torch.float64, device=image.device)
        taps = torch.sinc(at * cutoff.to(torch.float64)[:, None])
        taps = taps / taps.sum(dim=1, keepdim=True)
        return filtered(image, taps).clamp(0, 1)
