"""Tone, colour, codec and geometry of ImageNet-C.

Legend: B samples, C channels, H rows, W columns.
"""

from __future__ import annotations

import torch
from torch import Tensor

from robustaug.ops.corruptions.published import published
from robustaug.ops.image import digital
from robustaug.ops.image.colour import Colour
from robustaug.ops.image.convolve import filtered, mirrored
from robustaug.ops.image.hsv import ValueWise, chroma_share, saturated
from robustaug.ops.image.motion import Warp
from robustaug.ops.image.resample import Size, moved
from robustaug.ops.image.tone import around
from robustaug.ops.pixelwise import Number, Pixelwise, clip, maximum, minimum
from robustaug.ops.space import fixed, noise_key
from robustaug.rng import uniform_field


@published(
    "brightness",
    {"colour", "pixelwise"},
    imagenet={"shift": (0.1, 0.2, 0.3, 0.4, 0.5)},
    cifar={"shift": (0.05, 0.1, 0.15, 0.2, 0.3)},
)
class Brightness(ValueWise):
    """Add `shift` to V of HSV, the greatest channel; hue and saturation stay."""

    shift = fixed(0.3, identity=0.0, bounds=(-1, 1))


@published(
    "contrast",
    {"colour", "differentiable"},
    imagenet={"factor": (0.4, 0.3, 0.2, 0.1, 0.05)},
    cifar={"factor": (0.75, 0.5, 0.4, 0.3, 0.15)},
)
class Contrast(Pixelwise):
    """Squeeze the values of each channel about that channel's mean `factor` times."""

    factor = fixed(0.2, unit="×", identity=1.0, bounds=(0, None))

    reads = "channel_mean"
    value = staticmethod(around)


@published(
    "saturate",
    {"colour", "pixelwise", "rgb"},
    imagenet={"factor": (0.3, 0.1, 2, 5, 20), "shift": (0, 0, 0, 0.1, 0.2)},
    cifar={"factor": (0.3, 0.1, 1.5, 2, 2.5), "shift": (0, 0, 0, 0.1, 0.2)},
)
class Saturate(Pixelwise):
    """Set S of HSV to factor S + shift; hue and value stay. Grey has hue 0: a shift makes it reddish, as published."""

    factor = fixed(2.0, unit="×", identity=1.0, bounds=(0, None))
    shift = fixed(0.0, identity=0.0, bounds=(-1, 1))

    @staticmethod
    def pixel(red: Number, green: Number, blue: Number, factor: Number, shift: Number) -> Colour:
        value = maximum(maximum(red, green), blue)
        chroma = value - minimum(minimum(red, green), blue)
        new = clip(chroma_share(value, chroma) * factor + shift)
        return (
            saturated(red, value, chroma, 0.0, new),
            saturated(green, value, chroma, 1.0, new),
            saturated(blue, value, chroma, 1.0, new),
        )


@published(
    "pixelate",
    {"digital", "differentiable"},
    imagenet={"resolution": (0.6, 0.5, 0.4, 0.3, 0.25)},
    cifar={"resolution": (0.95, 0.9, 0.85, 0.75, 0.65)},
)
class Pixelate(digital.Pixelate):
    """Shrink the image to `resolution` of its sides and grow it back, both by boxes."""


@published(
    "jpeg_compression",
    {"digital"},
    imagenet={"quality": (25, 18, 15, 10, 7)},
    cifar={"quality": (80, 65, 58, 50, 40)},
)
class Jpeg(digital.Jpeg):
    """Compress as JPEG at `quality` and decode again."""


@published(
    "elastic_transform",
    {"geometry"},
    imagenet={
        "alpha_px": (488, 488, 12.2, 17.08, 29.28),
        "sigma_px": (170.8, 19.52, 2.44, 2.44, 2.44),
        "affine_px": (24.4, 48.8, 4.88, 4.88, 4.88),
    },
    cifar={
        "alpha_px": (0, 1.6, 2.56, 3.2, 3.2),
        "sigma_px": (0, 6.4, 1.92, 1.28, 0.96),
        "affine_px": (2.56, 2.24, 1.92, 1.6, 0.96),
    },
)
class ElasticTransform(Warp):
    """Move three points by up to affine_px and the image with them, then shake every pixel.

    The shake is even noise in [-1, 1], smoothed by a Gaussian of sigma_px cut at 3 sigma, times alpha_px. The
    published program resamples twice, once for each step; here both are one resampling, which blurs less. Beyond the
    border the edge repeats.
    """

    alpha_px = fixed(10.0, unit="px", identity=0.0, bounds=(0, None))
    sigma_px = fixed(2.0, unit="px", bounds=(0, 1000))
    affine_px = fixed(4.0, unit="px", identity=0.0, bounds=(0, None))
    corners = noise_key()
    shake = noise_key()

    def source(
        self,
        points: Tensor,
        size: Size,
        alpha_px: Tensor,
        sigma_px: Tensor,
        affine_px: Tensor,
        corners: Tensor,
        shake: Tensor,
    ) -> Tensor:
        H, W = size
        field = smooth_field(shake, H, W, sigma_px) * alpha_px.to(torch.float64)[:, None, None, None]  # (B, 2, H, W)
        points = points.to(torch.float64)
        at = torch.stack([(2 * points[..., 0] + 1) / W - 1, (2 * points[..., 1] + 1) / H - 1], dim=-1)
        shaken = torch.nn.functional.grid_sample(field, at[:, None], padding_mode="border", align_corners=False)
        return moved(points + shaken[:, :, 0].transpose(1, 2), self._affine(size, affine_px, corners))

    @staticmethod
    def _affine(size: Size, affine_px: Tensor, corners: Tensor) -> Tensor:
        """Return (B, 3, 3), output to input: takes three points, moved, back to where they were."""
        H, W = size
        third = max(min(H, W) // 3, 1)
        x, y = W // 2, H // 2
        fixed_points = [[x + third, y + third, 1.0], [x + third, y - third, 1.0], [x - third, y - third, 1.0]]
        before = torch.tensor(fixed_points, dtype=torch.float64, device=corners.device).T  # (3, points)
        after = before.repeat(len(corners), 1, 1)
        drawn = 2 * uniform_field(corners, (2, 3)).to(torch.float64) - 1
        # three points on a line span no map: on an image of a few pixels they move less
        most = affine_px.to(torch.float64).clamp(max=0.45 * third) if third < 10 else affine_px.to(torch.float64)
        after[:, :2] += drawn * most[:, None, None]
        return before @ torch.linalg.inv(after)


def smooth_field(key: Tensor, H: int, W: int, sigma_px: Tensor) -> Tensor:
    """Return (B, 2, H, W) float64: even noise in [-1, 1] under a Gaussian cut at 3 sigma, mirrored at the border."""
    raw = (2 * uniform_field(key, (2, H, W)) - 1).to(torch.float64)
    sigma = sigma_px.to(torch.float64).clamp(min=1e-6)[:, None]
    cut = torch.floor(3 * sigma + 0.5)
    at = torch.arange(-int(cut.max()), int(cut.max()) + 1, dtype=torch.float64, device=key.device)
    taps = torch.exp(-0.5 * (at / sigma) ** 2) * (at.abs() <= cut)
    return filtered(raw, taps / taps.sum(dim=1, keepdim=True), mirrored)
