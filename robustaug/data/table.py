"""Labelled rows of a table: numbers and categories, with gaps.

Legend: N rows, F number columns, G category columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from robustaug.data.columns import check_columns, cohorts_of, number, read_columns, read_labels, read_numbers
from robustaug.data.encoding import Encoding
from robustaug.data.fingerprint import digest
from robustaug.data.source import Source
from robustaug.data.splits import part_of, parts_of
from robustaug.data.store import Held
from robustaug.ops.tabular.table import MISSING, TABLES, Table
from robustaug.registry import register

GONE = ("", "?", "NA", "N/A", "NaN", "nan", "null", "NULL")
_FIX = ", but the training rows have numbers; repair it, or name the column in categories, or the word in missing"


@register("data.table")
def table(
    path: str,
    label: str,
    split: str = "all",
    *,
    drop: Sequence[str] = (),
    categories: Sequence[str] = (),
    cohorts: Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
    missing: Sequence[str] = GONE,
    fit: str | None = None,
    val_share: float = 0.1,
    test_share: float = 0.2,
    seed: int = 0,
) -> Source:
    """Rows of a CSV, TSV or Parquet table: every column but the label is a feature.

    A column whose training part holds numbers alone is a number column, any other a category column. Operators see
    them as they stand in the file; models get what `Encoding` makes of them, by the means, spreads and categories of
    the training part alone, in whichever part a row is.

    Args:
        path: the file.
        label: the label's column; a label is a name or the number of a class.
        split: "train", "val" or "test", disjoint random parts with the classes in proportion; or "all" of the
            rows, which then are their own training part unless `fit` is given: not for rows to be judged.
        drop: columns that are no features.
        categories: columns of numbers that are categories.
        cohorts: the columns to keep as cohorts; the category columns when left out.
        classes: names in the order of the labels; sorted when left out.
        missing: what a cell without a value reads.
        fit: another table, whose training part counts instead of this one's: for a file that holds test rows only.
            Both shares 0 where all of it was trained on.
        val_share, test_share: of all rows; 0 leaves the part out.
        seed: of the parts.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a column that is missing, a row without a label, a cell that is no number where the training rows
            have numbers, infinite numbers, or another argument refused.
    """
    columns, features = _features(path, label, drop, categories)
    reference, kinds = (columns, features) if fit is None else _features(fit, label, drop, categories)
    check_columns(path, features, [*kinds])
    gone = frozenset(missing)
    base_labels, names = read_labels(fit or path, reference[label], classes, label)
    labels = base_labels if fit is None else read_labels(path, columns[label], names, label)[0]
    alone = fit is None and split == "all"
    shares = (0.0, 0.0) if alone else (val_share, test_share)
    training = parts_of("data.table", base_labels, names, *shares, seed)["train"]
    numeric = [c for c in kinds if c not in categories and _numeric([kinds[c][row] for row in training.tolist()], gone)]
    base = _table(fit or path, kinds, numeric, gone)
    encoding = Encoding.of(base.rows(training))
    held = base if fit is None else _table(path, {column: features[column] for column in kinds}, numeric, gone)
    kept = [*held.categories] if cohorts is None else cohorts
    check_columns(path, columns, kept)
    cells = [cell for column in features for cell in (column, *features[column])]
    whole = Source(
        Path(path).name,
        Held(held, TABLES, (len(encoding.names),), Path(path).name, encoding, encoding.digest),
        labels,
        names,
        fingerprint=digest(
            "table", *cells, labels, names, encoding.mean, encoding.spread, encoding.levels, sorted(gone)
        ),
        cohorts=cohorts_of({column: [_present(cell, gone) for cell in columns[column]] for column in kept}, kept),
    )
    return part_of(whole, "data.table", split, val_share, test_share, seed)


Columns = dict[str, list[str]]


def _features(path: str, label: str, drop: Sequence[str], categories: Sequence[str]) -> tuple[Columns, Columns]:
    """Return all columns, and those that are features."""
    columns = {name: [cell.strip() for cell in cells] for name, cells in read_columns(Path(path)).items()}
    check_columns(path, columns, (label, *drop, *categories))
    features = {name: cells for name, cells in columns.items() if name != label and name not in drop}
    if not features or not columns[label]:
        raise ValueError(f"{path}: no {'rows' if features else 'features'} beside the label {label!r}")
    return columns, features


def _present(cell: str, gone: frozenset[str]) -> str:
    return "" if cell in gone else cell


def _numeric(cells: Sequence[str], gone: frozenset[str]) -> bool:
    present = [cell for cell in cells if cell not in gone]
    return bool(present) and all(number(cell) is not None for cell in present)


def _table(path: str, features: Mapping[str, list[str]], numeric: Sequence[str], gone: frozenset[str]) -> Table:
    """Return all rows; category codes count through the sorted values of the file."""
    labels = [column for column in features if column not in numeric]
    n = len(next(iter(features.values())))
    values = torch.empty(n, len(numeric), dtype=torch.float64)
    for at, column in enumerate(numeric):
        values[:, at] = torch.from_numpy(read_numbers(path, column, features[column], gone, _FIX))
    codes, levels = torch.empty(n, len(labels), dtype=torch.int64), []
    for at, column in enumerate(labels):
        known = sorted({cell for cell in features[column] if cell not in gone})
        place = {level: code for code, level in enumerate(known)}
        codes[:, at] = torch.tensor([place.get(cell, MISSING) for cell in features[column]])
        levels.append(tuple(known))
    return Table(values, codes, torch.arange(n), tuple(numeric), tuple(labels), tuple(levels))
