"""Classes that grow rare: what a method for imbalanced data is tried on."""

from __future__ import annotations

from typing import Any

import torch

from robustaug.data.opening import open_source
from robustaug.data.source import Source
from robustaug.data.splits import divide
from robustaug.registry import register


@register("data.long_tailed")
def long_tailed(of: Any, imbalance: float = 100.0, seed: int = 0) -> Source:
    """A random subset of a source in which each class is rarer than the one before it.

    Class k of K keeps the share imbalance^(-k / (K - 1)) of its samples, rounded, at least one: all of the first
    class, 1 / imbalance of the last.
    Source: Cui et al. 2019 (arXiv:1901.05555), section 5.1, "long-tailed CIFAR".

    Args:
        of: the source, as `name`, `{name: parameters}` or itself.
        imbalance: how many times rarer the last class gets than the first, >= 1.
        seed: of the choice.

    Raises:
        ValueError: imbalance below 1 or not finite, or a source of one class.
    """
    if isinstance(imbalance, bool) or not isinstance(imbalance, int | float) or not 1 <= imbalance < float("inf"):
        raise ValueError(f"data.long_tailed: imbalance must be >= 1 and finite, got {imbalance!r}")
    source = open_source(of)
    classes = len(source.classes)
    if classes < 2:
        raise ValueError(f"data.long_tailed: {source.name} has one class, which cannot be rarer than another")
    counts = torch.bincount(source.labels, minlength=classes)
    shares = float(imbalance) ** -(torch.arange(classes, dtype=torch.float64) / (classes - 1))
    quota = torch.minimum((counts * shares).round().long().clamp(min=1), counts)
    return source.subset(divide(source.labels, [quota], seed)[0], f"{source.name}, 1 to {imbalance:g}")
