"""A table of paths and labels; its other columns are cohorts."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from robustaug.data.archive import FolderPictures, leads_out
from robustaug.data.fingerprint import digest
from robustaug.data.images import Decoded
from robustaug.data.source import Source
from robustaug.registry import did_you_mean, register

_MISSING = "(missing)"
_MOST_CLASSES = 100_000  # a label beyond is an identifier in the wrong column
_MOST_VALUES = 20  # a numeric column with more is cut into quarters


@register("data.manifest")
def manifest(
    path: str,
    *,
    root: str | None = None,
    size: int | None = None,
    channels: int = 3,
    classes: Sequence[str] | None = None,
    cohorts: Sequence[str] | None = None,
    cache: bool | None = None,
    max_damaged: float = 0.05,
) -> Source:
    """A CSV or Parquet table with columns path and label; every other column is a cohort.

    Labels are names, sorted unless `classes` gives their order; or, where all are whole numbers that are no names
    in `classes`, the numbers of the classes. A numeric column with more than 20 values is cut into quarters. Files
    that are missing are quarantined.

    Args:
        path: the .csv (UTF-8, with header) or .parquet file.
        root: folder the paths start from; the manifest's own when left out. No path may lead out of it.
        size: side in px to resize and centre-crop to; needed where sizes differ.
        channels: 1 (grey) or 3 (colour).
        classes: class names in the order of the labels.
        cohorts: the metadata columns to keep; all when left out.
        cache: remember decoded pixels; by default if all take less than 1 GB.
        max_damaged: share of damaged samples above which reading stops with an error.

    Raises:
        FileNotFoundError: no such table or root.
        ValueError: a column is missing, the table is empty or malformed, or a row's path or label is refused.
    """
    table = Path(path)
    if not table.is_file():
        raise FileNotFoundError(f"data.manifest: no file at {table}; path names a .csv or .parquet table")
    base = table.parent if root is None else Path(root)
    if not base.is_dir():
        raise FileNotFoundError(f"data.manifest: root {base} is no folder")
    columns = read_columns(table)
    for column in ("path", "label", *(cohorts or ())):
        if column not in columns:
            raise ValueError(f"{table}: no column {column!r}{did_you_mean(column, columns)}; it has {[*columns]}")
    paths = columns["path"]
    if not paths:
        raise ValueError(f"{table}: no rows")
    for row, name in enumerate(paths):
        if not name.strip() or leads_out(name):
            raise ValueError(
                f"{table}: row {row + 1}: path {name!r} must be a relative path inside {base}; "
                "root=... sets another folder"
            )
    labels, names = read_labels(str(table), columns["label"], classes)
    kept = [column for column in columns if column not in ("path", "label")] if cohorts is None else cohorts
    metadata = {("class (metadata)" if c == "class" else c): _cohort(columns[c]) for c in kept}
    pictures = FolderPictures(base, [name.strip() for name in paths])
    sizes = [file.stat().st_size if (file := base / name).is_file() else -1 for name in pictures.paths]
    return Source(
        table.name,
        Decoded(pictures, channels, size, cache),
        labels,
        names,
        fingerprint=digest("manifest", *paths, sizes, labels, names, size, channels),
        cohorts=metadata,
        max_damaged=max_damaged,
    )


def read_columns(table: Path) -> dict[str, list[str]]:
    """Read every column as text: a label "01" or a site "007" must stay what it is."""
    import pyarrow as pa
    import pyarrow.csv as pa_csv
    import pyarrow.parquet as pa_parquet

    try:
        if table.suffix.lower() in (".parquet", ".pq"):
            data = pa_parquet.read_table(table)
        else:
            with pa_csv.open_csv(table) as reader:
                names = reader.schema.names
            as_text = pa_csv.ConvertOptions(column_types={name: pa.string() for name in names})
            data = pa_csv.read_csv(table, convert_options=as_text)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{table}: not a readable table: {error}") from None
    if len(set(data.column_names)) != len(data.column_names):
        raise ValueError(f"{table}: column names must differ, got {data.column_names}")
    return {
        name: ["" if value is None else str(value) for value in data[name].to_pylist()] for name in data.column_names
    }


def read_labels(table: str, values: list[str], given: Sequence[str] | None) -> tuple[torch.Tensor, list[str]]:
    values = [value.strip() for value in values]
    if "" in values:
        raise ValueError(f"{table}: row {values.index('') + 1} has no label; {values.count('')} rows lack one")
    names = sorted(set(values)) if given is None else [str(name) for name in given]
    numbers = all(re.fullmatch(r"[+-]?[0-9]+", value) for value in values)
    if numbers and (given is None or not set(values) <= set(names)):
        labels = [int(value) for value in values]
        highest = max(labels)
        if highest > _MOST_CLASSES:
            raise ValueError(f"{table}: row {labels.index(highest) + 1}: label {highest} is no class number")
        return torch.tensor(labels), [str(k) for k in range(highest + 1)] if given is None else names
    position = {name: label for label, name in enumerate(names)}
    for row, value in enumerate(values):
        if value not in position:
            raise ValueError(f"{table}: row {row + 1}: label {value!r} is not in classes{did_you_mean(value, names)}")
    return torch.tensor([position[value] for value in values]), names


def _cohort(values: list[str]) -> np.ndarray:
    """Text as it stands; a number's quarter, named by its range, where there are many numbers."""
    out = np.array([value or _MISSING for value in values])
    present = out != _MISSING
    if len(set(values)) <= _MOST_VALUES:
        return out
    try:
        numbers = out[present].astype(float)
    except ValueError:
        return out
    if not np.isfinite(numbers).all():
        return out
    edges = np.unique(np.quantile(numbers, [0, 0.25, 0.5, 0.75, 1]))
    at = np.searchsorted(edges[1:-1], numbers, side="right")
    ranges = np.array([f"{low:g} to {high:g}" for low, high in itertools.pairwise(edges)], dtype=object)
    quarters = out.astype(object)
    quarters[present] = ranges[at]
    return quarters.astype(str)
