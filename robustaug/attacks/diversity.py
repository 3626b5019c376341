"""Input diversity: images shown smaller and somewhere else, so that a gradient does not lean on one position.

Legend: B samples, C channels, H rows, W columns.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from robustaug.rng import Keys


def check_images(name: str, x: Tensor) -> None:
    """Refuse what is no batch of images.

    Raises:
        ValueError: not of rank 4.
    """
    if x.ndim != 4:
        raise ValueError(f"{name}: works on images (B, C, H, W), got {tuple(x.shape)}")


def placements(keys: Keys, size: tuple[int, int], chance: float, least: float) -> Tensor:
    """Draw where each image goes: (B, 4) float64, its height, width, and the place of its top left pixel (row, column).

    Sizes are whole pixels from `least` of (H, W) up, each as likely, and so are the places that they leave.

    Args:
        keys: of the B samples.
        chance: that an image is shrunk at all, in [0, 1]; the others stay where they are.
        least: share of the sides, in (0, 1].
    """
    draw = keys.uniform(4).double()
    full = torch.tensor(size, dtype=torch.float64, device=draw.device)
    low = (least * full).floor().clamp_min(1)
    small = low + (draw[:, :1] * (full - low + 1)).floor()  # (B, 2): one share for both sides
    small = torch.where(draw[:, 1:2] < chance, small, full)
    return torch.cat([small, (draw[:, 2:] * (full - small + 1)).floor()], dim=1)


def placed(image: Tensor, placement: Tensor) -> Tensor:
    """Return the images shrunk bilinearly to their places, zeros around them; (B, C, H, W), differentiable.

    Args:
        image: (B, C, H, W), any range.
        placement: (B, 4), from `placements`.
    """
    H, W = image.shape[-2:]
    height, width, top, left = placement.to(image.device).unbind(1)
    y = _sources(H, height, top)[:, :, None].expand(-1, H, W)
    x = _sources(W, width, left)[:, None, :].expand(-1, H, W)
    grid = torch.stack([x, y], dim=-1).to(image.dtype)
    shown = F.grid_sample(image, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    whole = (height == H) & (width == W)
    return torch.where(whole[:, None, None, None], image, shown)  # exactly, where nothing moves


def _sources(n: int, length: Tensor, start: Tensor) -> Tensor:
    """Return (B, n) in [-1, 1], from where on the side each pixel comes: pixels' outer edges are at -1 and 1."""
    pixel = torch.arange(n, dtype=torch.float64, device=length.device) + 0.5
    return 2 * (pixel - start[:, None]) / length[:, None] - 1
