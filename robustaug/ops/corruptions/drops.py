"""The shading of water drops in ImageNet-C's spatter: edges, distances to them, and an emboss filter.

The published program uses OpenCV; here SciPy does the distances, and the rest is written out.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

_WEAK, _STRONG, _FARTHEST_PX = 50, 150, 20
_EMBOSS = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])


def water(liquid: Tensor) -> Tensor:
    """Return (B, 1, H, W) in [0, 1], how bright each drop shines; 1 at each sample's brightest pixel.

    Args:
        liquid: (B, 1, H, W), how much water; 0 where it is dry.
    """
    shone = [_shine(one[0].clamp(0, 1).cpu().numpy()) for one in liquid]
    return torch.from_numpy(np.stack(shone))[:, None].to(liquid.device, torch.float32)


def _shine(liquid: np.ndarray) -> np.ndarray:
    levels = np.floor(liquid * 255)
    away = np.asarray(ndimage.distance_transform_edt(~_edges(levels)))
    far = np.floor(_mean_of_nine(np.minimum(away, _FARTHEST_PX)))
    relief = ndimage.correlate(_equalized(far), _EMBOSS, mode="mirror").clip(0, 255)
    light = levels * _mean_of_nine(relief)
    return light / max(light.max(), 1e-12)


def _mean_of_nine(values: np.ndarray) -> np.ndarray:
    """Return the mean of each pixel's 3 x 3 neighbourhood, of values >= 0."""
    # not below 0: the filter adds up as it goes, and what should be 0 may be a rounding less
    return ndimage.uniform_filter(values, 3, mode="mirror").clip(0)


def _edges(levels: np.ndarray) -> np.ndarray:
    """Canny's edges: ridges of the slope above _WEAK that touch one above _STRONG; L1 norm of Sobel's slopes."""
    across, down = (ndimage.sobel(levels, axis=axis, mode="nearest") for axis in (1, 0))
    slope = np.abs(across) + np.abs(down)
    angle = np.rad2deg(np.arctan2(down, across)) % 180
    padded = np.pad(slope, 1)
    H, W = levels.shape

    def beside(dy: int, dx: int) -> np.ndarray:
        return padded[1 + dy : 1 + dy + H, 1 + dx : 1 + dx + W]

    level = (angle < 22.5) | (angle >= 157.5)
    rising, upright = (angle >= 22.5) & (angle < 67.5), (angle >= 67.5) & (angle < 112.5)
    before = np.select([level, rising, upright], [beside(0, -1), beside(-1, -1), beside(-1, 0)], beside(-1, 1))
    after = np.select([level, rising, upright], [beside(0, 1), beside(1, 1), beside(1, 0)], beside(1, -1))
    ridge = (slope > before) & (slope >= after) & (slope > _WEAK)
    groups = np.zeros(ridge.shape, dtype=np.int32)
    ndimage.label(ridge, structure=np.ones((3, 3)), output=groups)
    strong = np.unique(groups[ridge & (slope > _STRONG)])
    return np.isin(groups, strong[strong > 0])


def _equalized(levels: np.ndarray) -> np.ndarray:
    """Spread whole levels over 0 to 255 by their cumulative share, the lowest becomes 0."""
    counts = np.bincount(levels.astype(int).ravel(), minlength=256)
    lowest = int(np.flatnonzero(counts)[0])
    rest = levels.size - counts[lowest]
    if rest == 0:
        return levels
    table = np.round((counts.cumsum() - counts[lowest]).clip(0) * 255 / rest)
    return table[levels.astype(int)]
