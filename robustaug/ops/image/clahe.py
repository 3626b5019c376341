"""Contrast-limited adaptive histogram equalisation.

Legend: B samples, C channels, H rows, W columns, T tiles a side.
"""

from __future__ import annotations

import torch
from torch import Tensor

from robustaug.ops.operator import Operator, rows
from robustaug.ops.space import uniform
from robustaug.registry import register

TILES = 8
_LEAST_PX = 16  # a tile of fewer pixels than levels has nothing to clip
LEVELS = 256


@register("image.clahe", tags={"colour"})
class Clahe(Operator):
    """Equalise each channel by 8 x 8 tiles, no level commoner than `clip` times the average.

    Tiles are at least 16 pixels wide, so smaller images have fewer. Between the tiles' centres their tables are mixed
    bilinearly; what is clipped is spread over all levels. A side that is no multiple of the tiles is continued by
    reflection, as OpenCV does. Floating images are read at 256 levels; `amount` fades the change in.

    Source: Zuiderveld 1994, "Contrast limited adaptive histogram equalization", Graphics Gems IV.
    """

    clip = uniform(1.5, 4, unit="× the mean", bounds=(1, 256), severity=(2, 2, 3, 3, 4))
    amount = uniform(1, 1, unit="of the change", identity=0.0, bounds=(0, 1), severity=(0.25, 0.4, 0.6, 0.8, 1.0))

    def formula(self, image: Tensor, clip: Tensor, amount: Tensor) -> Tensor:
        B, C, H, W = image.shape
        across, down = (min(TILES, max(1, n // _LEAST_PX)) for n in (W, H))
        levels = (image * 255).round().to(torch.int64)
        tables = _tables(levels, clip, down, across)  # (B, C, down, across, 256)
        top, bottom, low_y = _between(H, down, image)
        left, right, low_x = _between(W, across, image)
        out = torch.zeros_like(image)
        flat = tables.reshape(B, C, -1)
        for row, by_y in ((top, 1 - low_y), (bottom, low_y)):
            for column, by_x in ((left, 1 - low_x), (right, low_x)):
                tile = row[:, None] * across + column  # (H, W)
                read = flat.gather(2, (tile * LEVELS + levels).reshape(B, C, -1)).reshape(image.shape)
                out = out + read.to(image.dtype) * (by_y[:, None] * by_x)
        return (image + rows(amount) * (out.round() / 255 - image)).clamp(0, 1)


def _tables(levels: Tensor, clip: Tensor, down: int, across: int) -> Tensor:
    """Return each tile's table from old level to new, (B, C, down, across, 256)."""
    B, C, H, W = levels.shape
    levels = levels.index_select(2, _continued(H, down, levels)).index_select(3, _continued(W, across, levels))
    height, width = levels.shape[2] // down, levels.shape[3] // across
    tiles = levels.reshape(B, C, down, height, across, width).permute(0, 1, 2, 4, 3, 5).reshape(B, C, down, across, -1)
    counts = torch.zeros(*tiles.shape[:-1], LEVELS, dtype=torch.int64, device=levels.device)
    counts.scatter_add_(-1, tiles, torch.ones_like(tiles))
    area = height * width
    limit = (clip * area / LEVELS).floor().clamp(min=1).to(torch.int64).reshape(B, 1, 1, 1, 1)
    excess = (counts - limit).clamp(min=0).sum(dim=-1, keepdim=True)
    counts = counts.minimum(limit) + excess // LEVELS
    # what is left goes to every so many levels, from the first on
    left = excess % LEVELS
    step = (LEVELS // left.clamp(min=1)).clamp(min=1)
    at = torch.arange(LEVELS, device=levels.device)
    counts = counts + ((at % step == 0) & (at // step < left))
    return (counts.cumsum(-1).to(torch.float32) * (255 / area)).round().clamp(max=255)


def _continued(n: int, tiles: int, like: Tensor) -> Tensor:
    """Positions of a line continued at its end, by reflection, to a multiple of `tiles`."""
    at = torch.arange(-(-n // tiles) * tiles, device=like.device)
    return torch.where(at < n, at, 2 * (n - 1) - at).clamp(0, n - 1)


def _between(n: int, tiles: int, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the tile before and after each pixel and the share of the latter, (n,) each."""
    length = -(-n // tiles)
    at = torch.arange(n, device=like.device, dtype=like.dtype) / length - 0.5
    before = at.floor()
    return before.long().clamp(0, tiles - 1), (before.long() + 1).clamp(0, tiles - 1), at - before
