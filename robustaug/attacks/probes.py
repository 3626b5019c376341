"""Asking about several points of each sample at once. Legend: B samples, N points a sample, K classes."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from robustaug.attacks.ask import Ask

AT_ONCE = 64
"""Points a sample that are held in memory at once."""


def ask_each(ask: Ask, points: Tensor) -> Tensor:
    """Return the logits (B, N, K) at points (B, N, ...), none of which may be a witness."""
    rows = torch.arange(len(points), device=points.device).repeat_interleave(points.shape[1])
    logits = ask.of(rows).logits(points.flatten(0, 1), keep=False)
    return logits.unflatten(0, points.shape[:2])


def chunks(number: int) -> Iterator[tuple[int, int]]:
    """Yield (chunk, points in it) for `number` points: the same for every batch, so that draws do not depend on it."""
    for chunk, start in enumerate(range(0, number, AT_ONCE)):
        yield chunk, min(AT_ONCE, number - start)
