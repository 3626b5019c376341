"""Labelled texts: a table with a column of them, or a folder with one file a class and one text a line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from robustaug.data.columns import check_columns, cohorts_of, grouping, read_columns, read_labels
from robustaug.data.delimited import place
from robustaug.data.fingerprint import digest
from robustaug.data.source import Source
from robustaug.data.splits import part_of
from robustaug.data.store import Held
from robustaug.ops.text.texts import TEXTS
from robustaug.registry import register


@register("data.texts")
def texts(
    path: str,
    split: str = "all",
    *,
    text: str = "text",
    label: str = "label",
    classes: Sequence[str] | None = None,
    cohorts: Sequence[str] | None = None,
    val_share: float = 0.1,
    test_share: float = 0.2,
    seed: int = 0,
) -> Source:
    """Texts from a CSV, TSV or Parquet table, or from a folder with a file a class: `neg.txt`, `pos.txt`.

    Of a folder every .txt file is a class, and every line that is not blank a text. Cohorts: the columns of a table
    beside text and label, and "length": short, medium or long, the thirds of all texts by their number of words.

    Args:
        path: the table, or the folder.
        split: "train", "val" or "test", disjoint random parts with the classes in proportion; or "all" of the
            texts, without parts: for a file that holds test texts only.
        text, label: columns of a table; a label is a name or the number of a class.
        classes: names in the order of the labels; sorted when left out.
        cohorts: the columns of a table to keep; when left out those of numbers, and those of at most 100 values.
        val_share, test_share: of all samples; 0 leaves the part out.
        seed: of the parts.

    Raises:
        FileNotFoundError: nothing at `path`.
        ValueError: no texts, a column that is missing, a row without text or label, bytes that are no UTF-8, or
            another argument refused.
    """
    where = Path(path)
    if not where.exists():
        raise FileNotFoundError(f"data.texts: nothing at {where}; path names a table, or a folder with a .txt a class")
    held, labels, names, columns = (
        _of_folder(where, classes) if where.is_dir() else _of_table(where, text, label, classes)
    )
    kept = grouping(columns) if cohorts is None else cohorts
    check_columns(str(where), columns, kept)
    whole = Source(
        where.name,
        Held(held, TEXTS, (), where.name, unchanged),
        labels,
        names,
        fingerprint=digest("texts", *held, labels, names),
        cohorts=cohorts_of(columns, kept) | {"length": _lengths(held)},
    )
    return part_of(whole, "data.texts", split, val_share, test_share, seed)


def unchanged(samples: Any) -> Any:
    """Return texts as models take them: as they are."""
    return samples


Read = tuple[list[str], Tensor, list[str], dict[str, list[str]]]
"""Texts, labels, names of the classes, other columns."""


def _of_folder(folder: Path, classes: Sequence[str] | None) -> Read:
    files = sorted(folder.glob("*.txt"))
    if not files:
        raise ValueError(f"{folder}: no .txt files; a folder of texts holds one a class, one text a line")
    lines = [(line.strip(), file.stem) for file in files for line in _lines(file) if line.strip()]
    if not lines:
        raise ValueError(f"{folder}: no texts; its .txt files have no line that is not blank")
    labels, names = read_labels(str(folder), [name for _, name in lines], classes or sorted(f.stem for f in files))
    return [line for line, _ in lines], labels, names, {}


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").split("\n")  # not splitlines: texts may hold its rarer separators
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{file}: line {line} is no UTF-8; store the file as UTF-8") from None


def _of_table(table: Path, text: str, label: str, classes: Sequence[str] | None) -> Read:
    columns = read_columns(table)
    check_columns(str(table), columns, (text, label))
    held = columns.pop(text)
    if not held:
        raise ValueError(f"{table}: no rows")
    blank = [row for row, one in enumerate(held) if not one.strip()]
    if blank:
        raise ValueError(f"{table}: {place(blank[0], text)} holds no text; {len(blank)} rows lack one")
    return held, *read_labels(str(table), columns.pop(label), classes, label), columns


def _lengths(held: list[str]) -> np.ndarray:
    words = np.array([len(one.split()) for one in held])
    thirds = np.searchsorted(np.quantile(words, [1 / 3, 2 / 3]), words)
    return np.array(["short", "medium", "long"])[thirds]
