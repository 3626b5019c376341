"""Procedural textures: foreign data in any number, size and channel count.

Legend: B pictures, C channels, H rows, W columns.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from robustaug.data.fingerprint import digest
from robustaug.data.images import InMemory
from robustaug.data.source import Source
from robustaug.parameters import check_count
from robustaug.registry import register
from robustaug.rng import Keys, normal_field

_CHUNK = 256  # pictures drawn at a time: bounds the memory of the floats
_BLOBS = 4


@register("data.synthetic")
def synthetic(size: int = 32, channels: int = 3, n: int = 500, seed: int = 0) -> Source:
    """Textures of four kinds in turn: Gaussian noise, stripes, checkers and blobs.

    Sample i is of kind i mod 4 and the same for any n. Frequencies, angles, phases and colours are drawn per sample.

    Args:
        size: side, px.
        channels: any number >= 1.
        n: pictures.
        seed: every draw follows from it.

    Raises:
        ValueError: an argument out of range.
    """
    for key, value in (("size", size), ("channels", channels), ("n", n)):
        check_count("data.synthetic", key, value)
    pixels = torch.empty((n, channels, size, size), dtype=torch.uint8)
    labels = torch.arange(n) % len(_KINDS)
    for label, (kind, draw) in enumerate(_KINDS.items()):
        for index in torch.arange(label, n, len(_KINDS)).split(_CHUNK):
            keys = Keys.of(seed, index).fold(kind)
            pixels[index] = (draw(keys, channels, size).clamp(0, 1) * 255).round().to(torch.uint8)
    return Source(
        "synthetic", InMemory(pixels, "synthetic"), labels, [*_KINDS], fingerprint=digest("synthetic", pixels, labels)
    )


def _noise(keys: Keys, channels: int, size: int) -> Tensor:
    level, spread = keys.fold("level").uniform(2).unbind(1)
    field = normal_field(keys.rows(), (channels, size, size))
    return (0.3 + 0.4 * level)[:, None, None, None] + (0.05 + 0.25 * spread)[:, None, None, None] * field


def _stripes(keys: Keys, channels: int, size: int) -> Tensor:
    return _coloured(keys, channels, 0.5 + 0.5 * torch.sin(_phase(keys, size, 0)))


def _checkers(keys: Keys, channels: int, size: int) -> Tensor:
    product = torch.sin(_phase(keys, size, 0)) * torch.sin(_phase(keys, size, math.pi / 2))
    return _coloured(keys, channels, (product > 0).to(torch.float32))


def _blobs(keys: Keys, channels: int, size: int) -> Tensor:
    x, y, sigma = keys.fold("blobs").uniform(3 * _BLOBS).reshape(-1, 3, _BLOBS, 1, 1).unbind(1)  # (B, blobs, 1, 1)
    rows, columns = _grid(size)
    squared = (columns - x) ** 2 + (rows - y) ** 2
    mask = torch.exp(-squared / (2 * (0.05 + 0.2 * sigma) ** 2)).sum(dim=1)  # (B, H, W)
    return _coloured(keys, channels, mask.clamp(max=1))


_KINDS = {"noise": _noise, "stripes": _stripes, "checkers": _checkers, "blobs": _blobs}


def _phase(keys: Keys, size: int, turn: float) -> Tensor:
    """(B, H, W): a plane wave of 1 to size/4 periods across the picture, at a random angle plus `turn`."""
    periods, angle, offset = (u[:, None, None] for u in keys.fold("wave").uniform(3).unbind(1))
    periods, angle = torch.exp(periods * math.log(max(2.0, size / 4))), math.pi * angle + turn
    rows, columns = _grid(size)
    return 2 * math.pi * (periods * (columns * torch.cos(angle) + rows * torch.sin(angle)) + offset)


def _grid(size: int) -> tuple[Tensor, Tensor]:
    centres = (torch.arange(size) + 0.5) / size
    return centres[:, None], centres[None, :]


def _coloured(keys: Keys, channels: int, mask: Tensor) -> Tensor:
    """(B, H, W) in [0, 1] -> (B, C, H, W): from one random colour to its distant other."""
    dark, bright = keys.fold("colours").uniform(2 * channels).reshape(-1, 2, channels, 1, 1).unbind(1)
    return dark * 0.5 + (0.5 + 0.5 * bright - 0.5 * dark) * mask[:, None]
