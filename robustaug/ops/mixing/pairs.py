"""Mixes of two images: by weight, by rectangle, by cloud, by what stands out.

Legend: B samples, H rows, W columns.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from robustaug.ops.image.blur import gaussian_taps
from robustaug.ops.image.convolve import filtered
from robustaug.ops.image.occlusion import band
from robustaug.ops.image.resample import read_at
from robustaug.ops.mixing.mixer import Mixer, pair_weights, pasted
from robustaug.ops.operator import Params, rows
from robustaug.ops.pixelwise import grey
from robustaug.registry import register
from robustaug.rng import Keys, normal_field


@register("mixing.mixup", tags={"soft_labels"})
class MixUp(Mixer):
    """Average each image with another, and their labels with the same weights.

    Source: Zhang et al. 2017, arXiv 1710.09412; a weight for each sample rather than one for the batch.

    >>> import robustaug, torch
    >>> mixed = robustaug.create("mixing.mixup", alpha=0.4)(torch.rand(4, 3, 8, 8), torch.arange(4), classes=10)
    >>> mixed.target.sum(dim=1).round(decimals=5).tolist()
    [1.0, 1.0, 1.0, 1.0]
    """

    def mix(self, image: Tensor, params: Params) -> tuple[Tensor, Tensor]:
        share, partner = params["share"], params["partner"]
        mixed = rows(share).to(image.dtype) * image + (1 - rows(share).to(image.dtype)) * image[partner]
        return mixed, pair_weights(share, partner)


def window(size: tuple[int, int], area: Tensor, place: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return left, top, right and bottom (B,) of a window of `area` of the image, centred anywhere and cut to it."""
    H, W = size
    half_w, half_h = area.sqrt() * W / 2, area.sqrt() * H / 2
    x, y = place[:, 0] * W, place[:, 1] * H
    left, right = (x - half_w).round().clamp(0, W), (x + half_w).round().clamp(0, W)
    return left, (y - half_h).round().clamp(0, H), right, (y + half_h).round().clamp(0, H)


def inside(size: tuple[int, int], left: Tensor, top: Tensor, right: Tensor, bottom: Tensor) -> Tensor:
    """Return (B, H, W) bool."""
    return band(size[0], top, bottom)[:, :, None] & band(size[1], left, right)[:, None, :]


@register("mixing.cutmix", tags={"soft_labels"})
class CutMix(Mixer):
    """Paste a rectangle of another image over each, at the same place; labels by the area that is seen.

    Source: Yun et al. 2019, arXiv 1905.04899: the rectangle has 1 - share of the area before it is cut at the border.
    """

    def sample_more(self, keys: Keys) -> Params:
        return {"place": keys.fold("place").uniform(2)}

    def mix(self, image: Tensor, params: Params) -> tuple[Tensor, Tensor]:
        size = (image.shape[2], image.shape[3])
        return pasted(image, params["partner"], inside(size, *window(size, 1 - params["share"], params["place"])))


@register("mixing.resizemix", tags={"soft_labels"})
class ResizeMix(Mixer):
    """Paste the whole of another image, shrunk to 0.1 to 0.8 of the sides, over each; labels by area.

    Source: Qin et al. 2020, arXiv 2012.11101. `alpha` has no part in it: the side is even in its range.
    """

    def sample_more(self, keys: Keys) -> Params:
        return {"place": keys.fold("place").uniform(2), "side": 0.1 + 0.7 * keys.fold("side").uniform()[:, 0]}

    def mix(self, image: Tensor, params: Params) -> tuple[Tensor, Tensor]:
        H, W = image.shape[-2:]
        partner, side = params["partner"], params["side"]
        width, height = (side * W).round().clamp(min=1), (side * H).round().clamp(min=1)
        left = torch.floor(params["place"][:, 0] * (W - width + 1))
        top = torch.floor(params["place"][:, 1] * (H - height + 1))
        taken = inside((H, W), left, top, left + width, top + height)
        # not mixed at all where p says so
        taken = taken & (params["share"] < 1)[:, None, None]
        shrunk = _placed(image[partner], left, top, width, height)
        own = 1 - taken.to(torch.float64).mean(dim=(1, 2))
        return torch.where(taken[:, None], shrunk, image), pair_weights(own.float(), partner)


def _placed(image: Tensor, left: Tensor, top: Tensor, width: Tensor, height: Tensor) -> Tensor:
    """Shrink each image to its own window of a canvas of the same size; what lies outside is of no use."""
    H, W = image.shape[-2:]
    # smoothed first, by half of what each pixel will stand for: no antialiasing is one size for all
    sigma = 0.4 * (W / width - 1).clamp(min=0)
    soft = filtered(image, gaussian_taps(sigma))
    x = (torch.arange(W, device=image.device) + 0.5 - left[:, None]) * (W / width)[:, None] - 0.5  # (B, W)
    y = (torch.arange(H, device=image.device) + 0.5 - top[:, None]) * (H / height)[:, None] - 0.5
    at = torch.stack([x[:, None, :].expand(-1, H, W), y[:, :, None].expand(-1, H, W)], dim=-1)
    return read_at(soft.clamp(0, 1), at, "edge")


@register("mixing.fmix", tags={"soft_labels"})
class FMix(Mixer):
    """Take another image's pixels within the clouds of a low-frequency random field; labels by area.

    Source: Harris et al. 2020, arXiv 2002.12047: amplitudes fall with frequency^-3, the field's greatest 1 - share
    are taken.
    """

    def sample_more(self, keys: Keys) -> Params:
        return {"field": keys.fold("field").rows()}

    def mix(self, image: Tensor, params: Params) -> tuple[Tensor, Tensor]:
        H, W = image.shape[-2:]
        frequency = torch.hypot(
            torch.fft.fftfreq(H, device=image.device)[:, None], torch.fft.rfftfreq(W, device=image.device)[None]
        )
        drawn = normal_field(params["field"], (2, H, frequency.shape[1]))
        spectrum = torch.complex(drawn[:, 0], drawn[:, 1]) / frequency.clamp(min=1 / max(H, W)) ** 3
        field = torch.fft.irfft2(spectrum, s=(H, W)).flatten(1)
        rank = field.argsort(dim=1, stable=True).argsort(dim=1, stable=True)
        taken = rank >= (params["share"] * H * W).round()[:, None]
        return pasted(image, params["partner"], taken.reshape(-1, H, W))


@register("mixing.saliency_mix", tags={"soft_labels"})
class SaliencyMix(Mixer):
    """Paste the rectangle round the partner's most salient point over each image; labels by area.

    Source: Uddin et al. 2020, arXiv 2006.01791. Saliency is the spectral residual (Hou & Zhang 2007), which needs no
    model and no training.
    """

    def mix(self, image: Tensor, params: Params) -> tuple[Tensor, Tensor]:
        H, W = image.shape[-2:]
        peak = saliency(image).flatten(1).argmax(dim=1)[params["partner"]]
        place = torch.stack([(peak % W + 0.5) / W, (peak // W + 0.5) / H], dim=1)
        taken = inside((H, W), *window((H, W), 1 - params["share"], place.to(torch.float32)))
        return pasted(image, params["partner"], taken)


def saliency(image: Tensor) -> Tensor:
    """Return (B, H, W), the spectral residual of the grey image at a side of 64 at most: what is unlike the rest."""
    H, W = image.shape[-2:]
    scale = min(1.0, 64 / max(H, W))
    small = F.interpolate(grey(image), size=(max(1, int(H * scale)), max(1, int(W * scale))), mode="area")
    spectrum = torch.fft.fft2(small)
    log = torch.log(spectrum.abs().clamp(min=1e-8))
    residual = log - F.avg_pool2d(F.pad(log, (1, 1, 1, 1), mode="circular"), 3, stride=1)
    back = torch.fft.ifft2(torch.polar(torch.exp(residual), spectrum.angle())).abs() ** 2
    soft = filtered(back, gaussian_taps(torch.full((len(image),), 2.5, device=image.device)))
    return F.interpolate(soft, size=(H, W), mode="bilinear")[:, 0]
