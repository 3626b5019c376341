"""Mixes of more than two pictures: a mosaic of four, and a picture nobody took.

Legend: B samples, C channels, H rows, W columns.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from robustaug.ops.image.fractal import clouds, scatter
from robustaug.ops.image.light import positions
from robustaug.ops.mixing.mixer import Mixer
from robustaug.ops.mixing.pairs import inside
from robustaug.ops.operator import Params, rows
from robustaug.ops.policies.augmix import CHAINED, beta
from robustaug.ops.policies.operations import NARROW, Chooser
from robustaug.ops.policies.published import draw_among, draw_sign
from robustaug.registry import register
from robustaug.rng import Keys


@register("mixing.mosaic", tags={"soft_labels"})
class Mosaic(Mixer):
    """Lay four images round a random point, each kept at its own place; labels by area.

    Source: Bochkovskiy et al. 2020 (YOLOv4, arXiv 2004.10934), for classification: quarters are cut, not shrunk. The
    point lies between 0.2 and 0.8 of both sides; `alpha` has no part in it.
    """

    def sample_more(self, keys: Keys) -> Params:
        n = len(keys)
        away = 1 + torch.floor(keys.fold("others").uniform(3) * max(n - 1, 1)).long()
        here = torch.arange(n, device=keys.index.device)[:, None]
        return {"others": (here + away) % max(n, 1), "point": 0.2 + 0.6 * keys.fold("point").uniform(2)}

    def mix(self, image: Tensor, params: Params) -> tuple[Tensor, Tensor]:
        B, _, H, W = image.shape
        x, y = (params["point"][:, 0] * W).round(), (params["point"][:, 1] * H).round()
        zero, wide, tall = torch.zeros_like(x), torch.full_like(x, W), torch.full_like(y, H)
        quarters = [(x, zero, wide, y), (zero, y, x, tall), (x, y, wide, tall)]
        mixed = image
        left = torch.ones(B, device=image.device)
        weights = torch.zeros(B, B, device=image.device)
        here = torch.arange(B, device=image.device)
        for quarter, edges in enumerate(quarters):
            taken = inside((H, W), *edges) & (params["share"] < 1)[:, None, None]
            other, area = params["others"][:, quarter], taken.float().mean(dim=(1, 2))
            mixed = torch.where(taken[:, None], image[other], mixed)
            weights.index_put_((here, other), area, accumulate=True)
            left = left - area
        return mixed, weights.index_put_((here, here), left, accumulate=True)


class _Steps(Chooser):
    """AugMix's operations at PixMix's strength."""

    reach = NARROW


@register("mixing.pixmix", tags={"label_preserving"})
class PixMix(Mixer):
    """Mix each image, up to four times, with itself augmented or with a picture of pure structure; labels stay.

    Source: Hendrycks et al. 2021, arXiv 2112.05135, algorithm 1. Their pictures are fractals and feature
    visualisations from the web; ours are made from the sample's key: clouds, rings and gratings.

    Args:
        rounds: the most mixes.
        beta: strength of the mixing, from Beta(beta, 1): greater keeps less of the image.
        p: chance that a sample is mixed at all.

    Raises:
        ValueError: a value out of range.
    """

    def __init__(self, rounds: int = 4, beta: float = 3.0, p: float = 1.0) -> None:
        super().__init__(1.0, p)
        if not isinstance(rounds, int) or not 1 <= rounds <= 16:
            raise ValueError(f"{self.name}: rounds must be a whole number in [1, 16], got {rounds!r}")
        if not 0 < beta < 1e6:
            raise ValueError(f"{self.name}: beta must be > 0, got {beta!r}")
        self.rounds, self.beta = rounds, beta

    def sample_more(self, keys: Keys) -> Params:
        n = self.rounds
        op = draw_among(keys, CHAINED, n + 1)
        own, other = (
            torch.stack([beta(keys.fold(f"{side}{r}"), *pair) for r in range(n)], dim=1)
            for side, pair in (("own", (self.beta, 1.0)), ("other", (1.0, self.beta)))
        )
        return {
            "op": op,
            "level": keys.fold("level").uniform(n + 1) * 0.3,
            "sign": draw_sign(keys, op),
            "many": torch.floor(keys.fold("many").uniform()[:, 0] * (n + 1)),
            "choices": keys.fold("choices").uniform(2 * n + 1),
            "own": own,
            "other": other,
            "picture": keys.fold("picture").rows(),
        }

    def mix(self, image: Tensor, params: Params) -> tuple[Tensor, Tensor]:
        steps, choices = _Steps(), params["choices"]

        def augmented(which: int) -> Tensor:
            return steps.perform(image, params["op"][:, which], params["level"][:, which], params["sign"][:, which])

        picture = structure(params["picture"], image)
        mixed = torch.where(rows(choices[:, -1]) < 0.5, augmented(self.rounds), image)
        for r in range(self.rounds):
            partner = torch.where(rows(choices[:, 2 * r]) < 0.5, augmented(r), picture)
            a, b = rows(params["own"][:, r]), rows(params["other"][:, r])
            added = a * mixed + b * partner
            # a geometric mean: where one of both is black, so is the mix
            product = mixed.clamp(min=1e-3) ** a * partner.clamp(min=1e-3) ** b
            made = torch.where(rows(choices[:, 2 * r + 1]) < 0.5, added, product).clamp(0, 1)
            mixed = torch.where(rows(params["many"]) > r, made, mixed)
        mixed = torch.where(rows(params["share"]) < 1, mixed, image)
        return mixed, torch.eye(len(image), device=image.device)

    def spec(self) -> dict[str, Any]:
        return {self.name: {"rounds": self.rounds, "beta": self.beta} | ({"p": self.p} if self.p < 1 else {})}


def structure(key: Tensor, like: Tensor) -> Tensor:
    """Return (B, C, H, W) in [0, 1]: clouds bent into rings and gratings, another mapping for each channel."""
    C, H, W = like.shape[1:]
    draws = scatter(key, 4 + C)
    x, y = positions(like)
    cloud = clouds(key, H, W, roughness=0.6).to(like.dtype)
    radius = torch.hypot(x - rows(draws[:, 0]), y - rows(draws[:, 1]))
    angle = 2 * math.pi * rows(draws[:, 2])
    along = x * torch.cos(angle) + y * torch.sin(angle)
    form = torch.where(rows(draws[:, 3]) < 0.5, radius, along) * 6 + 4 * cloud  # turns
    phase = draws[:, 4:].reshape(-1, C, 1, 1)
    return (0.5 + 0.5 * torch.cos(2 * math.pi * (form + phase))).to(like.dtype)
