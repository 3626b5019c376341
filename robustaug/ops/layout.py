"""Layouts: what a kind of data looks like to a user, and the batch that every formula sees.

Legend: B samples, C channels, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


def check_range(image: Tensor) -> None:
    """Refuse what no operator can read.

    Raises:
        TypeError: not a tensor, or neither uint8 nor floating.
        ValueError: not (C, H, W) or (B, C, H, W), no pixels, or floating values outside [0, 1] or not finite.
    """
    check_layout(image)
    if image.is_floating_point() and image.numel():
        low, high = (float(v) for v in torch.aminmax(image.detach()))
        if not (low >= -1e-6 and high <= 1 + 1e-6):  # written so that NaN fails too
            hint = "; divide by 255, or pass uint8" if high > 1.5 else "; undo the normalisation first"
            raise ValueError(f"floating images must be in [0, 1], got values in [{low:g}, {high:g}]{hint}")


def check_layout(image: Tensor) -> None:
    """Check type, dtype and rank without reading the values; see `check_range`."""
    if not isinstance(image, Tensor):
        raise TypeError(f"image must be a torch.Tensor, got {type(image).__name__}; torch.as_tensor converts arrays")
    if image.dtype != torch.uint8 and not image.is_floating_point():
        raise TypeError(f"image must be uint8 or floating, got {image.dtype}")
    if image.ndim not in (3, 4):
        raise ValueError(f"image must have shape (C, H, W) or (B, C, H, W), got {tuple(image.shape)}")
    if 0 in image.shape[-3:]:
        raise ValueError(f"image must have at least one channel, row and column, got {tuple(image.shape)}")


Form = tuple[bool, torch.dtype]
"""What was undone: whether it was a single sample, and its dtype."""


def to_batch(image: Tensor) -> tuple[Tensor, Form]:
    """Return (B, C, H, W) in float32 (float64 stays) and what `from_batch` needs to undo it."""
    check_layout(image)
    batch = image if image.ndim == 4 else image[None]
    if image.dtype == torch.uint8:
        batch = batch.to(torch.float32) / 255
    elif image.dtype != torch.float64:
        batch = batch.to(torch.float32)  # half precision loses whole grey levels in a chain
    return batch, (image.ndim == 3, image.dtype)


def from_batch(batch: Tensor, form: Form) -> Tensor:
    """Undo `to_batch`: round and clamp to uint8, or cast back; drop the batch dimension it added."""
    single, dtype = form
    if dtype == torch.uint8:
        batch = (batch * 255).round_().clamp_(0, 255)
    batch = batch.to(dtype)
    return batch[0] if single else batch


@dataclass(frozen=True)
class Layout:
    """One kind of data, as tensors whose first dimension is the sample; another container overrides the methods.

    Attributes:
        name: as in the names of its operators: "image", "signal".
        rank: dimensions of a single sample.
        check: refuses what no operator of this kind can read.
        to_batch: a sample or a batch to the batch that formulas see, and what `from_batch` needs to undo it.
        from_batch: a batch back to what the user gave.
    """

    name: str
    rank: int
    check: Callable[[Any], None]
    to_batch: Callable[[Any], tuple[Any, Any]]
    from_batch: Callable[[Any, Any], Any]

    def is_single(self, data: Any) -> bool:
        """Return whether the user gave one sample rather than a batch."""
        return data.ndim == self.rank

    def device(self, data: Any) -> torch.device:
        """Return where the parameters of `data` are needed."""
        return data.device

    def shape(self, batch: Any) -> tuple[int, ...]:
        """Return what every sample of a batch must share."""
        return tuple(batch.shape[1:])

    def pick(self, batch: Any, chosen: Tensor) -> Any:
        """Return the samples at the positions `chosen`, (N,) int64."""
        return batch[chosen]

    def put(self, batch: Any, chosen: Tensor, changed: Any) -> Any:
        """Return a copy of `batch` whose samples at `chosen` are those of `changed`."""
        return batch.index_copy(0, chosen, changed)


IMAGES = Layout("image", 3, check_range, to_batch, from_batch)
