"""Geometry: where each pixel comes from.

Every operator here is a matrix (B, 3, 3), which maps output pixel coordinates to input ones in the convention of
`robustaug.ops.image.resample`; see `robustaug.ops.image.motion` for what follows from it. Lengths are fractions of
the image's side, so that a severity means the same at 28 and at 224 pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from robustaug.ops.image.motion import Geometric
from robustaug.ops.image.resample import (
    Size,
    centred,
    inverse,
    rotation,
    scaling,
    shearing,
    square_to_quad,
)
from robustaug.ops.space import log_uniform, uniform
from robustaug.registry import register


def both(*magnitudes: float) -> tuple:
    """Severities of a signed parameter: left or right, as likely."""
    return tuple({"choice": [-m, m]} for m in magnitudes)


def times(*factors: float) -> tuple:
    """Severities of a factor: so many times smaller or greater, as likely."""
    return tuple({"choice": [1 / f, f]} for f in factors)


@register("image.horizontal_flip", tags={"geometry", "differentiable"})
class HorizontalFlip(Geometric):
    """Mirror the image left to right; set `p` to mirror only some samples."""

    def matrix(self, size: Size) -> Tensor:
        """Return (1, 3, 3): every sample is mirrored alike."""
        return torch.tensor([[[-1.0, 0, size[1] - 1], [0, 1, 0], [0, 0, 1]]], dtype=torch.float64)

    def formula(self, image: Tensor) -> Tensor:
        return image.flip(-1)  # what resampling gives, without its arithmetic


@register("image.vertical_flip", tags={"geometry", "differentiable"})
class VerticalFlip(Geometric):
    """Mirror the image top to bottom; set `p` to mirror only some samples."""

    def matrix(self, size: Size) -> Tensor:
        """Return (1, 3, 3): every sample is mirrored alike."""
        return torch.tensor([[[1.0, 0, 0], [0, -1, size[0] - 1], [0, 0, 1]]], dtype=torch.float64)

    def formula(self, image: Tensor) -> Tensor:
        return image.flip(-2)


@register("image.rotate", tags={"geometry", "differentiable"})
class Rotate(Geometric):
    """Turn the image about its centre by angle_deg, counter-clockwise as seen; what comes in is black.

    >>> import torch, robustaug
    >>> ramp = torch.linspace(0, 1, 16).reshape(1, 4, 4)
    >>> quarter = robustaug.create("image.rotate", angle_deg=90)
    >>> torch.allclose(quarter(ramp), ramp.rot90(1, (1, 2)), atol=1e-5)
    True
    """

    angle_deg = uniform(-15, 15, unit="degrees", identity=0.0, severity=both(5, 10, 15, 22.5, 30))

    def matrix(self, size: Size, angle_deg: Tensor) -> Tensor:
        """Return (B, 3, 3)."""
        return centred(rotation(angle_deg), size)


@register("image.translate", tags={"geometry", "differentiable"})
class Translate(Geometric):
    """Move the image right by x of its width and down by y of its height; what comes in is black."""

    x = uniform(-0.1, 0.1, unit="of width", identity=0.0, bounds=(-1, 1), severity=both(0.04, 0.08, 0.12, 0.18, 0.25))
    y = uniform(-0.1, 0.1, unit="of height", identity=0.0, bounds=(-1, 1), severity=both(0.04, 0.08, 0.12, 0.18, 0.25))

    def matrix(self, size: Size, x: Tensor, y: Tensor) -> Tensor:
        """Return (B, 3, 3)."""
        H, W = size
        unturned = torch.eye(2, dtype=torch.float64, device=x.device).expand(len(x), 2, 2)
        return centred(unturned, size, x.to(torch.float64) * W, y.to(torch.float64) * H)


@register("image.shear", tags={"geometry", "differentiable"})
class Shear(Geometric):
    """Slant the image about its centre by x_deg along the rows and y_deg along the columns, keeping its area."""

    x_deg = uniform(-10, 10, unit="degrees", identity=0.0, bounds=(-80, 80), severity=both(4, 8, 12, 18, 25))
    y_deg = uniform(-10, 10, unit="degrees", identity=0.0, bounds=(-80, 80), severity=both(2, 4, 6, 9, 12))

    def matrix(self, size: Size, x_deg: Tensor, y_deg: Tensor) -> Tensor:
        """Return (B, 3, 3)."""
        return centred(shearing(x_deg, y_deg), size)


@register("image.zoom", tags={"geometry", "differentiable"})
class Zoom(Geometric):
    """Enlarge the image `factor` times about its centre; below 1 it shrinks and black comes in."""

    factor = log_uniform(
        0.85, 1.2, unit="×", identity=1.0, bounds=(0.05, 20), severity=times(1.05, 1.1, 1.2, 1.35, 1.5)
    )

    def matrix(self, size: Size, factor: Tensor) -> Tensor:
        """Return (B, 3, 3)."""
        return centred(scaling(factor, factor), size)


@register("image.affine", tags={"geometry", "differentiable"})
class Affine(Geometric):
    """Slant, zoom, turn and move the image in one resampling; angles turn counter-clockwise as seen."""

    angle_deg = uniform(-10, 10, unit="degrees", identity=0.0, severity=both(3, 6, 9, 13, 18))
    x = uniform(-0.08, 0.08, unit="of width", identity=0.0, bounds=(-1, 1), severity=both(0.02, 0.04, 0.07, 0.1, 0.14))
    y = uniform(-0.08, 0.08, unit="of height", identity=0.0, bounds=(-1, 1), severity=both(0.02, 0.04, 0.07, 0.1, 0.14))
    factor = log_uniform(
        0.9, 1.1, unit="×", identity=1.0, bounds=(0.05, 20), severity=times(1.03, 1.06, 1.1, 1.15, 1.2)
    )
    shear_deg = uniform(-6, 6, unit="degrees", identity=0.0, bounds=(-80, 80), severity=both(2, 4, 6, 9, 12))

    def matrix(self, size: Size, angle_deg: Tensor, x: Tensor, y: Tensor, factor: Tensor, shear_deg: Tensor) -> Tensor:
        """Return (B, 3, 3)."""
        H, W = size
        linear = shearing(shear_deg, torch.zeros_like(shear_deg)) @ scaling(factor, factor) @ rotation(angle_deg)
        return centred(linear, size, x.to(torch.float64) * W, y.to(torch.float64) * H)


@register("image.perspective", tags={"geometry", "differentiable"})
class Perspective(Geometric):
    """Move the image's corners inwards, each by up to distortion / 2 of the sides, as if seen from aside.

    `corners` says how far of that each corner goes, as (x, y) from the top left on, clockwise. Up to a
    distortion of 0.6 the corners always span a convex shape.
    """

    distortion = uniform(
        0.1, 0.4, unit="of the half side", identity=0.0, bounds=(0, 0.6), severity=(0.1, 0.2, 0.3, 0.4, 0.5)
    )
    corners = uniform(0, 1, shape=(4, 2), bounds=(0, 1), unit="of the distortion")

    def matrix(self, size: Size, distortion: Tensor, corners: Tensor) -> Tensor:
        """Return (B, 3, 3)."""
        H, W = size
        square = torch.tensor([[0.0, 0], [1, 0], [1, 1], [0, 1]], dtype=torch.float64, device=corners.device)
        inwards = corners * distortion[:, None, None] / 2
        quad = square + (1 - 2 * square) * inwards.to(torch.float64)
        # outer edges of the image, not pixel centres: also right for an image of one pixel
        pixels = torch.tensor([[W, 0, -0.5], [0, H, -0.5], [0, 0, 1]], dtype=torch.float64, device=corners.device)
        return pixels @ inverse(square_to_quad(quad)) @ torch.linalg.inv(pixels)
