"""One resampling for every geometric operator, and the matrices that say from where.

Convention: a matrix (B, 3, 3) maps homogeneous output pixel coordinates (x, y, 1) to input ones. Pixel centres
lie at whole numbers, (0, 0) is the centre of the top left pixel, x grows to the right and y downwards. The
matrix of "first f, then g" is therefore `f.matrix @ g.matrix`, and one resampling does for both.

Legend: B samples, C channels, H rows, W columns; size = (H, W). Matrices are float64: angles of 90 degrees
must hit the pixels they mean.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

Size = Sequence[int]
PADDING = {"zero": "zeros", "edge": "border"}


def resample(image: Tensor, matrix: Tensor, outside: str = "zero", size: Size | None = None) -> Tensor:
    """Fill each output pixel from the input position its sample's matrix names, by bilinear interpolation.

    Args:
        image: (B, C, H, W) floating in [0, 1].
        matrix: (B, 3, 3) or (1, 3, 3), output to input pixel coordinates.
        outside: what lies beyond the border: "zero" (black) or "edge" (the nearest pixel of the image).
        size: of the result, that of the image when left out.

    Returns:
        (B, C, *size); differentiable in the image and in the matrix.
    """
    height, width = size or image.shape[-2:]
    x = torch.arange(width, dtype=torch.float64, device=image.device)
    y = torch.arange(height, dtype=torch.float64, device=image.device)
    # each homogeneous coordinate is linear in x and y: an outer sum, (3, B, H, W)
    columns = matrix.to(torch.float64).permute(1, 2, 0)[..., None, None]  # (3, 3, B, 1, 1)
    source = columns[:, 0] * x + (columns[:, 1] * y[:, None] + columns[:, 2])
    depth = _off_horizon(source[2])
    return read_at(image, torch.stack([source[0] / depth, source[1] / depth], dim=-1), outside)


def read_at(image: Tensor, position: Tensor, outside: str = "zero") -> Tensor:
    """Read the image between its pixels, bilinearly.

    Args:
        image: (B, C, H, W) floating in [0, 1].
        position: (B, h, w, 2) or (1, h, w, 2), where each output pixel comes from, as (x, y) in pixels.
        outside: as in `resample`.

    Returns:
        (B, C, h, w).
    """
    B, _, H, W = image.shape
    grid = torch.stack([(2 * position[..., 0] + 1) / W - 1, (2 * position[..., 1] + 1) / H - 1], dim=-1)
    grid = grid.to(image.dtype).expand(B, *grid.shape[1:])
    out = F.grid_sample(image, grid, mode="bilinear", padding_mode=PADDING[outside], align_corners=False)
    return out.clamp(0, 1)  # the four weights sum to 1 only up to rounding


def moved(points: Tensor, matrix: Tensor) -> Tensor:
    """Return (B, N, 2), the points (B, N, 2) as (x, y) mapped by (B, 3, 3) or (1, 3, 3), in float64."""
    matrix = matrix.to(points.device, torch.float64)
    mapped = points.to(torch.float64) @ matrix[:, :, :2].transpose(1, 2) + matrix[:, None, :, 2]  # (B, N, 3)
    return mapped[..., :2] / _off_horizon(mapped[..., 2:])


def _off_horizon(depth: Tensor) -> Tensor:
    return torch.where(depth.abs() < 1e-8, 1e-8, depth)  # the horizon is nowhere in the image


def rotation(angle_deg: Tensor) -> Tensor:
    """Return (B, 2, 2) that turns the picture counter-clockwise as seen, output to input."""
    angle = torch.deg2rad(angle_deg.to(torch.float64))
    cos, sin = torch.cos(angle), torch.sin(angle)
    return _matrix([[cos, -sin], [sin, cos]])


def shearing(x_deg: Tensor, y_deg: Tensor) -> Tensor:
    """Return (B, 2, 2) that slants the picture by these angles and keeps its area, output to input."""
    tan_x, tan_y = (torch.tan(torch.deg2rad(angle.to(torch.float64))) for angle in (x_deg, y_deg))
    return _matrix([[1 + tan_x * tan_y, tan_x], [tan_y, torch.ones_like(tan_x)]])


def scaling(x: Tensor, y: Tensor) -> Tensor:
    """Return (B, 2, 2) that enlarges the picture x times across and y times down, output to input."""
    zero = torch.zeros_like(x, dtype=torch.float64)
    return _matrix([[1 / x.to(torch.float64), zero], [zero, 1 / y.to(torch.float64)]])


def centred(linear: Tensor, size: Size, shift_x: Tensor | float = 0.0, shift_y: Tensor | float = 0.0) -> Tensor:
    """Apply (B, 2, 2) about the image's centre, then move the picture by pixels: (B, 3, 3), output to input."""
    H, W = size
    centre_x, centre_y = (W - 1) / 2, (H - 1) / 2
    zero = torch.zeros_like(linear[:, 0, 0])
    moved = torch.stack([zero + centre_x + shift_x, zero + centre_y + shift_y], dim=1)  # (B, 2)
    home = torch.tensor([centre_x, centre_y], dtype=linear.dtype, device=linear.device)
    offset = home - (linear @ moved[..., None])[..., 0]
    bottom = torch.tensor([[[0.0, 0.0, 1.0]]], dtype=linear.dtype, device=linear.device).expand(len(linear), 1, 3)
    return torch.cat([torch.cat([linear, offset[..., None]], dim=2), bottom], dim=1)


def square_to_quad(corners: Tensor) -> Tensor:
    """Return (B, 3, 3), the homography from the unit square to a convex quadrilateral.

    Args:
        corners: (B, 4, 2), where (0,0), (1,0), (1,1) and (0,1) go, as (x, y).

    Source: Heckbert, "Fundamentals of texture mapping and image warping" (1989), section 2.2.3.
    """
    p0, p1, p2, p3 = corners.to(torch.float64).unbind(1)  # (B, 2) each
    d1, d2, skew = p1 - p2, p3 - p2, p0 - p1 + p2 - p3
    determinant = _cross(d1, d2)
    g, h = _cross(skew, d2) / determinant, _cross(d1, skew) / determinant
    first, second = p1 - p0 + g[:, None] * p1, p3 - p0 + h[:, None] * p3
    bottom = torch.stack([g, h, torch.ones_like(g)], dim=1)
    return torch.cat([torch.stack([first, second, p0], dim=2), bottom[:, None]], dim=1)


def inverse(matrix: Tensor) -> Tensor:
    """Return the inverse of (B, 3, 3) up to a factor, which a homography does not notice."""
    a, b, c = matrix.unbind(2)
    return torch.stack([torch.linalg.cross(b, c), torch.linalg.cross(c, a), torch.linalg.cross(a, b)], dim=1)


def _cross(a: Tensor, b: Tensor) -> Tensor:
    return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]


def _matrix(entries: Sequence[Sequence[Tensor]]) -> Tensor:
    return torch.stack([torch.stack(list(row), dim=1) for row in entries], dim=1)
