"""Deterministic parts of a labelled set, each with its classes in proportion.

Legend: N samples, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from robustaug.rng import permutation


def apportion(total: int, weights: Tensor) -> Tensor:
    """Share `total` out in proportion to `weights`, by largest remainder; ties go to the first.

    >>> apportion(10, torch.tensor([1, 1, 1])).tolist()
    [4, 3, 3]

    Args:
        weights: (K,) whole numbers >= 0 with a positive sum.

    Returns:
        (K,) int64 with the sum `total`, none above its weight where `total` is at most their sum.
    """
    exact, whole = total * weights, weights.sum()
    shares = exact // whole
    first = torch.argsort(exact % whole, descending=True, stable=True)[: total - int(shares.sum())]
    return shares.index_add(0, first, torch.ones_like(first))


def divide(labels: Tensor, quotas: Sequence[Tensor], seed: int = 0) -> list[Tensor]:
    """Cut the samples into disjoint parts at random.

    Args:
        labels: (N,) int64 in [0, K).
        quotas: for each part but the last, (K,) how many samples of each class it gets; the last gets the rest.

    Returns:
        The positions of each part, ascending.
    """
    order = permutation(len(labels), seed)
    parts: list[list[Tensor]] = [[] for _ in range(len(quotas) + 1)]
    for label in labels.unique().tolist():
        rows = order[labels[order] == label]
        counts = [int(quota[label]) for quota in quotas]
        for part, piece in zip(parts, rows.split([*counts, len(rows) - sum(counts)]), strict=True):
            part.append(piece)
    return [torch.cat(part).sort().values for part in parts]


def hold_out(labels: Tensor, classes: Sequence[str], share: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return the positions to keep and to hold out, at least one sample of each class in both.

    Raises:
        ValueError: share outside (0, 1), or a class with a single sample.
    """
    if not 0 < share < 1:
        raise ValueError(f"val_share must be between 0 and 1, got {share!r}")
    counts = torch.bincount(labels, minlength=len(classes))
    if (counts == 1).any():
        lonely = classes[int((counts == 1).nonzero()[0])]
        raise ValueError(f"class {lonely!r} has one sample; a train/val split needs at least two of each class")
    quota = torch.minimum((counts * share).round().long().clamp(min=1), (counts - 1).clamp(min=0))
    held, kept = divide(labels, [quota], seed)
    return kept, held


def limit(labels: Tensor, classes: Sequence[str], per_class: int, seed: int = 0) -> Tensor:
    """Return the positions of at most `per_class` random samples of each class.

    Raises:
        ValueError: per_class < 1.
    """
    if not isinstance(per_class, int) or per_class < 1:
        raise ValueError(f"limit_per_class must be a whole number >= 1, got {per_class!r}")
    counts = torch.bincount(labels, minlength=len(classes))
    return divide(labels, [counts.clamp(max=per_class)], seed)[0]
