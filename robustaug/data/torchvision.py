"""Any classification data set of torchvision, by its name."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from robustaug.data.fingerprint import sampled_digest
from robustaug.data.images import Decoded
from robustaug.data.source import Source
from robustaug.data.splits import hold_out, limit
from robustaug.registry import did_you_mean, register


@register("data.torchvision")
def torchvision(
    dataset: str,
    root: str = "data",
    split: str | None = None,
    *,
    download: bool = False,
    options: Mapping[str, Any] | None = None,
    size: int | None = None,
    channels: int = 3,
    val_share: float = 0.1,
    limit_per_class: int | None = None,
    cache: bool | None = None,
    max_damaged: float = 0.05,
) -> Source:
    """A classification data set of torchvision, such as CIFAR10, MNIST, SVHN or Flowers102.

    Args:
        dataset: the class's name in `torchvision.datasets`.
        root: folder the data is in.
        split: for data sets with a `split` of their own, one of theirs. For the others "test" where there is one,
            and "train" and "val", disjoint random parts of the training data, the same everywhere; all of it when
            left out.
        download: fetch what is missing.
        options: further arguments of the class, such as {"split": "letters"} for EMNIST.
        size: side in px to resize and centre-crop to; needed where sizes differ.
        channels: 1 (grey) or 3 (colour).
        val_share: share of each class in "val" where that part is made here; 0 leaves nothing out of "train".
        limit_per_class: at most this many random samples of each class.
        cache: remember decoded pixels; by default if all take less than 1 GB.
        max_damaged: share of damaged samples above which reading stops with an error.

    Raises:
        FileNotFoundError: the data is not there, or cannot be downloaded.
        ValueError: unknown data set or split, not a classification, or another argument refused.
    """
    from torchvision import datasets

    if dataset not in datasets.__all__:
        raise ValueError(f"data.torchvision: unknown dataset {dataset!r}{did_you_mean(dataset, datasets.__all__)}")
    made, part = _open(getattr(datasets, dataset), dataset, root, split, download, dict(options or {}), val_share)
    labels = _labels(made, dataset)
    classes = _class_names(made, labels)
    images = Decoded(_Pictures(made, dataset), channels, size, cache)
    source = Source(
        f"{dataset}/{split}" if split else dataset,
        images,
        labels,
        classes,
        fingerprint=sampled_digest(images, "torchvision", dataset, labels, classes),
        max_damaged=max_damaged,
    )
    if part is not None:
        source = source.subset(hold_out("data.torchvision", source.labels, classes, val_share)[part])
    if limit_per_class is not None:
        source = source.subset(limit(source.labels, classes, limit_per_class))
    return source


class _Pictures:
    def __init__(self, dataset: Any, name: str) -> None:
        self.dataset, self.name = dataset, name

    def __len__(self) -> int:
        return len(self.dataset)

    def picture(self, row: int) -> Image.Image:
        return self.dataset[row][0]

    def path(self, row: int) -> str:
        return f"{self.name}#{row}"


def _open(
    factory: Any, name: str, root: str, split: str | None, download: bool, options: dict[str, Any], val_share: float
) -> tuple[Any, int | None]:
    """Make the data set; the second value is 0 or 1 for its kept or held-out part, None for all of it."""
    known = _parameters(factory)
    arguments = options | {key: value for key, value in (("root", root), ("download", download)) if key in known}
    part = None
    if "train" in known:
        if split not in (None, "train", "val", "test"):
            raise ValueError(f"data.torchvision: {name} has splits train, val and test, got {split!r}")
        arguments["train"] = split != "test"
    elif "split" in known and "split" not in options:
        arguments |= {} if split is None else {"split": split}
    elif split not in (None, "train", "val"):
        raise ValueError(f"data.torchvision: {name} has splits train and val (a part of its own), got {split!r}")
    if "split" not in known or "train" in known or "split" in options:
        part = {"train": 0 if val_share else None, "val": 1}.get(split or "")
    try:
        return factory(**arguments), part
    except (RuntimeError, OSError) as error:
        reason = " ".join(str(error).split())
        fix = "check the network" if download else f"set download: true, or root: to the folder that has {name}"
        raise FileNotFoundError(f"data.torchvision: {name} is not in {root!r} ({reason}); {fix}") from None


def _parameters(factory: type) -> set[str]:
    """Names a class takes, those it hands on to its bases through **kwargs among them."""
    names: set[str] = set()
    for base in factory.__mro__:
        if "__init__" in vars(base):
            parameters = inspect.signature(base.__init__).parameters.values()
            names |= {parameter.name for parameter in parameters}
            if all(parameter.kind is not parameter.VAR_KEYWORD for parameter in parameters):
                break
    return names


def _labels(dataset: Any, name: str) -> Tensor:
    """Take the labels from where torchvision's classes keep them; else read every sample once."""
    for attribute in ("targets", "labels", "_labels", "y"):
        values = getattr(dataset, attribute, None)
        if values is not None and (labels := _whole_numbers(values, len(dataset))) is not None:
            return labels
    for attribute in ("samples", "_samples"):
        values = getattr(dataset, attribute, None)
        if values is not None and (labels := _whole_numbers([pair[-1] for pair in values], len(dataset))) is not None:
            return labels
    values = [dataset[row][1] for row in range(len(dataset))]
    labels = _whole_numbers(values, len(dataset))
    if labels is None:
        raise ValueError(f"data.torchvision: {name} is no classification: its first label is {values[0]!r}")
    return labels


def _whole_numbers(values: Any, n: int) -> Tensor | None:
    try:
        array = np.asarray(values)
    except (ValueError, TypeError):
        return None
    return torch.from_numpy(array.astype(np.int64)) if array.shape == (n,) and array.dtype.kind in "iu" else None


def _class_names(dataset: Any, labels: Tensor) -> list[str]:
    names = getattr(dataset, "classes", None) or getattr(dataset, "categories", None)
    highest = int(labels.max()) if len(labels) else -1
    if not isinstance(names, (list, tuple)) or len(names) <= highest:
        return [str(label) for label in range(max(highest + 1, getattr(dataset, "num_classes", 0)))]
    plain = [name if isinstance(name, str) else str(name[0]) for name in names]  # ImageNet gives synonyms
    return [name if plain.count(name) == 1 else f"{name} ({label})" for label, name in enumerate(plain)]
