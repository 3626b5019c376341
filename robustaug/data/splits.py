"""Deterministic parts of a labelled set, each with its classes in proportion.

Legend: N samples, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from robustaug.data.source import Source
from robustaug.parameters import check_count, check_share
from robustaug.registry import did_you_mean
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


def parts_of(
    name: str, labels: Tensor, classes: Sequence[str], val_share: float, test_share: float, seed: int = 0
) -> dict[str, Tensor]:
    """Return the positions of "train", "val" and "test", disjoint random parts with classes in proportion, and "all".

    A part whose share is 0 is left out; of each class at least one sample goes to every other part.

    Args:
        name: for messages.

    Raises:
        ValueError: shares that leave nothing, or a class with too few samples.
    """
    shares = {"val": val_share, "test": test_share}
    for key, share in shares.items():
        check_share(name, f"{key}_share", share, whole=False)
    if val_share + test_share >= 1:
        raise ValueError(f"{name}: val_share {val_share:g} and test_share {test_share:g} leave nothing to train on")
    held = {key: share for key, share in shares.items() if share > 0}
    counts = torch.bincount(labels, minlength=len(classes))
    few = (counts > 0) & (counts <= len(held))
    if few.any():
        lonely = int(few.nonzero()[0])
        raise ValueError(
            f"{name}: class {classes[lonely]!r} has {int(counts[lonely])} samples, too few for {len(held) + 1} parts; "
            f"set {' or '.join(f'{key}_share' for key in held)} to 0"
        )
    quotas, left = [], counts
    for at, share in enumerate(held.values()):  # one for each part that follows, the training part among them
        quota = torch.minimum((counts * share).round().long().clamp(min=1), left - (len(held) - at)).clamp(min=0)
        quotas.append(quota)
        left = left - quota
    rows = divide(labels, quotas, seed)
    return {**dict(zip(held, rows, strict=False)), "train": rows[-1], "all": torch.arange(len(labels))}


def hold_out(
    name: str, labels: Tensor, classes: Sequence[str], val_share: float, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Return the positions to keep and to hold out, the "train" and "val" of `parts_of` without "test".

    Raises:
        ValueError: as `parts_of`, or val_share is 0.
    """
    parts = parts_of(name, labels, classes, val_share, 0.0, seed)
    return parts["train"], choose(name, parts, "val")


def part_of(whole: Source, name: str, split: str, val_share: float, test_share: float, seed: int = 0) -> Source:
    """Return a source itself for "all", or else one of `parts_of` it.

    Raises:
        ValueError: as `parts_of`, or a split that there is not.
    """
    if split == "all":
        return whole
    parts = parts_of(name, whole.labels, whole.classes, val_share, test_share, seed)
    return whole.subset(choose(name, parts, split), f"{whole.name}/{split}")


def choose(name: str, parts: Mapping[str, Tensor], split: str) -> Tensor:
    """Return the positions of one of the parts.

    Raises:
        ValueError: names the parts there are.
    """
    if split not in parts:
        raise ValueError(f"{name}: unknown split {split!r}{did_you_mean(str(split), parts)}; splits: {sorted(parts)}")
    return parts[split]


def limit(labels: Tensor, classes: Sequence[str], per_class: int, seed: int = 0) -> Tensor:
    """Return the positions of at most `per_class` random samples of each class.

    Raises:
        ValueError: per_class < 1.
    """
    check_count("data", "limit_per_class", per_class)
    counts = torch.bincount(labels, minlength=len(classes))
    return divide(labels, [counts.clamp(max=per_class)], seed)[0]
