"""Image classification data sets of Hugging Face: by name on the hub, or a local folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from robustaug.data.decode import MAX_FILE_BYTES, UnreadableError, decode
from robustaug.data.fingerprint import sampled_digest
from robustaug.data.images import Decoded
from robustaug.data.source import Source
from robustaug.data.splits import limit
from robustaug.registry import did_you_mean, register


@register("data.huggingface")
def huggingface(
    path: str,
    split: str | None = None,
    *,
    config: str | None = None,
    image: str | None = None,
    label: str | None = None,
    cohorts: Sequence[str] = (),
    size: int | None = None,
    channels: int = 3,
    limit_per_class: int | None = None,
    cache: bool | None = None,
    max_damaged: float = 0.05,
) -> Source:
    """A Hugging Face data set: a name on the hub, a folder written by `save_to_disk`, or a folder of images.

    Args:
        path: an existing local folder is read as such; anything else is a name on the hub.
        split: one of the data set's splits; may be left out where there is one.
        config: the hub's configuration name.
        image: the column of pictures; the only image column when left out.
        label: the column of labels; the only ClassLabel column, or "label", when left out.
        cohorts: metadata columns to keep.
        size: side in px to resize and centre-crop to; needed where sizes differ.
        channels: 1 (grey) or 3 (colour).
        limit_per_class: at most this many random samples of each class.
        cache: remember decoded pixels; by default if all take less than 1 GB.
        max_damaged: share of damaged samples above which reading stops with an error.

    Raises:
        ImportError: the extra is not installed.
        FileNotFoundError: neither a local folder nor a name the hub knows, or the hub cannot be reached.
        ValueError: unknown split or column, or labels that are neither numbers nor names.
    """
    data = _open(path, split, config)
    columns = data.column_names
    pictured = [name for name, feature in data.features.items() if type(feature).__name__ == "Image"]
    labelled = [name for name, feature in data.features.items() if hasattr(feature, "names")]
    picked = _column(path, columns, image, pictured, "image")
    target = _column(path, columns, label, labelled, "label")
    for column in cohorts:
        _column(path, columns, column, [], "cohort")
    labels, classes = _labels(path, data, target)
    images = Decoded(_Pictures(data, picked, path), channels, size, cache)
    source = Source(
        f"{Path(path).name}/{split}" if split else Path(path).name,
        images,
        labels,
        classes,
        fingerprint=sampled_digest(images, "huggingface", labels, classes),
        cohorts={column: [str(value) for value in data[column]] for column in cohorts},
        max_damaged=max_damaged,
    )
    return source if limit_per_class is None else source.subset(limit(source.labels, classes, limit_per_class))


class _Pictures:
    """Encoded pictures of one column, decoded here so that a damaged one is ours to quarantine."""

    def __init__(self, data: Any, column: str, name: str) -> None:
        from datasets import Image as ImageFeature

        if type(data.features[column]).__name__ != "Image":
            raise ValueError(f"{name}: column {column!r} holds {data.features[column]}, not images; set image=...")
        self.data = data.select_columns([column]).with_format(None).cast_column(column, ImageFeature(decode=False))
        self.column, self.name = column, name

    def __len__(self) -> int:
        return len(self.data)

    def picture(self, row: int) -> Image.Image:
        cell = self.data[row][self.column]
        if cell is None:
            raise UnreadableError("no image in this row")
        if cell["bytes"] is not None:
            return decode(cell["bytes"])
        file = Path(cell["path"])
        if not file.is_file():
            raise UnreadableError(f"missing file {file}")
        if file.stat().st_size > MAX_FILE_BYTES:
            raise UnreadableError(f"more than {MAX_FILE_BYTES:,} bytes")
        return decode(file.read_bytes())

    def path(self, row: int) -> str:
        return f"{self.name}#{row}"


def _open(path: str, split: str | None, config: str | None) -> Any:
    try:
        import datasets
    except ImportError:
        raise ImportError("data.huggingface needs datasets: pip install 'robustaug[huggingface]'") from None
    folder = Path(path)
    if folder.is_dir() and any((folder / f).exists() for f in ("dataset_dict.json", "dataset_info.json", "state.json")):
        found = datasets.load_from_disk(path)
    else:
        local = folder.is_dir()
        try:
            found = datasets.load_dataset(
                "imagefolder" if local else path, None if local else config, data_dir=path if local else None
            )
        except OSError as error:  # no such name, no files in it, or no network
            raise FileNotFoundError(
                f"data.huggingface: {path!r} is no local folder, and the hub does not give it: {_one_line(error)}"
            ) from None
    if not isinstance(found, dict):
        if split is not None and str(found.split) != split:
            raise ValueError(f"{path} holds one data set (split {found.split}), got split={split!r}; leave split out")
        return found
    if split is None and len(found) == 1:
        return next(iter(found.values()))
    splits = [str(name) for name in found]
    if split not in splits:
        raise ValueError(f"{path}: choose split= among {splits}, got {split!r}{did_you_mean(str(split), splits)}")
    return found[split]


def _column(path: str, columns: list[str], given: str | None, found: list[str], kind: str) -> str:
    if given is not None:
        if given not in columns:
            raise ValueError(f"{path}: no {kind} column {given!r}{did_you_mean(given, columns)}; it has {columns}")
        return given
    if len(found) == 1 or kind in found:
        return kind if kind in found else found[0]
    if not found and kind in columns:
        return kind
    raise ValueError(f"{path}: which column is the {kind}? Set {kind}=... to one of {columns}")


def _labels(path: str, data: Any, column: str) -> tuple[torch.Tensor, list[str]]:
    values = [*data.with_format(None).select_columns([column])[column]]
    if any(value is None for value in values):
        raise ValueError(f"{path}: column {column!r}: {values.count(None)} samples have no label")
    names = getattr(data.features[column], "names", None)
    if names is not None:
        return torch.tensor(values), [*names]
    array = np.asarray(values)
    if array.dtype.kind == "U":
        names, labels = np.unique(array, return_inverse=True)
        return torch.from_numpy(labels), [str(name) for name in names]
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise ValueError(f"{path}: column {column!r} must hold whole numbers or names, got {values[0]!r}")
    return torch.from_numpy(array.astype(np.int64)), [str(label) for label in range(int(array.max()) + 1)]


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
