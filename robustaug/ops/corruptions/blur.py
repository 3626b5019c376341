"""Blur of ImageNet-C.

Legend: B samples, C channels, H rows, W columns, S steps of a trail.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from robustaug.ops.corruptions.published import published
from robustaug.ops.image import blur
from robustaug.ops.image.blur import gaussian_taps
from robustaug.ops.image.convolve import convolve, convolve_separable, filtered, repeated
from robustaug.ops.operator import Operator
from robustaug.ops.space import fixed, integer, noise_key, uniform
from robustaug.rng import uniform_field


@published(
    "gaussian_blur",
    {"blur", "differentiable"},
    imagenet={"sigma_px": (1, 2, 3, 4, 6)},
    cifar={"sigma_px": (0.4, 0.6, 0.7, 0.8, 1)},
)
class GaussianBlur(Operator):
    """Blur with a Gaussian of standard deviation sigma_px, cut at 4 sigma; the border repeats."""

    sigma_px = fixed(1.0, unit="px", identity=0.0, bounds=(0, 1000))

    def formula(self, image: Tensor, sigma_px: Tensor) -> Tensor:
        return convolve_separable(image, gaussian_taps(sigma_px), repeated)


@published(
    "defocus_blur",
    {"blur", "differentiable"},
    imagenet={"radius_px": (3, 4, 6, 8, 10), "alias_px": (0.1, 0.5, 0.5, 0.5, 0.5)},
    cifar={"radius_px": (0.3, 0.4, 0.5, 1, 1.5), "alias_px": (0.4, 0.5, 0.6, 0.2, 0.1)},
)
class DefocusBlur(blur.DefocusBlur):
    """Blur with a disk of radius_px, its edge softened by a Gaussian of alias_px.

    The published kernel has 17 x 17 pixels, more above a radius of 8 but never room for the softening, which is
    mirrored at the kernel's border instead.
    """

    def formula(self, image: Tensor, radius_px: Tensor, alias_px: Tensor) -> Tensor:
        out = image
        pairs = torch.stack([radius_px, alias_px], dim=1)
        for pair in pairs.unique(dim=0):
            chosen = (pairs == pair).all(dim=1).nonzero()[:, 0]
            kernel = _disk(*(float(v) for v in pair)).to(image.device)
            out = out.index_copy(0, chosen, convolve(image[chosen], kernel.expand(len(chosen), -1, -1)))
        return out


def _disk(radius: float, alias: float) -> Tensor:
    """Return (1, K, K) float64, summing to 1 before the softening: what the mirror adds brightens, as published."""
    wide, near = (8, 1) if radius <= 8 else (int(radius), 2)
    at = torch.arange(-wide, wide + 1, dtype=torch.float64)
    disk = (at[:, None] ** 2 + at**2 <= radius**2).to(torch.float64)
    step = torch.arange(-near, near + 1, dtype=torch.float64)
    taps = torch.exp(-0.5 * (step / max(alias, 1e-6)) ** 2)
    return filtered((disk / disk.sum())[None, None], (taps / taps.sum())[None])[0]


@published(
    "glass_blur",
    {"blur"},
    imagenet={"sigma_px": (0.7, 0.9, 1, 1.1, 1.5), "reach_px": (1, 2, 2, 3, 4), "rounds": (2, 1, 3, 2, 2)},
    cifar={"sigma_px": (0.05, 0.25, 0.4, 0.25, 0.4), "reach_px": (1, 1, 1, 1, 1), "rounds": (1, 1, 1, 2, 2)},
)
class GlassBlur(Operator):
    """Blur, let pixels copy neighbours up to reach_px away one after another, from the bottom right up, and blur again.

    The published program means to swap two pixels, but assigning NumPy rows to one another copies: a pixel takes its
    neighbour's value and the neighbour keeps it. The published sets were made that way, so this does the same. The
    outermost reach_px pixels stay.
    """

    sigma_px = fixed(1.0, unit="px", bounds=(0, 1000))
    reach_px = integer(2, 2, unit="px", bounds=(1, 64))
    rounds = integer(1, 1, bounds=(0, 16))
    scatter = noise_key()

    def formula(self, image: Tensor, sigma_px: Tensor, reach_px: Tensor, rounds: Tensor, scatter: Tensor) -> Tensor:
        B, C, H, W = image.shape
        taps = gaussian_taps(sigma_px)
        soft = convolve_separable(image, taps, repeated).flatten(2)
        draws = uniform_field(scatter, (int(rounds.max()), 2, H * W))
        for turn in range(draws.shape[1]):
            source = _copied_from(draws[:, turn], reach_px, H, W)
            source = torch.where((turn < rounds)[:, None], source, torch.arange(H * W, device=image.device))
            soft = soft.gather(2, source[:, None].expand(B, C, H * W))
        return convolve_separable(soft.reshape(image.shape), taps, repeated)


def _copied_from(draws: Tensor, reach: Tensor, H: int, W: int) -> Tensor:
    """Return (B, H W): which pixel's old value each one holds after all have copied in turn."""
    index = torch.arange(H * W, device=draws.device)
    row, column = index // W, index % W
    far = reach[:, None]
    # the program's loops run from size - reach down to reach, excluded
    turned = (row <= H - far) & (row > far) & (column <= W - far) & (column > far) & (row < H) & (column < W)
    move = torch.floor(draws * (2 * far[:, :, None])).long() - far[:, :, None]  # -reach to reach - 1
    target = (row + move[:, 0]).clamp(0, H - 1) * W + (column + move[:, 1]).clamp(0, W - 1)
    target = torch.where(turned, target, index)
    # a neighbour further on has had its turn already: what is copied is what it had copied, and so on
    again = turned & (target > index) & turned.gather(1, target)
    for _ in range(max(1, math.ceil(math.log2(H * W + 1)))):
        if not bool(again.any()):
            break
        onward, more = target.gather(1, target), again.gather(1, target)
        target, again = torch.where(again, onward, target), again & more
    return target


@published(
    "motion_blur",
    {"blur", "differentiable"},
    imagenet={"radius_px": (10, 15, 15, 15, 20), "sigma_px": (3, 5, 8, 12, 15)},
    cifar={"radius_px": (6, 6, 6, 8, 9), "sigma_px": (1, 1.5, 2, 2, 2.5)},
)
class MotionBlur(Operator):
    """Drag each pixel along a trail at angle_deg: 2 radius_px + 1 whole-pixel steps, weighed by a one-sided Gaussian.

    The steps are ImageMagick's, which the published program calls; the border repeats.
    """

    radius_px = integer(10, 10, unit="px", bounds=(0, 200))
    sigma_px = fixed(3.0, unit="px", bounds=(0.01, 1000))
    angle_deg = uniform(-45, 45, unit="degrees")

    def formula(self, image: Tensor, radius_px: Tensor, sigma_px: Tensor, angle_deg: Tensor) -> Tensor:
        return motion_blur(image, radius_px, sigma_px, angle_deg)


def motion_blur(image: Tensor, radius_px: Tensor, sigma_px: Tensor, angle_deg: Tensor) -> Tensor:
    """Return (B, C, H, W) blurred along a trail; see `MotionBlur`."""
    H, W = image.shape[-2:]
    step = torch.arange(2 * int(radius_px.max()) + 1, dtype=torch.float64, device=image.device)
    weight = torch.exp(-0.5 * (step / sigma_px.to(torch.float64)[:, None]) ** 2) * (step <= 2 * radius_px[:, None])
    angle = torch.deg2rad(angle_deg.to(torch.float64))[:, None]
    across, down = (torch.ceil(step * turn - 0.5) for turn in (torch.cos(angle), torch.sin(angle)))  # (B, S)
    # a trail as long as the image ends at its border, as the reference does
    weight = weight * ((across.abs() < W) & (down.abs() < H)).cumprod(dim=1)
    weight = (weight / weight.sum(dim=1, keepdim=True)).to(image.dtype)
    flat = image.flatten(2)
    x, y = torch.arange(W, device=image.device), torch.arange(H, device=image.device)
    out = torch.zeros_like(flat)
    for s in range(len(step)):
        column = (x + across[:, s, None].long()).clamp(0, W - 1)  # (B, W)
        row = (y + down[:, s, None].long()).clamp(0, H - 1)
        source = (row[:, :, None] * W + column[:, None, :]).flatten(1)
        out = out + weight[:, s, None, None] * flat.gather(2, source[:, None].expand_as(flat))
    return out.reshape(image.shape).clamp(0, 1)


@published(
    "zoom_blur",
    {"blur", "differentiable"},
    imagenet={"end": (1.11, 1.16, 1.21, 1.26, 1.31), "step": (0.01, 0.01, 0.02, 0.02, 0.03)},
    cifar={"end": (1.06, 1.11, 1.16, 1.21, 1.26), "step": (0.01,) * 5},
)
class ZoomBlur(Operator):
    """Average the image with its enlargements 1, 1 + step, ... below `end`, about the centre.

    The factors are those of NumPy's arange in floating point, which now and then holds `end` itself.
    """

    end = fixed(1.1, unit="×", bounds=(1, 10))
    step = fixed(0.01, unit="×", bounds=(0.001, 10))

    def formula(self, image: Tensor, end: Tensor, step: Tensor) -> Tensor:
        out = image
        pairs = torch.stack([end, step], dim=1)
        for pair in pairs.unique(dim=0):
            chosen = (pairs == pair).all(dim=1).nonzero()[:, 0]
            stop, by = (round(float(v), 6) for v in pair)  # the decimal that was meant, not its float32
            factors = [float(f) for f in np.arange(1, stop, by)]
            total = image[chosen]
            for factor in factors:
                total = total + zoomed(image[chosen], factor)
            out = out.index_copy(0, chosen, total / (len(factors) + 1))
        return out.clamp(0, 1)


def zoomed(image: Tensor, factor: float) -> Tensor:
    """Enlarge (B, C, H, W) about its centre, its size kept: SciPy's zoom of order 1 on the middle, then cut."""
    across, down = (_zoom_matrix(n, factor, image) for n in (image.shape[3], image.shape[2]))
    return down @ image @ across.T


def _zoom_matrix(n: int, factor: float, like: Tensor) -> Tensor:
    """Return (n, n): which pixels of a side each pixel of the zoomed side mixes."""
    kept = math.ceil(n / factor)
    grown = max(round(kept * factor), n)
    at = torch.arange(n, dtype=torch.float64, device=like.device) + (grown - n) // 2
    at = at * ((kept - 1) / max(grown - 1, 1))
    inside = torch.arange(kept, dtype=torch.float64, device=like.device)
    matrix = torch.zeros(n, n, dtype=torch.float64, device=like.device)
    top = (n - kept) // 2
    matrix[:, top : top + kept] = (1 - (at[:, None] - inside).abs()).clamp(min=0)
    return matrix.to(like.dtype)
