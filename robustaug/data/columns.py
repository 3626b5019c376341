"""Tables of text: read a CSV, TSV or Parquet file column by column, and tell labels and cohorts from them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from robustaug.registry import did_you_mean

MISSING = "(missing)"
_MOST_CLASSES = 100_000  # a label beyond is an identifier in the wrong column
_MOST_VALUES = 20  # a numeric column with more is cut into quarters
_TABS = (".tsv", ".tab")


def read_columns(table: Path) -> dict[str, list[str]]:
    """Read every column as text: a label "01" or a site "007" must stay what it is.

    A .tsv is cut at tabulators, and its quotes are characters like others; a .csv is cut at commas.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not readable, rows of different lengths, or column names that repeat.
    """
    import pyarrow as pa
    import pyarrow.csv as pa_csv
    import pyarrow.parquet as pa_parquet

    if not table.is_file():
        raise FileNotFoundError(f"no file at {table}; path names a .csv, .tsv or .parquet table")
    tabs = table.suffix.lower() in _TABS
    settings = {"delimiter": "\t", "quote_char": False} if tabs else {"newlines_in_values": True}
    form = pa_csv.ParseOptions(**settings)
    in_turn = pa_csv.ReadOptions(use_threads=False)  # only so do its complaints name the row
    try:
        if table.suffix.lower() in (".parquet", ".pq"):
            data = pa_parquet.read_table(table)
        else:
            with pa_csv.open_csv(table, parse_options=form) as reader:
                names = reader.schema.names
            as_text = pa_csv.ConvertOptions(column_types={name: pa.string() for name in names})
            data = pa_csv.read_csv(table, read_options=in_turn, parse_options=form, convert_options=as_text)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{table}: not a readable table: {error}") from None
    if len(set(data.column_names)) != len(data.column_names):
        raise ValueError(f"{table}: column names must differ, got {data.column_names}")
    return {
        name: ["" if value is None else str(value) for value in data[name].to_pylist()] for name in data.column_names
    }


def check_columns(table: str, columns: Sequence[str] | dict[str, list[str]], wanted: Sequence[str]) -> None:
    """Refuse a table that lacks a column.

    Raises:
        ValueError: names the first one, the nearest it has, and all.
    """
    for column in wanted:
        if column not in columns:
            raise ValueError(f"{table}: no column {column!r}{did_you_mean(column, columns)}; it has {[*columns]}")


def read_labels(table: str, values: list[str], given: Sequence[str] | None) -> tuple[Tensor, list[str]]:
    """Return labels (N,) int64 and the names of the classes.

    Labels are names, sorted unless `given` says their order; or, where all are whole numbers that are no names in
    `given`, the numbers of the classes.

    Raises:
        ValueError: a row without a label, or with one that is not among the classes.
    """
    values = [value.strip() for value in values]
    empty = [row for row, value in enumerate(values) if value.lower() in ("", "nan")]
    if empty:
        raise ValueError(f"{table}: row {empty[0] + 1} has no label; {len(empty)} rows lack one")
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


def cohort(values: list[str]) -> np.ndarray:
    """Return text as it stands; a number's quarter, named by its range, where there are many numbers."""
    out = np.array([value or MISSING for value in values])
    present = out != MISSING
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


def cohorts_of(columns: dict[str, list[str]], kept: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the cohorts of some columns; one that is called "class" gives way to that of the labels."""
    return {("class (metadata)" if column == "class" else column): cohort(columns[column]) for column in kept}
