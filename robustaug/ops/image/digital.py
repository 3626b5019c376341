"""Digital: what storing, sending and shrinking does to images."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from robustaug import threads
from robustaug.ops.operator import Operator
from robustaug.ops.pixelwise import Number, Pixelwise, nearest
from robustaug.ops.space import integer, uniform
from robustaug.registry import register


@register("image.pixelate", tags={"digital", "differentiable"})
class Pixelate(Operator):
    """Shrink the image to `resolution` of its sides and grow it back, both by boxes.

    Severities are those published for CIFAR-10-C (Hendrycks & Dietterich 2019).
    """

    resolution = uniform(
        0.5, 1.0, unit="of each side", identity=1.0, bounds=(0.001, 1), severity=(0.95, 0.9, 0.85, 0.75, 0.65)
    )

    def formula(self, image: Tensor, resolution: Tensor) -> Tensor:
        # shrinking and growing together average over cells: one matrix a side
        across, down = (_cell_means(n, resolution, image) for n in (image.shape[3], image.shape[2]))
        return (down @ image @ across.transpose(2, 3)).clamp(0, 1)


def _cell_means(n: int, resolution: Tensor, like: Tensor) -> Tensor:
    """Return (B, 1, n, n): each pixel becomes the mean of its cell along one side."""
    cells = torch.floor(resolution.to(torch.float64) * n + 1e-6).clamp(min=1)[:, None]
    cell = torch.floor((torch.arange(n, dtype=torch.float64, device=like.device) + 0.5) * cells / n)  # (B, n)
    together = (cell[:, :, None] == cell[:, None, :]).to(like.dtype)
    return (together / together.sum(dim=2, keepdim=True))[:, None]


@register("image.downscale", tags={"digital", "differentiable"})
class Downscale(Operator):
    """Shrink the image to `resolution` of its sides with antialiasing and enlarge it again, both bilinear.

    What a low-resolution camera or a thumbnail leaves; image.pixelate does it with boxes.
    """

    resolution = uniform(
        0.4, 0.9, unit="of each side", identity=1.0, bounds=(0.001, 1), severity=(0.8, 0.65, 0.5, 0.35, 0.25)
    )

    def formula(self, image: Tensor, resolution: Tensor) -> Tensor:
        across, down = (_shrink_and_grow(n, resolution, image) for n in (image.shape[3], image.shape[2]))
        return (down @ image @ across.transpose(2, 3)).clamp(0, 1)


def _shrink_and_grow(n: int, resolution: Tensor, like: Tensor) -> Tensor:
    """Return (B, 1, n, n): shrinking one side with a triangle filter and enlarging it again."""
    small = torch.floor(resolution.to(torch.float64) * n + 1e-6).clamp(min=1)[:, None, None]
    centre = torch.arange(n, dtype=torch.float64, device=like.device) + 0.5
    away = centre[:, None] - centre[None, :] * small / n  # in pixels of the small image: (B, n small, n)
    shrink = (1 - away.abs()).clamp(min=0) * (centre[:, None] < small)
    shrink = shrink / shrink.sum(dim=2, keepdim=True).clamp(min=1e-12)
    wanted = (centre * small[:, :, 0] / n).clamp(min=0.5).minimum(small[:, :, 0] - 0.5)  # (B, n)
    grow = (1 - (wanted[:, :, None] - centre).abs()).clamp(min=0)
    return (grow @ shrink)[:, None].to(like.dtype)


@register("image.jpeg", tags={"digital"})
class Jpeg(Operator):
    """Compress as JPEG and decode again, at `quality` from 1 (worst) to 100.

    Three channels are stored as colour with halved colour resolution, one as grey, any other number one by one
    as grey. The codec runs on the CPU, an image at a time, and takes sides up to 65,535 pixels. Blocks are 8
    pixels wide, so on very small images a quality means more damage. Severities are those published for
    CIFAR-10-C (Hendrycks & Dietterich 2019).
    """

    quality = integer(40, 90, bounds=(1, 100), severity=(80, 65, 58, 50, 40))

    def formula(self, image: Tensor, quality: Tensor) -> Tensor:
        from torchvision.io import decode_jpeg, encode_jpeg

        _, C, H, W = image.shape
        depth = C if C in (1, 3) else 1
        # NumPy within the threads: torch would use several threads of its own in each of them
        pages = image.detach().cpu().reshape(-1, depth, H, W).numpy()
        qualities = quality.repeat_interleave(C // depth).tolist()
        out = np.empty_like(pages)
        white = pages.dtype.type(255)

        def recode(start: int, stop: int) -> None:
            for i in range(start, stop):  # a page at a time stays in the cache
                levels = np.rint(pages[i] * white).clip(0, 255).astype(np.uint8)
                decoded: Any = decode_jpeg(encode_jpeg(torch.from_numpy(levels), quality=qualities[i]))
                np.divide(decoded.numpy(), white, out=out[i])

        threads.run(recode, len(pages))
        return torch.from_numpy(out).reshape(image.shape).to(image.device)


@register("image.quantize", tags={"digital", "pixelwise"})
class Quantize(Pixelwise):
    """Round every value to the nearest of `levels` evenly spaced ones, black and white among them."""

    levels = integer(4, 32, unit="levels", bounds=(2, 65536), severity=(16, 10, 7, 5, 3))

    @staticmethod
    def value(x: Number, levels: Number) -> Number:
        return nearest(x * (levels - 1.0)) / (levels - 1.0)
