"""Translation invariance: a gradient smoothed over neighbouring pixels stands for that of shifted images.

Legend: B samples, C channels, H rows, W columns.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def taps(width: int) -> Tensor:
    """Return (width,) float64, a Gaussian that ends at three standard deviations and sums to 1; `width` is odd."""
    place = torch.linspace(-3, 3, width, dtype=torch.float64) if width > 1 else torch.zeros(1, dtype=torch.float64)
    weight = torch.exp(-place.square() / 2)
    return weight / weight.sum()


def smoothed(grad: Tensor, width: int) -> Tensor:
    """Return the gradient (B, C, H, W) filtered by a Gaussian `width` pixels wide; there is none beyond the border.

    Dong et al. 2019, "Evading defenses to transferable adversarial examples by translation-invariant attacks",
    arXiv:1904.02884, equation 8.
    """
    if width == 1:
        return grad
    C = grad.shape[1]
    line = taps(width).to(grad)
    across = F.conv2d(grad, line.expand(C, 1, 1, width), padding=(0, width // 2), groups=C)
    return F.conv2d(across, line[:, None].expand(C, 1, width, 1), padding=(width // 2, 0), groups=C)
