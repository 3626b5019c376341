"""More occlusion: many small patches, single pixels, bands, and things stuck onto the image. Any number of channels.

Lengths are fractions of the image's sides.

Legend: B samples, C channels, H rows, W columns.
"""

from __future__ import annotations

import torch
from torch import Tensor

from robustaug.ops.image.fractal import scatter
from robustaug.ops.image.light import positions
from robustaug.ops.image.occlusion import band, cover
from robustaug.ops.operator import Operator, rows
from robustaug.ops.space import choice, fixed, integer, noise_key, uniform
from robustaug.registry import register
from robustaug.rng import uniform_field

_MOST_HOLES = 64
_LETTERS = ("101111101101", "111100100111", "111010010010", "110101110101", "111110100111", "101101111101")


@register("image.coarse_dropout", tags={"occlusion", "differentiable"})
class CoarseDropout(Operator):
    """Hide `holes` squares of `side` of both sides, each at a place of its own; they may overlap.

    Source: DeVries & Taylor 2017 (arXiv 1708.04552), with many holes.
    """

    holes = integer(4, 12, identity=0, bounds=(0, _MOST_HOLES), severity=(4, 8, 12, 18, 26))
    side = uniform(0.06, 0.14, unit="of each side", bounds=(0, 1))
    fill = fixed(0.0, bounds=(0, 1))
    places = noise_key()

    def formula(self, image: Tensor, holes: Tensor, side: Tensor, fill: Tensor, places: Tensor) -> Tensor:
        H, W = image.shape[-2:]
        draws = scatter(places, 2 * _MOST_HOLES).reshape(-1, 2, _MOST_HOLES)
        height, width = torch.round(side * H).clamp(min=1), torch.round(side * W).clamp(min=1)
        hidden = torch.zeros(len(image), H, W, dtype=torch.bool, device=image.device)
        for hole in range(int(holes.max())):
            left, top = (
                torch.floor(draws[:, 0, hole] * (W - width + 1)),
                torch.floor(draws[:, 1, hole] * (H - height + 1)),
            )
            here = band(H, top, top + height)[:, :, None] & band(W, left, left + width)[:, None, :]
            hidden |= here & (hole < holes)[:, None, None]
        return cover(image, hidden, fill)


@register("image.pixel_dropout", tags={"occlusion", "differentiable"})
class PixelDropout(Operator):
    """Hide a share `amount` of the pixels, each on its own, all channels together."""

    amount = uniform(0.02, 0.2, unit="of pixels", identity=0.0, bounds=(0, 1), severity=(0.03, 0.07, 0.13, 0.22, 0.35))
    fill = fixed(0.0, bounds=(0, 1))
    where = noise_key()

    def formula(self, image: Tensor, amount: Tensor, fill: Tensor, where: Tensor) -> Tensor:
        return cover(image, uniform_field(where, image.shape[2:]) < amount[:, None, None], fill)


@register("image.stripes", tags={"occlusion", "differentiable"})
class Stripes(Operator):
    """Hide one band of `width` across the image, upright or lying, at a random place: SpecAugment's masks.

    Source: Park et al. 2019, arXiv 1904.08779.
    """

    width = uniform(0.05, 0.3, unit="of the side", identity=0.0, bounds=(0, 1), severity=(0.08, 0.15, 0.24, 0.35, 0.5))
    place = uniform(0, 1, bounds=(0, 1), unit="of the free side")
    upright = choice([False, True])
    fill = fixed(0.0, bounds=(0, 1))

    def formula(self, image: Tensor, width: Tensor, place: Tensor, upright: Tensor, fill: Tensor) -> Tensor:
        H, W = image.shape[-2:]
        bands = []
        for n in (H, W):
            length = torch.round(width * n)
            start = torch.round(place * (n - length))
            bands.append(band(n, start, start + length))
        hidden = torch.where(upright[:, None, None], bands[1][:, None, :], bands[0][:, :, None])
        return cover(image, hidden.expand(len(image), H, W), fill)


@register("image.patch_shuffle", tags={"occlusion", "differentiable"})
class PatchShuffle(Operator):
    """Shuffle the pixels within each square of `patch` x `patch`: what remains is the coarse structure.

    Source: Kang, Dong, Zheng & Yang 2017, arXiv 1707.07103. `share` is the share of squares that are shuffled; the
    remainder at the right and bottom stays.
    """

    patch = integer(2, 4, unit="px", identity=1, bounds=(1, 32), severity=(2, 3, 4, 6, 8))
    share = fixed(1.0, bounds=(0, 1), unit="of the squares")
    order = noise_key()

    def formula(self, image: Tensor, patch: Tensor, share: Tensor, order: Tensor) -> Tensor:
        out = image
        for side in patch.unique().tolist():
            chosen = (patch == side).nonzero()[:, 0]
            down, across = image.shape[2] // int(side), image.shape[3] // int(side)
            if side > 1 and down and across:
                out = out.index_copy(0, chosen, self._shuffled(image[chosen], int(side), share[chosen], order[chosen]))
        return out

    @staticmethod
    def _shuffled(image: Tensor, side: int, share: Tensor, order: Tensor) -> Tensor:
        B, C, H, W = image.shape
        down, across = H // side, W // side
        whole = image[..., : down * side, : across * side]
        tiles = whole.reshape(B, C, down, side, across, side).permute(0, 1, 2, 4, 3, 5).reshape(B, C, down * across, -1)
        draws = uniform_field(order, (down * across, side * side + 1))
        places = draws[..., 1:].argsort(dim=2, stable=True)
        still = torch.arange(side * side, device=image.device)
        places = torch.where(draws[..., :1] < share[:, None, None], places, still)
        mixed = tiles.gather(3, places[:, None].expand(tiles.shape))
        mixed = mixed.reshape(B, C, down, across, side, side).permute(0, 1, 2, 4, 3, 5).reshape(whole.shape)
        out = image.clone()
        out[..., : down * side, : across * side] = mixed
        return out


@register("image.sticker", tags={"occlusion", "differentiable"})
class Sticker(Operator):
    """Stick a turned rectangle of `side` onto the image, checkered in two colours of its own: a street-sign sticker.

    (x, y) is its centre, angle_deg its turn.
    """

    side = uniform(
        0.15, 0.35, unit="of the shorter side", identity=0.0, bounds=(0, 2), severity=(0.15, 0.24, 0.33, 0.45, 0.6)
    )
    angle_deg = uniform(-45, 45, unit="degrees")
    x = uniform(0.2, 0.8, bounds=(0, 1), unit="of width")
    y = uniform(0.2, 0.8, bounds=(0, 1), unit="of height")
    colours = noise_key()

    def formula(self, image: Tensor, side: Tensor, angle_deg: Tensor, x: Tensor, y: Tensor, colours: Tensor) -> Tensor:
        C, H, W = image.shape[1:]
        u, v = _turned(image, x, y, angle_deg)
        half = (rows(side) * min(H, W) / 2).clamp(min=1e-9)
        u, v = u / half, v / half
        inside = (torch.maximum(u.abs(), v.abs()) <= 1) & (rows(side) > 0)
        check = ((torch.floor(2 * u) + torch.floor(2 * v)) % 2 == 0).to(image.dtype)
        inks = uniform_field(colours, (2, C)).to(image.dtype)[..., None, None]
        # the second ink lies far from the first: a sticker is made to be seen
        printed = inks[:, 0] * check + torch.remainder(inks[:, 0] + 0.35 + 0.3 * inks[:, 1], 1) * (1 - check)
        return torch.where(inside, printed, image)


@register("image.watermark", tags={"occlusion", "differentiable"})
class Watermark(Operator):
    """Print rows of letters all over the image, see-through by `opacity`, at angle_deg: a stock photo's mark."""

    opacity = uniform(0.15, 0.5, identity=0.0, bounds=(0, 1), severity=(0.15, 0.25, 0.4, 0.55, 0.8))
    size = uniform(0.12, 0.25, unit="of the shorter side", bounds=(0.01, 2))
    angle_deg = uniform(-40, 40, unit="degrees")
    ink = fixed(1.0, bounds=(0, 1))

    def formula(self, image: Tensor, opacity: Tensor, size: Tensor, angle_deg: Tensor, ink: Tensor) -> Tensor:
        H, W = image.shape[-2:]
        centre = torch.full_like(opacity, 0.5)
        u, v = _turned(image, centre, centre, angle_deg)
        cell = (rows(size) * min(H, W) / 4).clamp(min=1e-9)  # a letter is 3 wide and 4 high, with a gap of 1
        column, line = torch.floor(u / cell).long(), torch.floor(v / cell).long()
        letters = torch.tensor([[int(bit) for bit in letter] for letter in _LETTERS], device=image.device).flatten()
        letter = torch.remainder(column.div(4, rounding_mode="floor"), len(_LETTERS))
        in_x, in_y = column % 4, line % 8
        lit = letters[(letter * 12 + in_y.clamp(max=3) * 3 + in_x.clamp(max=2)).clamp(max=len(letters) - 1)]
        printed = (lit == 1) & (in_x < 3) & (in_y < 4)
        return torch.where(printed, image + rows(opacity) * (rows(ink) - image), image)


def _turned(image: Tensor, x: Tensor, y: Tensor, angle_deg: Tensor) -> tuple[Tensor, Tensor]:
    """Return each pixel's place in px along and across a direction through (x, y): (B, 1, H, W) each."""
    H, W = image.shape[-2:]
    across, down = positions(image)
    right, below = (across - rows(x)) * W, (down - rows(y)) * H
    angle = torch.deg2rad(rows(angle_deg))
    return right * torch.cos(angle) + below * torch.sin(angle), below * torch.cos(angle) - right * torch.sin(angle)
