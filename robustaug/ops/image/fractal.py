"""Textures of nature without photographs: clouds of every scale, made from a key.

Legend: B samples, H rows, W columns.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from robustaug.rng import normal_field, uniform_field

_OCTAVES = 7


def clouds(key: Tensor, height: int, width: int, roughness: float = 0.55, coarsest: int = 2) -> Tensor:
    """Return (B, 1, height, width) float32 in [0, 1]: value noise of seven octaves, stretched to the whole range.

    Args:
        key: (B, 4) key rows.
        roughness: how much of its amplitude each finer octave keeps.
        coarsest: cells of the first octave along both sides.
    """
    total = torch.zeros(len(key), 1, height, width, device=key.device)
    amplitude = 1.0
    for octave in range(_OCTAVES):
        cells = coarsest * 2**octave
        if octave and cells > 2 * max(height, width):
            break  # finer than a pixel
        # one stream of numbers a key: an octave of its own key must not repeat the one before
        drawn = uniform_field(_octave(key, octave), (1, cells + 1, cells + 1))
        total += amplitude * F.interpolate(drawn, size=(height, width), mode="bicubic", align_corners=True)
        amplitude *= roughness
    low, high = total.amin(dim=(2, 3), keepdim=True), total.amax(dim=(2, 3), keepdim=True)
    return (total - low) / (high - low).clamp(min=1e-6)


def grains(key: Tensor, height: int, width: int, part: int = 0) -> Tensor:
    """Return (B, 1, height, width) float32 from N(0, 1), a field of its own for each `part`."""
    return normal_field(_octave(key, 32 + part), (1, height, width))


def scatter(key: Tensor, n: int, part: int = 0) -> Tensor:
    """Return (B, n) float32 in [0, 1), numbers of their own for each `part`."""
    return uniform_field(_octave(key, 64 + part), (n,))


def _octave(key: Tensor, part: int) -> Tensor:
    """Return other key rows of the same samples."""
    changed = key.clone()
    changed[:, 0] ^= 0x9E3779B9 * (part + 1) & 0xFFFFFFFF
    return changed
