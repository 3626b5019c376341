"""Warps: geometry that no matrix describes. Strengths are fractions of the sides; beyond the border, the edge repeats.

Legend: B samples, N points, K knots or cells a side.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from robustaug.ops.image.motion import Warp
from robustaug.ops.image.resample import Size
from robustaug.ops.space import integer, log_uniform, noise_key, uniform
from robustaug.registry import register
from robustaug.rng import normal_field, uniform_field

_KNOTS = 7
_GRID_CELLS = 5
_MOST_CELLS = 16


@register("image.elastic", tags={"geometry", "differentiable"})
class Elastic(Warp):
    """Bend the image like rubber: knots of a 7 x 7 grid move by N(0, strength), a cubic surface lies between them.

    Source: after Simard, Steinkraus & Platt 2003, with a coarse grid in place of a smoothed field of pixels, so that
    it costs the same and looks the same at any resolution.
    """

    strength = uniform(
        0.01, 0.04, unit="of the sides", identity=0.0, bounds=(0, 0.5), severity=(0.01, 0.02, 0.03, 0.045, 0.06)
    )
    knots = noise_key()

    def source(self, points: Tensor, size: Size, strength: Tensor, knots: Tensor) -> Tensor:
        H, W = size
        moves = normal_field(knots, (2, _KNOTS, _KNOTS)).to(torch.float64)
        scale = torch.tensor([W, H], dtype=torch.float64, device=points.device)
        at = 2 * (points.to(torch.float64) + 0.5) / scale - 1
        bent = F.grid_sample(moves, at[:, None], mode="bicubic", padding_mode="border", align_corners=True)
        return points + bent[:, :, 0].transpose(1, 2) * strength[:, None, None] * scale


@register("image.thin_plate", tags={"geometry", "differentiable"})
class ThinPlate(Warp):
    """Bend the image as a thin metal plate that is pushed at 3 x 3 points by N(0, strength).

    Source: Bookstein 1989, "Principal warps: thin-plate splines and the decomposition of deformations".
    """

    strength = uniform(
        0.02, 0.08, unit="of the sides", identity=0.0, bounds=(0, 0.5), severity=(0.02, 0.04, 0.06, 0.08, 0.11)
    )
    pushes = noise_key()

    def source(self, points: Tensor, size: Size, strength: Tensor, pushes: Tensor) -> Tensor:
        H, W = size
        scale = torch.tensor([W, H], dtype=torch.float64, device=points.device)
        third = torch.tensor([1 / 6, 1 / 2, 5 / 6], dtype=torch.float64, device=points.device)
        centres = torch.cartesian_prod(third, third)  # (9, 2)
        system = torch.zeros(12, 12, dtype=torch.float64, device=points.device)
        system[:9, :9] = _plate(torch.cdist(centres, centres))
        system[:9, 9:] = torch.cat([torch.ones_like(centres[:, :1]), centres], dim=1)
        system[9:, :9] = system[:9, 9:].T
        wanted = torch.zeros(len(points), 12, 2, dtype=torch.float64, device=points.device)
        wanted[:, :9] = normal_field(pushes, (9, 2)) * strength[:, None, None]
        weights = torch.linalg.solve(system, wanted)  # (B, 12, 2)
        at = (points.to(torch.float64) + 0.5) / scale
        basis = torch.cat([_plate(torch.cdist(at, centres)), torch.ones_like(at[..., :1]), at], dim=2)  # (B, N, 12)
        return points + basis @ weights * scale


def _plate(distance: Tensor) -> Tensor:
    return torch.where(distance > 0, distance**2 * torch.log(distance.clamp(min=1e-12)), 0.0)


@register("image.grid_distortion", tags={"geometry", "differentiable"})
class GridDistortion(Warp):
    """Stretch and squeeze the rows and the columns of a 5 x 5 grid, each by up to `strength` of its width."""

    strength = uniform(
        0.1, 0.4, unit="of a cell", identity=0.0, bounds=(0, 0.9), severity=(0.15, 0.25, 0.4, 0.55, 0.75)
    )
    cells = noise_key()

    def source(self, points: Tensor, size: Size, strength: Tensor, cells: Tensor) -> Tensor:
        widths = 1 + strength[:, None, None] * (2 * uniform_field(cells, (2, _GRID_CELLS)) - 1).to(torch.float64)
        edges = F.pad(widths.cumsum(2) / widths.sum(2, keepdim=True), (1, 0))  # (B, 2, K + 1), 0 to 1
        scale = torch.tensor([size[1], size[0]], dtype=torch.float64, device=points.device)
        at = (points.to(torch.float64) + 0.5) / scale * _GRID_CELLS  # (B, N, 2)
        cell = at.floor().clamp(0, _GRID_CELLS - 1)
        index = cell.long().transpose(1, 2)  # (B, 2, N)
        low, high = edges.gather(2, index), edges.gather(2, index + 1)
        moved = low + (high - low) * (at - cell).transpose(1, 2)
        return moved.transpose(1, 2) * scale - 0.5


@register("image.lens_distortion", tags={"geometry", "differentiable"})
class LensDistortion(Warp):
    """See through a lens that bulges (k > 0, pincushion source: the edges come in) or pinches (k < 0).

    A pixel at distance r from the centre, 1 in the corners, is read at r (1 + k r^2): the first term of the
    Brown-Conrady model. Beyond the border it is black.
    """

    outside = "zero"
    k = uniform(
        -0.2,
        0.3,
        identity=0.0,
        bounds=(-0.33, 2),
        severity=tuple({"choice": [-k, k]} for k in (0.06, 0.11, 0.17, 0.24, 0.32)),
    )

    def source(self, points: Tensor, size: Size, k: Tensor) -> Tensor:
        H, W = size
        centre = torch.tensor([(W - 1) / 2, (H - 1) / 2], dtype=torch.float64, device=points.device)
        off = points.to(torch.float64) - centre
        radius_squared = off.square().sum(dim=-1, keepdim=True) / (math.hypot(H, W) / 2) ** 2
        return centre + off * (1 + k.to(torch.float64)[:, None, None] * radius_squared)


@register("image.rolling_shutter", tags={"geometry", "differentiable"})
class RollingShutter(Warp):
    """Let the camera sway while it reads row by row: each row moves sideways by a sine of `amplitude`.

    `sways` is how many full turns of the sine the readout lasts; `phase` where it starts.
    """

    amplitude = uniform(
        0.01, 0.05, unit="of width", identity=0.0, bounds=(0, 1), severity=(0.015, 0.03, 0.05, 0.075, 0.1)
    )
    sways = log_uniform(0.3, 3, unit="turns", bounds=(0.01, 100))
    phase = uniform(0, 1, unit="turns")

    def source(self, points: Tensor, size: Size, amplitude: Tensor, sways: Tensor, phase: Tensor) -> Tensor:
        points = points.to(torch.float64)
        turns = (points[..., 1] + 0.5) / size[0] * sways[:, None] + phase[:, None]
        shift = torch.sin(2 * math.pi * turns) * amplitude[:, None] * size[1]
        return torch.stack([points[..., 0] + shift, points[..., 1]], dim=-1)


@register("image.grid_shuffle", tags={"geometry", "differentiable"})
class GridShuffle(Warp):
    """Cut the image into cells x cells squares and move a `share` of them to each other's places.

    Where the side is no multiple of `cells` the remainder at the right and bottom stays; there are never more cells
    than pixels.
    """

    cells = integer(2, 4, unit="a side", identity=1, bounds=(1, _MOST_CELLS))
    share = uniform(1.0, 1.0, unit="of the squares", identity=0.0, bounds=(0, 1), severity=(0.2, 0.4, 0.6, 0.8, 1.0))
    order = noise_key()

    def source(self, points: Tensor, size: Size, **params: Tensor) -> Tensor:
        return self._swapped(points, size, back=False, **params)

    def target(self, points: Tensor, size: Size, **params: Tensor) -> Tensor:
        return self._swapped(points, size, back=True, **params)

    @staticmethod
    def _swapped(points: Tensor, size: Size, cells: Tensor, share: Tensor, order: Tensor, back: bool) -> Tensor:
        points = points.to(torch.float64)
        scale = torch.tensor([size[1], size[0]], dtype=torch.float64, device=points.device)
        number = torch.minimum(cells[:, None].to(torch.float64), scale)  # (B, 2) cells across and down
        length = torch.floor(scale / number)[:, None]  # (B, 1, 2) px
        cell = torch.floor((points + 0.5) / length)
        inside = ((cell >= 0) & (cell < number[:, None])).all(dim=-1, keepdim=True)
        cell = cell.clamp(min=0).minimum(number[:, None] - 1)
        draws = uniform_field(order, (2, _MOST_CELLS**2))
        count = number.prod(dim=1, keepdim=True)  # (B, 1)
        index = torch.arange(_MOST_CELLS**2, device=points.device)
        chosen = (index < count) & (draws[:, 1] < share[:, None])
        # the chosen cells first, in a random order; each takes the next one's place, so that every one of them moves
        here = torch.where(chosen, draws[:, 0], 2.0 + index).argsort(dim=1, stable=True)
        many = chosen.sum(dim=1, keepdim=True)
        there = here.gather(1, torch.where(index < many, (index + 1) % many.clamp(min=1), index))
        table = torch.zeros_like(here)
        table.scatter_(1, *((there, here) if back else (here, there)))  # which cell each one comes from
        across = number[:, :1]
        taken = table.gather(1, (cell[..., 1] * across + cell[..., 0]).long()).to(torch.float64)
        other = torch.stack([taken % across, torch.floor(taken / across)], dim=-1)
        return torch.where(inside, points + (other - cell) * length, points)
