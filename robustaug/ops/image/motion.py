"""What moves pixels: the base of every geometric operator, so that masks, boxes and keypoints move along.

Positions are (x, y) in pixels, in the convention of `robustaug.ops.image.resample`. A geometric operator says where
each output position comes from, `source`; the image, its masks and its points all follow from that one function.

Legend: B samples, C channels, H rows, W columns, N points; size = (H, W).
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from robustaug.ops.image.resample import Size, inverse, moved, read_at, resample
from robustaug.ops.operator import Operator, Params
from robustaug.ops.program import Kernel, Step

NEWTON_STEPS = 6


class Geometric(Operator):
    """Base of operators that move pixels.

    A subclass defines either `matrix`, for what a projective map can do, or `source`, for everything else.

    Attributes:
        outside: what comes in from beyond the border: "zero" (black) or "edge" (the nearest pixel).
    """

    name: ClassVar[str] = ""
    outside: str = "zero"

    def matrix(self, size: Size, **params: Tensor) -> Tensor:
        """Return (B, 3, 3) or (1, 3, 3), output to input pixel coordinates; size is that of the input."""
        raise NotImplementedError(f"{type(self).__name__} must define matrix(size, **params) or source(...)")

    def source(self, points: Tensor, size: Size, **params: Tensor) -> Tensor:
        """Return where output positions come from: (B, N, 2) to (B, N, 2); size is that of the input."""
        return moved(points, self.matrix(size, **params))

    def target(self, points: Tensor, size: Size, **params: Tensor) -> Tensor:
        """Return where input positions go, (B, N, 2) to (B, N, 2): the inverse of `source`."""
        return moved(points, inverse(self.matrix(size, **params)))

    def formula(self, image: Tensor, **params: Tensor) -> Tensor:
        size = image.shape[-2:]
        return resample(image, self.matrix(size, **params), self.outside, self.size_after(size))

    def lower(self, params: Params, shape: Size, n: int) -> list[Step]:
        matrix = self.matrix(shape[1:], **params).to(torch.float64).expand(n, 3, 3)
        after = (shape[0], *self.size_after(shape[1:]))
        return [Step.of(Kernel("map", self.name, outside=self.outside), [matrix], after, n)]

    def transform(self, batch: Tensor, params: Params) -> Tensor:
        before, after = tuple(batch.shape[-2:]), self.size_after(batch.shape[-2:])
        if before != after and "active" in params:
            raise ValueError(
                f"{self.name} changes the size from {before} to {after}, so it needs p=1: a batch has one size"
            )
        if len(batch) == 0:
            return batch.new_zeros(0, batch.shape[1], *after)
        return super().transform(batch, params)

    def trace(self, points: Tensor, size: Size, params: Params) -> Tensor:
        """Positions beyond the border become NaN, or its nearest point where the edge repeats; NaN stays NaN."""
        lost = points.isnan().any(dim=-1, keepdim=True)
        moved_to = _for_active(self.source, torch.where(lost, 0.0, points), size, params)
        limit = torch.tensor([size[1], size[0]], dtype=moved_to.dtype, device=moved_to.device) - 0.5
        if self.outside == "edge":
            moved_to = moved_to.clamp(min=-0.5).minimum(limit)
        else:
            # a rounding must not lose the outermost half pixel
            beyond = (moved_to < -0.5 - 1e-6) | (moved_to > limit + 1e-6)
            lost = lost | beyond.any(dim=-1, keepdim=True)
        return torch.where(lost, torch.nan, moved_to)

    def carry(self, points: Tensor, size: Size, params: Params) -> Tensor:
        return _for_active(self.target, points, size, params)


class Warp(Geometric):
    """Base of geometric operators that no matrix describes: a subclass defines `source`."""

    outside = "edge"

    def source(self, points: Tensor, size: Size, **params: Tensor) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} must define source(points, size, **params)")

    def lower(self, params: Params, shape: Size, n: int) -> list[Step]:
        return Operator.lower(self, params, shape, n)

    def target(self, points: Tensor, size: Size, **params: Tensor) -> Tensor:
        """Invert `source`: the nearest of the pixels' sources, then Newton's method with a slope by differences."""
        height, width = self.size_after(size)
        pixels = grid(height, width, points.device).reshape(1, -1, 2).expand(len(points), -1, 2)
        known = self.source(pixels, size, **params).to(torch.float64)
        nearest = torch.cdist(points.to(torch.float64), known).argmin(dim=2)  # (B, N)
        at = pixels.gather(1, nearest[..., None].expand(-1, -1, 2))
        return self._refined(at, points.to(torch.float64), size, params)

    def _refined(self, at: Tensor, wanted: Tensor, size: Size, params: dict[str, Any]) -> Tensor:
        step = 0.01  # px
        right, down = (torch.tensor(by, dtype=torch.float64, device=at.device) for by in ([step, 0.0], [0.0, step]))
        miss = wanted - self.source(at, size, **params)
        for _ in range(NEWTON_STEPS):
            by_x = (self.source(at + right, size, **params) - self.source(at - right, size, **params)) / (2 * step)
            by_y = (self.source(at + down, size, **params) - self.source(at - down, size, **params)) / (2 * step)
            slope = torch.stack([by_x, by_y], dim=-1)  # (B, N, 2, 2)
            det = slope[..., 0, 0] * slope[..., 1, 1] - slope[..., 0, 1] * slope[..., 1, 0]
            det = torch.where(det.abs() < 1e-6, 1e-6, det)
            move = torch.stack(
                [
                    (slope[..., 1, 1] * miss[..., 0] - slope[..., 0, 1] * miss[..., 1]) / det,
                    (slope[..., 0, 0] * miss[..., 1] - slope[..., 1, 0] * miss[..., 0]) / det,
                ],
                dim=-1,
            )
            tried = at + move
            missed = wanted - self.source(tried, size, **params)
            # a fold has no inverse: there the nearest pixel stays the answer
            better = (missed.norm(dim=-1) < miss.norm(dim=-1))[..., None]
            at, miss = torch.where(better, tried, at), torch.where(better, missed, miss)
        return at

    def formula(self, image: Tensor, **params: Tensor) -> Tensor:
        size = image.shape[-2:]
        height, width = self.size_after(size)
        pixels = grid(height, width, image.device).reshape(1, -1, 2).expand(len(image), -1, 2)
        position = self.source(pixels, size, **params).reshape(len(image), height, width, 2)
        return read_at(image, position, self.outside)


def grid(height: int, width: int, device: torch.device) -> Tensor:
    """Return (height, width, 2) float64: every pixel's own position (x, y)."""
    y = torch.arange(height, dtype=torch.float64, device=device)
    x = torch.arange(width, dtype=torch.float64, device=device)
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)


def _for_active(mapping: Any, points: Tensor, size: Size, params: Params) -> Tensor:
    """Move the points of active samples only."""
    params = dict(params)
    active = params.pop("active", None)
    out = mapping(points, size, **params)
    return out if active is None else torch.where(active[:, None, None], out, points.to(out.dtype))
