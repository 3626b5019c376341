"""Accuracy in every cohort on every clean, shifted and attacked cell, from the records alone.

Legend: N samples, C cohorts of a column.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from robustaug import atomic
from robustaug.data.source import Source
from robustaug.evaluate.metrics import NAMED_COHORT
from robustaug.evaluate.records import Cell, Records
from robustaug.evaluate.statistics import anytime, wilson

SHIFTS = ("clean", "operator", "attack")
"""Kinds of cells whose accuracy is asked of each cohort."""

_PROTECTED = b"protected"
_RANGE = re.compile(r"-?[0-9.]+(e[+-]?[0-9]+)? to -?[0-9.]+(e[+-]?[0-9]+)?")


def spelt(column: str, value: str) -> str:
    """Return a cohort in words: "sex = Female", or "age 17 to 25" of a range of numbers."""
    return f"{column} {value}" if _RANGE.fullmatch(value) else f"{column} = {value}"


@dataclass(frozen=True)
class Grouping:
    """Cohorts of one metadata column, or of a pair of columns: each a combination that some sample has.

    Attributes:
        column: such as "sex", or "sex and race".
        names: (C,) of the cohorts, such as "Female"; of a pair in words, such as "sex = Female and race = Black".
        at: (N,) int64, the cohort of each sample.
    """

    column: str
    names: Sequence[str]
    at: np.ndarray

    def with_(self, other: Grouping) -> Grouping:
        """Return the cohorts of both columns together."""
        found, at = np.unique(self.at * len(other.names) + other.at, return_inverse=True)
        pairs = (divmod(int(code), len(other.names)) for code in found)
        names = [f"{spelt(self.column, self.names[a])} and {spelt(other.column, other.names[b])}" for a, b in pairs]
        return Grouping(f"{self.column} and {other.column}", names, at)


@dataclass(frozen=True)
class Metadata:
    """The metadata of a run's test samples.

    Attributes:
        index: (N,) int64, sorted.
        columns: by name, the class among them.
        protected: the columns whose groups predictions are compared between.
        positive: the class that counts as a selection there.
        domains: the column that says where samples come from, None where no suite asked.
    """

    index: np.ndarray
    columns: dict[str, Grouping]
    protected: tuple[str, ...]
    positive: int
    domains: str | None = None

    def rows(self, index: np.ndarray) -> np.ndarray:
        """Return the rows of the samples with these indices."""
        return np.searchsorted(self.index, index)


class CohortCell(NamedTuple):
    """Accuracy of one cohort on one cell; seeds of it count together.

    Attributes:
        kind, scenario, severity: as in `records.Cell`.
        column: as in `Grouping`.
        cohort: in words, such as "sex = Female", or "age 17 to 25 and sex = Female".
        n: samples of the cohort that were measured there, `NAMED_COHORT` or more.
        accuracy, low, high: with an interval that holds for all rows of the table at once.
    """

    kind: str
    scenario: str
    severity: float
    column: str
    cohort: str
    n: int
    accuracy: float
    low: float
    high: float


class CohortTable(NamedTuple):
    """Accuracy by cohort and cell.

    Attributes:
        rows: of cohorts large enough to name.
        suppressed: by column, how many cohorts are too small in some cell; they are not named, because their accuracy
            is mostly chance and may tell of single people.
    """

    rows: list[CohortCell]
    suppressed: dict[str, int]

    @property
    def worst(self) -> CohortCell | None:
        """The row of the least accuracy, None where every cohort is too small."""
        return min(self.rows, key=lambda row: row.accuracy, default=None)


def write_metadata(
    records: Records, source: Source, protected: Sequence[str], positive: int, domains: str | None = None
) -> None:
    """Write cohorts.parquet: each sample's root index and metadata as text, what is protected, and what are domains."""
    key = "index"
    while key in source.cohorts:  # as of many a table that pandas wrote
        key = f"root {key}"
    columns: dict[str, Any] = {key: source.sample_index.numpy()}
    columns |= {name: pa.array([str(value) for value in values]) for name, values in source.cohorts.items()}
    said = {"columns": [*protected], "positive": positive, "domains": domains, "index": key}
    noted = {_PROTECTED: json.dumps(said)}
    with atomic.replacing(records.folder / "cohorts.parquet") as aside:
        pq.write_table(pa.table(columns).replace_schema_metadata(noted), aside)


def metadata(records: Records) -> Metadata | None:
    """Read cohorts.parquet; None where there is none.

    Raises:
        ValueError: it is damaged.
    """
    path = records.folder / "cohorts.parquet"
    if not path.exists():
        return None
    try:
        table = pq.read_table(path)
        noted = json.loads((table.schema.metadata or {}).get(_PROTECTED, b'{"columns": [], "positive": 0}'))
    except (OSError, pa.ArrowException, ValueError) as error:
        raise ValueError(f"{path} is damaged ({error}); delete it and run again") from None
    key = noted.get("index", "index")  # older versions knew no other
    index = table[key].to_numpy()
    order = np.argsort(index, kind="stable")
    columns = {name: _grouping(name, table[name], order) for name in table.column_names if name != key}
    return Metadata(index[order], columns, tuple(noted["columns"]), int(noted["positive"]), noted.get("domains"))


def cohort_table(
    records: Records,
    model: str,
    kinds: Collection[str] = SHIFTS,
    pairs: bool = True,
    confidence: float = 0.95,
) -> CohortTable:
    """Return accuracy by metadata column, and by pairs of columns, on every cell of these kinds.

    Wilson's interval, or `anytime` after an attack that stops itself, each at a level that makes all of them hold at
    once (Bonferroni); so the least accurate row may be picked and its interval still holds.

    Args:
        kinds: among `SHIFTS`.
        pairs: also every two columns together.
        confidence: that all intervals hold, in (0, 1).
    """
    cells = [cell for cell in records.cells(model=model) if cell.kind in kinds]
    return table_of(records, cells, pairs, confidence)


def table_of(
    records: Records, cells: Sequence[Cell], pairs: bool, confidence: float, columns: Collection[str] | None = None
) -> CohortTable:
    """Return `cohort_table` of these cells, of one model and of kinds among `SHIFTS`, and of these columns alone."""
    known = metadata(records)
    if known is None or not cells:
        return CohortTable([], {})
    if columns is not None:
        known = replace(known, columns={name: known.columns[name] for name in columns})
    measured = [(*_of_samples(records, known, group), group[0]) for group in conditions(cells)]
    found: list[tuple[Cell, str, str, int, float]] = []
    suppressed: dict[str, int] = {}
    for grouping in groupings(known, pairs):
        small = np.zeros(len(grouping.names), dtype=bool)
        for rows, correct, cell in measured:
            sizes = np.bincount(grouping.at[rows], minlength=len(small))
            hits = np.bincount(grouping.at[rows], correct, len(small))
            small |= sizes < NAMED_COHORT
            for at in np.flatnonzero(sizes >= NAMED_COHORT).tolist():
                found.append((cell, grouping.column, grouping.names[at], int(sizes[at]), float(hits[at])))
        if small.any():
            suppressed[grouping.column] = int(small.sum())
    level = 1 - (1 - confidence) / max(len(found), 1)
    return CohortTable([_row(*one, level) for one in found], suppressed)


def _row(cell: Cell, column: str, cohort: str, n: int, hits: float, level: float) -> CohortCell:
    interval = anytime(round(hits), n, level) if "asked" in cell.metrics else wilson(min(hits, n), n, level)
    return CohortCell(cell.kind, cell.scenario, cell.severity, column, cohort, n, *interval)


def conditions(cells: Sequence[Cell]) -> list[list[Cell]]:
    """Return the cells that differ in nothing but the seed, group by group, clean ones first."""
    groups: dict[tuple[int, str, float], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((SHIFTS.index(cell.kind), cell.scenario, cell.severity), []).append(cell)
    return [groups[key] for key in sorted(groups)]


def _of_samples(records: Records, known: Metadata, cells: Sequence[Cell]) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of the samples measured, and of each the mean of being right over the cells."""
    found = [records.samples(cell, ["index", "correct"]) for cell in cells]
    rows, at = np.unique(known.rows(np.concatenate([one["index"] for one in found])), return_inverse=True)
    correct = np.concatenate([one["correct"] for one in found]).astype(np.float64)
    return rows, np.bincount(at, correct, len(rows)) / np.bincount(at, minlength=len(rows))


def groupings(known: Metadata, pairs: bool) -> Iterator[Grouping]:
    """Yield the cohorts of each column, named in words, and of every two columns together where `pairs`."""
    for one in known.columns.values():
        yield Grouping(one.column, [spelt(one.column, name) for name in one.names], one.at)
    several = [
        one for one in known.columns.values() if len(one.names) > 1 and np.bincount(one.at).max() >= NAMED_COHORT
    ]
    if pairs:
        for one, other in itertools.combinations(several, 2):
            yield one.with_(other)


def _grouping(column: str, values: pa.ChunkedArray, order: np.ndarray) -> Grouping:
    encoded = values.combine_chunks().dictionary_encode()
    found = np.array(encoded.dictionary.to_pylist(), dtype=str)
    ranks = np.argsort(found, kind="stable")
    place = np.empty_like(ranks)
    place[ranks] = np.arange(len(ranks))
    return Grouping(column, found[ranks].tolist(), place[encoded.indices.to_numpy()[order]])
