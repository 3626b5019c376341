"""Convolution with one kernel a sample, and a border that reflects for any size of kernel and image.

Legend: B samples, C channels, H rows, W columns, K taps (odd).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor


def reflected(n: int, radius: int, device: torch.device) -> Tensor:
    """Return the n + 2 radius source positions of a line padded by mirror images: c b | a b c | b a.

    Unlike torch's reflection padding the radius may exceed the length; a single pixel repeats.
    """
    period = max(2 * (n - 1), 1)
    position = torch.arange(-radius, n + radius, device=device) % period
    return torch.minimum(position, period - position).clamp(max=n - 1) if n > 1 else torch.zeros_like(position)


def repeated(n: int, radius: int, device: torch.device) -> Tensor:
    """As `reflected`, the outermost pixel repeated: a a | a b c | c c."""
    return torch.arange(-radius, n + radius, device=device).clamp(0, n - 1)


def mirrored(n: int, radius: int, device: torch.device) -> Tensor:
    """As `reflected`, the outermost pixel doubled: b a | a b c | c b (SciPy's "reflect")."""
    position = torch.arange(-radius, n + radius, device=device) % (2 * n)
    return torch.minimum(position, 2 * n - 1 - position)


Border = Callable[[int, int, torch.device], Tensor]


def pad(image: Tensor, rows: int, columns: int, border: Border = reflected) -> Tensor:
    """Return (B, C, H + 2 rows, W + 2 columns), the border as `border` says."""
    H, W = image.shape[-2:]
    if rows:
        image = image.index_select(2, border(H, rows, image.device))
    if columns:
        image = image.index_select(3, border(W, columns, image.device))
    return image


def convolve_separable(image: Tensor, taps: Tensor, border: Border = reflected) -> Tensor:
    """Filter the rows and then the columns with each sample's taps.

    Tap by tap, so that taps which are zero change nothing at all: a sample does not notice that another
    one in its batch has a wider kernel.

    Args:
        image: (B, C, H, W).
        taps: (B, K), symmetric, each row sums to 1.
        border: what lies beyond.
    """
    return filtered(image, taps, border).clamp(0, 1)


def filtered(image: Tensor, taps: Tensor, border: Border = reflected) -> Tensor:
    """As `convolve_separable` for values of any range: nothing is clamped."""
    H, W = image.shape[-2:]
    radius = taps.shape[1] // 2
    weights = taps.to(image.dtype)[:, :, None, None, None].unbind(1)  # K times (B, 1, 1, 1)
    wide = pad(image, 0, radius, border)
    across = sum_of(weight * wide[..., i : i + W] for i, weight in enumerate(weights))
    tall = pad(across, radius, 0, border)
    return sum_of(weight * tall[..., i : i + H, :] for i, weight in enumerate(weights))


def convolve(image: Tensor, kernel: Tensor) -> Tensor:
    """Filter every channel with its sample's kernel.

    Args:
        image: (B, C, H, W).
        kernel: (B, K, K), each sums to 1; entry [j, i] weighs the pixel j - K//2 rows down, i - K//2 columns right.
    """
    B, C, H, W = image.shape
    K = kernel.shape[-1]
    wide = pad(image, K // 2, K // 2)
    weight = kernel.to(image.dtype).repeat_interleave(C, dim=0)[:, None]  # (B C, 1, K, K)
    out = F.conv2d(wide.reshape(1, B * C, *wide.shape[-2:]), weight, groups=B * C)
    return out.reshape(B, C, H, W).clamp(0, 1)


def sum_of(terms: Iterable[Tensor]) -> Tensor:
    """Add tensors one at a time, in order."""
    total = None
    for term in terms:
        total = term if total is None else total + term
    assert total is not None
    return total
