"""A source whose labels come from somewhere else: other people's, a model's, or those of another round.

Legend: N samples of the whole source, K classes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robustaug.data.columns import check_columns, read_arrays, read_columns, read_labels
from robustaug.data.opening import open_source
from robustaug.data.source import Source
from robustaug.registry import register


@register("data.relabelled")
def relabelled(of: Any, labels: str, key: str) -> Source:
    """A source with labels from a file, one for each sample of the whole source.

    The file speaks of the whole source even where `of` is a part of it: a split finds its own rows by its samples'
    numbers. Cohort "relabelled" says "yes" where the new label differs from the old one.

    CIFAR-10N (Wei et al. 2022, arXiv:2110.12088) in the order of an image folder is read by
    `{of: {data.imagefolder: {path: train.zip, split: train}}, labels: human_labels.npz, key: worse_label}`.

    Args:
        of: the source, as `name`, `{name: parameters}` or itself.
        labels: path of a .npz of arrays, or of a .csv or .parquet table.
        key: the array, (N,) whole numbers in [0, K), or the column, which may also hold the classes' names.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no such key, labels of another number than the whole source has samples, or out of range.
    """
    source, path = open_source(of), Path(labels)
    if not path.is_file():
        raise FileNotFoundError(f"data.relabelled: no file at {path}; labels names a .npz, .csv or .parquet file")
    given = _array(path, key) if path.suffix.lower() in (".npz", ".npy") else _column(path, key, source)
    if len(given) != len(source.images):
        raise ValueError(
            f"{path}: {key!r} has {len(given)} labels, but {source.name} is of {len(source.images)} samples; "
            "give one for each sample of the whole source, before it is split"
        )
    return with_labels(source, given[source.sample_index], f"{source.name} with {key}")


def with_labels(source: Source, labels: Tensor, name: str) -> Source:
    """Return the source with other labels (N,), and where they differ as a cohort.

    Raises:
        ValueError: labels out of range.
    """
    differ = np.where((labels != source.labels).numpy(), "yes", "no")
    return source.changed(name, "labels", labels, labels=labels, cohorts={"relabelled": differ})


def _array(path: Path, key: str) -> Tensor:
    [array] = read_arrays(path, (key,))
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise ValueError(f"{path}: {key!r} must hold whole numbers (N,), got {array.dtype} of shape {array.shape}")
    return torch.from_numpy(array.astype(np.int64))


def _column(path: Path, key: str, source: Source) -> Tensor:
    columns = read_columns(path)
    check_columns(str(path), columns, (key,))
    return read_labels(str(path), columns[key], source.classes, key)[0]
