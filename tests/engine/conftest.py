"""Photographs, and one resampling through several maps in torch: what every backend is held to."""

import pytest
import torch
from sklearn.datasets import load_sample_images
from torch import Tensor

from robustaug.ops.image.motion import grid
from robustaug.ops.image.resample import moved, read_at


def photographs(n: int, height: int, width: int) -> Tensor:
    """(n, 3, height, width) uint8, crops of a photograph of a temple."""
    china = torch.from_numpy(load_sample_images().images[0].copy()).permute(2, 0, 1).float()
    crops = [china[:, 10 * i : 10 * i + 3 * height, 7 * i : 7 * i + 3 * width] for i in range(n)]
    shrunk = [torch.nn.functional.interpolate(c[None], (height, width), mode="area")[0] for c in crops]
    return torch.stack(shrunk).round().to(torch.uint8)


@pytest.fixture(scope="session")
def images() -> Tensor:
    """(8, 3, 37, 45) uint8: neither square nor a multiple of anything."""
    return photographs(8, 37, 45)


def resample_once(image: Tensor, steps: list) -> Tensor:
    """One resampling of (B, C, H, W) through all maps of `steps`, written out from the definition."""
    height, width = steps[-1].shape[1:]
    B = len(image)
    at = grid(height, width, image.device).reshape(1, -1, 2).expand(B, -1, -1)
    weight = torch.ones(B, height * width, dtype=torch.float64)
    frames = [tuple(image.shape[-2:]), *(step.shape[1:] for step in steps)]
    for step, (H, W) in zip(reversed(steps), reversed(frames[:-1]), strict=True):
        [kernel] = step.kernels
        active = (step.pick >= 0)[:, None, None]
        new = torch.where(active, moved(at, step.args.reshape(B, 3, 3)), at)
        inside = [(new[..., i] + 1).minimum(n - new[..., i]).clamp(0, 1) for i, n in ((0, W), (1, H))]
        if kernel.outside == "zero":
            weight = torch.where(active[:, 0], weight * inside[0] * inside[1], weight)
        limit = torch.tensor([W - 1, H - 1], dtype=torch.float64)
        at = torch.where(active, new.clamp(min=0).minimum(limit), new)
    out = read_at(image, at.reshape(B, height, width, 2), "edge")
    return out * weight.reshape(B, 1, height, width).to(image.dtype)
