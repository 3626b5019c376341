"""Columns and arrays of files that others made, and the labels and cohorts in them; no file can run code."""

from __future__ import annotations

import contextlib
import itertools
import math
import re
import zipfile
import zlib
from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robustaug.data.delimited import place, read_delimited
from robustaug.registry import did_you_mean

MISSING = "(missing)"
_MOST_CLASSES = 100_000  # a label beyond is an identifier in the wrong column
_MOST_VALUES = 20  # a numeric column with more is cut into quarters
_MOST_COHORTS = 100  # a column of words with more is a text or an identifier
_DAMAGE = (ValueError, OSError, EOFError, RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error)


def read_columns(table: Path) -> dict[str, list[str]]:
    """Read every column as text: a label "01" or a site "007" must stay what it is.

    A .tsv is cut at tabulators, and its quotes are characters like others; a .csv is cut at commas.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not readable, a row of another length, a cell that is no UTF-8, or column names that repeat.
    """
    import pyarrow as pa
    import pyarrow.parquet as pa_parquet

    if not table.is_file():
        raise FileNotFoundError(f"no file at {table}; path names a .csv, .tsv or .parquet table")
    if table.suffix.lower() in (".parquet", ".pq"):
        try:
            data = pa_parquet.read_table(table)
        except (pa.ArrowException, OSError) as error:
            raise ValueError(f"{table}: not a readable table: {error}") from None
    else:
        data = read_delimited(table)
    if len(set(data.column_names)) != len(data.column_names):
        raise ValueError(f"{table}: column names must differ, got {data.column_names}")
    return {name: _as_text(data[name]) for name in data.column_names}


def _as_text(column: Any) -> list[str]:
    import pyarrow as pa

    if pa.types.is_string(column.type):
        return column.fill_null("").to_pylist()
    return ["" if value is None else str(value) for value in column.to_pylist()]


def read_arrays(file: Path, keys: Sequence[str] = ()) -> list[np.ndarray]:
    """Read arrays of an .npz by their names, or, without names, the one array of an .npy.

    Texts that were stored as bytes are read as UTF-8.

    Raises:
        FileNotFoundError: no such file.
        ValueError: damaged, no NumPy file, the other of the two kinds, no such array, or Python objects in one.
    """
    if not file.is_file():
        raise FileNotFoundError(f"no file at {file}; it should be an .npz or .npy of NumPy")
    with _refused(file):
        found = np.load(file, allow_pickle=False)
    if isinstance(found, np.ndarray):
        if keys:
            raise ValueError(
                f"{file}: holds one array without a name, as an .npy does; an .npz holds {' and '.join(keys)}"
            )
        with _refused(file):
            return [_decoded(found)]
    with found:
        if not keys:
            raise ValueError(f"{file}: holds arrays by name, {found.files}, as an .npz does; call it .npz")
        check_columns(str(file), found.files, keys, "array")
        with _refused(file):
            return [_decoded(found[key]) for key in keys]


@contextlib.contextmanager
def _refused(file: Path) -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        if "Object arrays" in str(error):
            reason = "holds Python objects, as lists of different lengths do; store arrays of numbers or texts"
        else:
            reason = "is damaged or no NumPy file"
        raise ValueError(f"{file}: {reason}") from None


def _decoded(array: np.ndarray) -> np.ndarray:
    if not isinstance(array, np.ndarray):
        raise ValueError("a member of the archive is no array")  # noqa: TRY004 (the file is wrong, not a type)
    return np.char.decode(array, "utf-8") if array.dtype.kind == "S" else array


def check_columns(
    file: str, columns: Sequence[str] | Mapping[str, Any], wanted: Sequence[str], what: str = "column"
) -> None:
    """Refuse a table that lacks a column, or an archive that lacks an array.

    Raises:
        ValueError: names the first one, the nearest there is, and all.
    """
    for column in wanted:
        if column not in columns:
            raise ValueError(f"{file}: no {what} {column!r}{did_you_mean(column, columns)}; it has {[*columns]}")


def number(cell: str) -> float | None:
    """Return the number that a cell reads, None where it reads none; 3_4 is none, though Python takes it for 34."""
    try:
        return None if "_" in cell else float(cell)
    except ValueError:
        return None


def read_labels(
    table: str, values: list[str], given: Sequence[str] | None, column: str = "label", what: str = "column"
) -> tuple[Tensor, list[str]]:
    """Return labels (N,) int64 and the names of the classes.

    Labels are names, sorted unless `given` says their order; or, where all are whole numbers that are no names in
    `given`, the numbers of the classes.

    Args:
        column, what: where the values come from, for messages: a column of a table, or an array.

    Raises:
        ValueError: a row without a label, with one that is not among the classes, or with a number that no class has.
    """
    values = [value.strip() for value in values]
    empty = [row for row, value in enumerate(values) if value.lower() in ("", "nan")]
    if empty:
        raise ValueError(f"{table}: {place(empty[0], column, what)} holds no label; {len(empty)} rows lack one")
    names = sorted(set(values)) if given is None else [str(name) for name in given]
    numbers = all(re.fullmatch(r"[+-]?[0-9]+", value) for value in values)
    if numbers and (given is None or not set(values) <= set(names)):
        labels = [int(value) for value in values]
        classes = min(max(labels), _MOST_CLASSES) + 1 if given is None else len(names)
        for row, label in enumerate(labels):
            if not 0 <= label < classes:
                where = f"{table}: {place(row, column, what)} reads {label}"
                raise ValueError(_no_class(where, values, classes, given))
        return torch.tensor(labels), [str(k) for k in range(classes)] if given is None else names
    position = {name: label for label, name in enumerate(names)}
    for row, value in enumerate(values):
        if value not in position:
            hint = did_you_mean(value, names)
            raise ValueError(f"{table}: {place(row, column, what)} reads {value!r}, which is not in classes{hint}")
    return torch.tensor([position[value] for value in values]), names


def _no_class(where: str, values: list[str], classes: int, given: Sequence[str] | None) -> str:
    every = sorted(set(values), key=int)
    names = ", ".join(map(repr, every[:3])) + (", ..." if len(every) > 3 else "")
    known = f"{_MOST_CLASSES:,}" if given is None else f"{classes - 1} for classes={[*given][:5]}"
    return f"{where}, which is no class number, 0 to {known}; set classes: [{names}] if labels are names"


def read_numbers(where: str, column: str, cells: Sequence[str], gone: Container[str], fix: str = "") -> np.ndarray:
    """Return the numbers of a column, (N,) float64, NaN for cells that are `gone`.

    Args:
        fix: ends the message on what to do.

    Raises:
        ValueError: a cell is no finite number; names its row.
    """
    import pyarrow as pa

    try:
        read = pa.array([None if cell in gone else cell for cell in cells], pa.string()).cast(pa.float64())
        out = read.to_numpy(zero_copy_only=False).astype(np.float64)
    except pa.ArrowInvalid:  # stricter than Python, and does not name the row
        out = np.array([math.nan if cell in gone else number(cell) for cell in cells], dtype=object)
    wrong = np.flatnonzero((out == None) | (out == math.inf) | (out == -math.inf))  # noqa: E711 (elementwise)
    if len(wrong):
        row = int(wrong[0])
        raise ValueError(f"{where}: {place(row, column)} reads {cells[row]!r}, which is no finite number{fix}")
    return out.astype(np.float64)


def grouping(columns: Mapping[str, list[str]]) -> list[str]:
    """Return the columns whose cohorts say something: of few values, or of numbers, which are cut into quarters."""
    return [name for name, cells in columns.items() if len(set(cells)) <= _MOST_COHORTS or _numbers(cells) is not None]


def _numbers(cells: list[str]) -> np.ndarray | None:
    """Return the numbers of the cells that are not empty, None where one is no finite number."""
    found = [number(cell) for cell in cells if cell]
    return np.array(found, dtype=float) if all(one is not None and math.isfinite(one) for one in found) else None


def cohort(values: list[str]) -> np.ndarray:
    """Return text as it stands; a number's quarter, named by its range, where there are many numbers.

    Empty cells and NaN are `MISSING`.
    """
    values = ["" if value.strip().lower() == "nan" else value for value in values]
    out = np.array([value or MISSING for value in values])
    numbers = None if len(set(values)) <= _MOST_VALUES else _numbers(values)
    if numbers is None:
        return out
    present = out != MISSING
    edges = np.unique(np.quantile(numbers, [0, 0.25, 0.5, 0.75, 1]))
    at = np.searchsorted(edges[1:-1], numbers, side="right")
    ranges = np.array([f"{low:g} to {high:g}" for low, high in itertools.pairwise(edges)], dtype=object)
    quarters = out.astype(object)
    quarters[present] = ranges[at]
    return quarters.astype(str)


def cohorts_of(columns: dict[str, list[str]], kept: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the cohorts of some columns; one that is called "class" gives way to that of the labels."""
    return {("class (metadata)" if column == "class" else column): cohort(columns[column]) for column in kept}
