"""Blur: each pixel becomes a mean of its surroundings. Any number of channels; the border reflects.

Lengths are in pixels. The severities of gaussian_blur and defocus_blur are those published for CIFAR-10-C
(Hendrycks & Dietterich 2019), made for 32 x 32 images: for larger ones set the length yourself, in proportion to the
side.
"""

from __future__ import annotations

import torch
from torch import Tensor

from robustaug.ops.image.convolve import convolve, convolve_separable
from robustaug.ops.operator import Operator, rows
from robustaug.ops.space import uniform
from robustaug.registry import register

_NO_LENGTH = 1e-6  # stands for a width of 0, which must not be divided by


def offsets(radius: int, like: Tensor) -> Tensor:
    """Return (2 radius + 1,) float64: -radius to radius."""
    return torch.arange(-radius, radius + 1, dtype=torch.float64, device=like.device)


def reach(length: Tensor) -> int:
    """Return the least whole number of pixels that covers every sample's length."""
    return int(length.detach().max().ceil())


def gaussian_taps(sigma_px: Tensor) -> Tensor:
    """Return (B, K) taps of Gaussians cut at 4 sigma, K set by the widest."""
    sigma = sigma_px.to(torch.float64).clamp(min=_NO_LENGTH)[:, None]
    cut = torch.floor(4 * sigma + 0.5)
    at = offsets(reach(cut), sigma)
    taps = torch.exp(-0.5 * (at / sigma) ** 2) * (at.abs() <= cut)
    return taps / taps.sum(dim=1, keepdim=True)


def box_taps(width_px: Tensor) -> Tensor:
    """Return (B, K) taps of boxes, K set by the widest; the outermost pixels count by the share that is covered."""
    half = width_px.to(torch.float64)[:, None] / 2
    at = offsets(reach(half - 0.5), half)
    covered = (half - at.abs() + 0.5).clamp(0, 1)
    return covered / covered.sum(dim=1, keepdim=True)


def streak(sigma_px: Tensor, angle_deg: Tensor) -> Tensor:
    """Return (B, K, K), the kernel of a one-sided Gaussian trail cut at 4 sigma, placed between pixels."""
    sigma = sigma_px.to(torch.float64).clamp(min=_NO_LENGTH)[:, None]
    step = torch.arange(reach(4 * sigma) + 1, dtype=torch.float64, device=sigma.device)  # pixels along the trail
    return _trail(torch.exp(-0.5 * (step / sigma) ** 2) * (step <= 4 * sigma), angle_deg)


def line(length_px: Tensor, angle_deg: Tensor) -> Tensor:
    """Return (B, K, K), the kernel of an even trail of length_px, one pixel at least."""
    length = length_px.to(torch.float64).clamp(min=1)[:, None]
    step = torch.arange(reach(length), dtype=torch.float64, device=length.device)
    return _trail((length - step).clamp(0, 1), angle_deg)


def _trail(weight: Tensor, angle_deg: Tensor) -> Tensor:
    """Lay weights (B, S), one a pixel's step, along a direction; the kernel sums to 1."""
    angle = torch.deg2rad(angle_deg.to(torch.float64))[:, None]
    step = torch.arange(weight.shape[1], dtype=torch.float64, device=weight.device)
    at = offsets(weight.shape[1] - 1, weight)
    # each step is shared between the pixels beside it: (B, S, K)
    share_x = (1 - (at - (step * torch.cos(angle))[..., None]).abs()).clamp(min=0)
    share_y = (1 - (at - (step * torch.sin(angle))[..., None]).abs()).clamp(min=0)
    kernel = (share_y * weight[..., None]).transpose(1, 2) @ share_x  # (B, K, K)
    return kernel / kernel.sum(dim=(1, 2), keepdim=True)


@register("image.gaussian_blur", tags={"blur", "differentiable"})
class GaussianBlur(Operator):
    """Blur with a Gaussian of standard deviation sigma_px, cut at 4 sigma.

    >>> import torch, robustaug
    >>> blur = robustaug.create("image.gaussian_blur", sigma_px=(0.5, 2))
    >>> blur(torch.zeros(4, 3, 8, 8, dtype=torch.uint8)).shape
    torch.Size([4, 3, 8, 8])
    """

    sigma_px = uniform(0.3, 1.5, unit="px", identity=0.0, bounds=(0, 1000), severity=(0.4, 0.6, 0.7, 0.8, 1.0))

    def formula(self, image: Tensor, sigma_px: Tensor) -> Tensor:
        return convolve_separable(image, gaussian_taps(sigma_px))


@register("image.box_blur", tags={"blur", "differentiable"})
class BoxBlur(Operator):
    """Average over a square of width_px; a width between whole pixels takes part of the outermost ones."""

    width_px = uniform(1.2, 3.0, unit="px", identity=1.0, bounds=(1, 1000), severity=(1.4, 1.8, 2.2, 2.6, 3.2))

    def formula(self, image: Tensor, width_px: Tensor) -> Tensor:
        return convolve_separable(image, box_taps(width_px))


@register("image.defocus_blur", tags={"blur", "differentiable"})
class DefocusBlur(Operator):
    """Blur with a disk of radius_px, its edge softened by a Gaussian of alias_px.

    Source: ImageNet-C's generator; the softening spans 3 pixels, 5 above a radius of 8.
    """

    radius_px = uniform(0.3, 2.0, unit="px", identity=0.0, bounds=(0, 1000), severity=(0.3, 0.4, 0.5, 1.0, 1.5))
    alias_px = uniform(0.1, 0.6, unit="px", identity=0.0, bounds=(0, 1000), severity=(0.4, 0.5, 0.6, 0.2, 0.1))

    def formula(self, image: Tensor, radius_px: Tensor, alias_px: Tensor) -> Tensor:
        radius = radius_px.to(torch.float64)[:, None, None]
        at = offsets(reach(radius.floor()) + 2, radius)  # room for the softening
        disk = (at[:, None] ** 2 + at**2 <= radius**2).to(torch.float64)  # (B, K, K)
        near = torch.where(radius[:, :, 0] > 8, 2, 1)
        soft = torch.exp(-0.5 * (at / alias_px.to(torch.float64).clamp(min=_NO_LENGTH)[:, None]) ** 2)
        soft = soft * (at.abs() <= near)
        soft = soft / soft.sum(dim=1, keepdim=True)
        # smoothing the disk is a product with the banded matrix whose rows are the softening, shifted
        lag = (at - at[:, None]).to(torch.int64)  # (K, K)
        inside = lag.abs() <= len(at) // 2
        band = soft[:, (lag + len(at) // 2).clamp(0, len(at) - 1)] * inside
        kernel = band @ disk @ band
        return convolve(image, kernel / kernel.sum(dim=(1, 2), keepdim=True))


@register("image.motion_blur", tags={"blur", "differentiable"})
class MotionBlur(Operator):
    """Drag each pixel along a straight trail: a one-sided Gaussian of sigma_px at angle_deg.

    Source: ImageNet-C's generator. Its trail snaps to whole pixels and ends at a given radius; ours is placed
    between pixels, so that the angle matters smoothly, and ends at 4 sigma.
    """

    sigma_px = uniform(0.5, 2.5, unit="px", identity=0.0, bounds=(0, 250), severity=(1.0, 1.5, 2.0, 2.5, 3.2))
    angle_deg = uniform(-45, 45, unit="degrees")

    def formula(self, image: Tensor, sigma_px: Tensor, angle_deg: Tensor) -> Tensor:
        return convolve(image, streak(sigma_px, angle_deg))


@register("image.sharpness", tags={"blur", "differentiable"})
class Sharpness(Operator):
    """Move the image away from its 3 x 3 smoothing `factor` times: 0 smooths, 1 is the image, 2 sharpens.

    The outermost pixels stay as they are (as PIL does), so an image narrower than 3 pixels does not change.
    """

    factor = uniform(0.0, 3.0, unit="×", identity=1.0, bounds=(0, None), severity=(2.0, 3.0, 4.5, 6.5, 9.0))

    def formula(self, image: Tensor, factor: Tensor) -> Tensor:
        H, W = image.shape[-2:]
        if min(H, W) < 3:
            return image
        centre = image[..., 1:-1, 1:-1]
        triples = image[..., :-2] + image[..., 1:-1] + image[..., 2:]
        nines = triples[..., :-2, :] + triples[..., 1:-1, :] + triples[..., 2:, :]
        smooth = (nines + 4 * centre) / 13
        sharpened = (smooth + (centre - smooth) * rows(factor)).clamp(0, 1)
        out = image.clone()
        out[..., 1:-1, 1:-1] = sharpened
        return out
