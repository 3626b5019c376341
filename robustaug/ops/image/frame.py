"""The frame: operators that change an image's size or its orientation.

A batch has one size, so those that take a `size` take it for all samples. Left out, it follows from the image.

Legend: B samples, H rows, W columns; size = (H, W).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from robustaug.ops.image.motion import Geometric
from robustaug.ops.image.resample import Size, centred
from robustaug.ops.operator import Operator, Params
from robustaug.ops.program import Step
from robustaug.ops.space import choice, log_uniform, uniform
from robustaug.registry import register

_SHARE = 7 / 8  # of 256 pixels, 224: the field's usual crop
_RIGHT, _LEFT, _HALF = ((0.0, -1.0), (1.0, 0.0)), ((0.0, 1.0), (-1.0, 0.0)), ((-1.0, 0.0), (0.0, -1.0))


class Sized(Geometric):
    """Base of operators whose result has a `size` of its own, (H, W) or one number for both."""

    name: ClassVar[str] = ""

    def __init__(self, size: int | Sequence[int] | None = None, *, p: float = 1.0, **params: Any) -> None:
        """Set the result's size in pixels.

        Raises:
            ValueError: size is neither a whole number >= 1 nor two of them.
        """
        super().__init__(p=p, **params)
        pair = (size, size) if isinstance(size, int) else size
        if pair is not None and (len(pair) != 2 or any(not isinstance(n, int) or n < 1 for n in pair)):
            raise ValueError(f"{self.name}: size must be a whole number >= 1 or two of them (H, W), got {size!r}")
        self.size = None if pair is None else (int(pair[0]), int(pair[1]))

    def size_after(self, size: Sequence[int]) -> tuple[int, int]:
        return self.size or (math.ceil(size[0] * _SHARE), math.ceil(size[1] * _SHARE))

    def spec(self) -> dict[str, Any]:
        [(name, params)] = super().spec().items()
        return {name: params if self.size is None else {"size": [*self.size], **params}}

    def _check_fits(self, size: Size) -> tuple[int, int]:
        height, width = self.size_after(size)
        if height > size[0] or width > size[1]:
            raise ValueError(
                f"{self.name}: size {height} x {width} does not fit into an image of {size[0]} x {size[1]}; "
                "put image.pad or image.resize before it"
            )
        return height, width


@register("image.crop", tags={"geometry", "resizes", "differentiable"})
class Crop(Sized):
    """Cut out a window of `size` (7/8 of the sides when left out) at a random place, (x, y) between the borders.

    Raises:
        ValueError: the window is larger than the image.
    """

    x = uniform(0, 1, bounds=(0, 1), unit="of the free width")
    y = uniform(0, 1, bounds=(0, 1), unit="of the free height")

    def matrix(self, size: Size, x: Tensor, y: Tensor) -> Tensor:
        """Return (B, 3, 3), a shift by whole pixels."""
        height, width = self._check_fits(size)
        return _shift(torch.round(x * (size[1] - width)), torch.round(y * (size[0] - height)))

    def formula(self, image: Tensor, x: Tensor, y: Tensor) -> Tensor:
        height, width = self._check_fits(image.shape[-2:])
        offset = self.matrix(image.shape[-2:], x, y)[:, :2, 2].long()
        return window(image, offset[:, 0], offset[:, 1], height, width)


@register("image.center_crop", tags={"geometry", "resizes", "differentiable"})
class CenterCrop(Sized):
    """Cut out the middle `size` of the image, 7/8 of the sides when left out.

    Raises:
        ValueError: the window is larger than the image.
    """

    def matrix(self, size: Size) -> Tensor:
        """Return (1, 3, 3), a shift by whole pixels; of an odd margin the smaller half lies before, as torchvision."""
        height, width = self._check_fits(size)
        left, top = round((size[1] - width) / 2.0), round((size[0] - height) / 2.0)
        return _shift(torch.tensor([float(left)]), torch.tensor([float(top)]))

    def formula(self, image: Tensor) -> Tensor:
        height, width = self._check_fits(image.shape[-2:])
        left, top = (int(v) for v in self.matrix(image.shape[-2:])[0, :2, 2])
        return image[..., top : top + height, left : left + width]


@register("image.pad", tags={"geometry", "resizes", "differentiable"})
class Pad(Sized):
    """Lay a black border round the image so that it gets `size`, 8/7 of the sides when left out; it stays centred.

    Raises:
        ValueError: size is smaller than the image.
    """

    def size_after(self, size: Sequence[int]) -> tuple[int, int]:
        after = self.size or (math.ceil(size[0] / _SHARE), math.ceil(size[1] / _SHARE))
        if after[0] < size[0] or after[1] < size[1]:
            raise ValueError(
                f"{self.name}: size {after[0]} x {after[1]} is less than the image's {size[0]} x {size[1]}; "
                "image.center_crop and image.resize make images smaller"
            )
        return after

    def matrix(self, size: Size) -> Tensor:
        """Return (1, 3, 3), a shift by whole pixels."""
        left, top = self._margins(size)
        return _shift(torch.tensor([-float(left)]), torch.tensor([-float(top)]))

    def formula(self, image: Tensor) -> Tensor:
        (H, W), (height, width) = image.shape[-2:], self.size_after(image.shape[-2:])
        left, top = self._margins((H, W))
        return F.pad(image, (left, width - W - left, top, height - H - top))

    def _margins(self, size: Size) -> tuple[int, int]:
        height, width = self.size_after(size)
        return (width - size[1]) // 2, (height - size[0]) // 2


@register("image.resize", tags={"geometry", "resizes", "differentiable"})
class Resize(Sized):
    """Scale the image to `size`, 7/8 of the sides when left out; bilinear, with antialiasing when it shrinks.

    The antialiasing is torchvision's: a triangle as wide as two output pixels.
    """

    outside = "edge"

    def matrix(self, size: Size) -> Tensor:
        """Return (1, 3, 3), a scaling of the outer edges."""
        height, width = self.size_after(size)
        by_x, by_y = size[1] / width, size[0] / height
        rows = [[by_x, 0.0, (by_x - 1) / 2], [0.0, by_y, (by_y - 1) / 2], [0.0, 0.0, 1.0]]
        return torch.tensor([rows], dtype=torch.float64)

    def formula(self, image: Tensor) -> Tensor:
        size = self.size_after(image.shape[-2:])
        return F.interpolate(image, size=size, mode="bilinear", antialias=True, align_corners=False).clamp(0, 1)

    def lower(self, params: Params, shape: Size, n: int) -> list[Step]:
        height, width = self.size_after(shape[1:])
        if height >= shape[1] and width >= shape[2]:
            return super().lower(params, shape, n)
        return Operator.lower(self, params, shape, n)  # antialiasing reads more than four pixels


@register("image.resized_crop", tags={"geometry", "differentiable"})
class ResizedCrop(Sized):
    """Cut out a window and scale it to `size`, the image's own when left out; bilinear, without antialiasing.

    The window covers `area` of the image; `aspect` is how many times wider it is, relative to the image's own
    shape, cut down to the image where it would not fit. (x, y) in [0, 1] places it between the borders.
    """

    area = uniform(0.5, 1.0, unit="of the image", identity=1.0, bounds=(0.01, 1), severity=(0.9, 0.8, 0.65, 0.5, 0.35))
    aspect = log_uniform(3 / 4, 4 / 3, unit="×", identity=1.0, bounds=(0.1, 10))
    x = uniform(0, 1, bounds=(0, 1), unit="of the free width")
    y = uniform(0, 1, bounds=(0, 1), unit="of the free height")
    outside = "edge"

    def size_after(self, size: Sequence[int]) -> tuple[int, int]:
        return self.size or (int(size[0]), int(size[1]))

    def matrix(self, size: Size, area: Tensor, aspect: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Return (B, 3, 3)."""
        (H, W), (height, width) = size, self.size_after(size)
        area, aspect = area.to(torch.float64), aspect.to(torch.float64)
        share_x, share_y = (area * aspect).sqrt().clamp(max=1), (area / aspect).sqrt().clamp(max=1)
        by_x, by_y = share_x * W / width, share_y * H / height  # input pixels an output pixel
        left, top = x * (1 - share_x) * W, y * (1 - share_y) * H  # outer edges of the window
        zero, one = torch.zeros_like(by_x), torch.ones_like(by_x)
        rows = [[by_x, zero, left + (by_x - 1) / 2], [zero, by_y, top + (by_y - 1) / 2], [zero, zero, one]]
        return torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)


@register("image.transpose", tags={"geometry", "differentiable"})
class Transpose(Geometric):
    """Swap rows and columns: mirror the image about its main diagonal."""

    def size_after(self, size: Sequence[int]) -> tuple[int, int]:
        return int(size[1]), int(size[0])

    def matrix(self, size: Size) -> Tensor:
        """Return (1, 3, 3)."""
        return torch.tensor([[[0.0, 1, 0], [1, 0, 0], [0, 0, 1]]], dtype=torch.float64)

    def formula(self, image: Tensor) -> Tensor:
        return image.transpose(-1, -2)


@register("image.rotate90", tags={"geometry", "square", "differentiable"})
class Rotate90(Geometric):
    """Turn the image by quarter turns, counter-clockwise as seen, without any interpolation.

    Raises:
        ValueError: an image that is not square with an odd number of quarter turns: a batch has one size.
    """

    turns = choice([1, 2, 3], unit="quarters", identity=0, bounds=(0, 3))

    def matrix(self, size: Size, turns: Tensor) -> Tensor:
        """Return (B, 3, 3)."""
        self._check_square(size, turns)
        table = torch.tensor([((1.0, 0.0), (0.0, 1.0)), _RIGHT, _HALF, _LEFT], dtype=torch.float64)
        return centred(table.to(turns.device)[turns.long()], size)

    def formula(self, image: Tensor, turns: Tensor) -> Tensor:
        self._check_square(image.shape[-2:], turns)
        out = image
        for quarter in (1, 2, 3):
            chosen = (turns == quarter).nonzero()[:, 0]
            if len(chosen):
                out = out.index_copy(0, chosen, image[chosen].rot90(quarter, (2, 3)))
        return out

    def _check_square(self, size: Size, turns: Tensor) -> None:
        if size[0] != size[1] and bool((turns % 2 == 1).any()):
            raise ValueError(
                f"{self.name} needs square images for quarter turns, got {size[0]} x {size[1]}; "
                "crop to a square first, or set turns=2"
            )


@register("image.pad_and_crop", tags={"geometry", "differentiable"})
class PadAndCrop(Geometric):
    """Move the image by whole pixels, up to `reach` of each side; what comes in is black.

    The same as padding by `reach` and cutting the old size out at random: the usual augmentation of CIFAR, where a
    reach of 1/8 is 4 pixels. (x, y) in [-1, 1] are shares of the reach.
    """

    reach = uniform(
        1 / 8, 1 / 8, unit="of each side", identity=0.0, bounds=(0, 1), severity=(0.04, 0.08, 0.125, 0.19, 0.25)
    )
    x = uniform(-1, 1, bounds=(-1, 1), unit="of the reach")
    y = uniform(-1, 1, bounds=(-1, 1), unit="of the reach")

    def matrix(self, size: Size, reach: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Return (B, 3, 3), a shift by whole pixels."""
        return _shift(torch.round(x * torch.round(reach * size[1])), torch.round(y * torch.round(reach * size[0])))

    def formula(self, image: Tensor, reach: Tensor, x: Tensor, y: Tensor) -> Tensor:
        H, W = image.shape[-2:]
        shift = self.matrix((H, W), reach, x, y)[:, :2, 2].long()
        margin = int(shift.abs().max())
        wide = F.pad(image, (margin,) * 4)
        return window(wide, shift[:, 0] + margin, shift[:, 1] + margin, H, W)


def window(image: Tensor, left: Tensor, top: Tensor, height: int, width: int) -> Tensor:
    """Cut (B, C, height, width) out of (B, C, H, W), each sample at its own left and top (B,)."""
    B, C = image.shape[:2]
    down = top[:, None] + torch.arange(height, device=image.device)  # (B, height)
    across = left[:, None] + torch.arange(width, device=image.device)
    tall = image.gather(2, down[:, None, :, None].expand(B, C, height, image.shape[3]))
    return tall.gather(3, across[:, None, None, :].expand(B, C, height, width))


def _shift(x: Tensor, y: Tensor) -> Tensor:
    matrix = torch.eye(3, dtype=torch.float64, device=x.device).repeat(len(x), 1, 1)
    matrix[:, 0, 2], matrix[:, 1, 2] = x, y
    return matrix
