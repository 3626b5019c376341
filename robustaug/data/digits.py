"""Handwritten digits that ship inside scikit-learn: 1,797 real pictures, nothing to download."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from robustaug.data.fingerprint import digest
from robustaug.data.images import InMemory
from robustaug.data.source import Source
from robustaug.data.splits import apportion, divide
from robustaug.registry import did_you_mean, register

_SIZES = {"train": 1000, "val": 297, "test": 500}


@register("data.digits")
def digits(split: str = "train") -> Source:
    """Handwritten digits, 8x8 grey, embedded in scikit-learn.

    Cohorts: "class", and "ink": light, medium or heavy, the thirds of all digits by mean intensity.
    Source: Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits", UCI, 1998 (its test set).

    Args:
        split: "train" (1,000 samples), "val" (297), "test" (500), disjoint and the same everywhere, each with the
            classes in proportion; or "all".

    Raises:
        ValueError: unknown split.
    """
    if split not in (*_SIZES, "all"):
        known = [*_SIZES, "all"]
        raise ValueError(f"data.digits: unknown split {split!r}{did_you_mean(split, known)}; splits: {known}")
    from sklearn.datasets import load_digits

    data: Any = load_digits()
    pixels = torch.from_numpy(np.rint(data.images * (255 / 16)).astype(np.uint8))[:, None]  # 0..16 -> 0..255
    labels = torch.from_numpy(data.target).long()
    ink = data.images.mean(axis=(1, 2))
    thirds = np.searchsorted(np.quantile(ink, [1 / 3, 2 / 3]), ink)
    whole = Source(
        "digits",
        InMemory(pixels, "digits"),
        labels,
        [str(digit) for digit in data.target_names],
        fingerprint=digest("digits", pixels, labels),
        cohorts={"ink": np.array(["light", "medium", "heavy"])[thirds]},
    )
    if split == "all":
        return whole
    counts = torch.bincount(labels)
    train = apportion(_SIZES["train"], counts)
    parts = divide(labels, [train, apportion(_SIZES["val"], counts - train)])
    return whole.subset(parts[[*_SIZES].index(split)], f"digits/{split}")
