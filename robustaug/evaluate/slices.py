"""Slices on which a model errs more than elsewhere, found among conjunctions of metadata values and said in words.

Legend: N samples, L values that are large enough, over all columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import hypergeom

from robustaug.data.columns import cohort
from robustaug.evaluate.cohorts import metadata, spelt
from robustaug.evaluate.metrics import NAMED_COHORT
from robustaug.evaluate.records import Cell, Records
from robustaug.evaluate.statistics import wilson

DEPTH = 3
"""Values that a slice combines, at most."""


class Slice(NamedTuple):
    """One slice.

    Attributes:
        values: (column, value) of each part.
        n, errors: samples in it, and those that the model gets wrong.
        error_rate, low, high: with its 95 % Wilson interval.
        rest: the error rate of all other samples.
        p_value: that errors fall into the slice by chance alone so often, corrected for all that were possible.
    """

    values: tuple[tuple[str, str], ...]
    n: int
    errors: int
    error_rate: float
    low: float
    high: float
    rest: float
    p_value: float

    @property
    def words(self) -> str:
        """The slice's name: "age 17 to 25 and sex = Female"."""
        return " and ".join(spelt(column, value) for column, value in self.values)


class Found(NamedTuple):
    """What a search found.

    Attributes:
        slices: the least likely by chance first.
        looked_at: conjunctions whose errors were counted.
        possible: what p-values are corrected for, an upper bound of the conjunctions that could have been looked at.
    """

    slices: list[Slice]
    looked_at: int
    possible: int


class _Column(NamedTuple):
    """A column's values that are large enough, and (N,) which one each sample has; their number, where none of them."""

    name: str
    values: list[str]
    at: np.ndarray


class _Candidate(NamedTuple):
    """A conjunction: (column, value) of each part, by number."""

    parts: tuple[tuple[int, int], ...]
    n: int
    errors: int
    p_value: float


def find_slices(
    correct: Any,
    columns: Mapping[str, Sequence[Any] | np.ndarray],
    alpha: float = 0.05,
    min_size: int = NAMED_COHORT,
    beam: int = 40,
) -> Found:
    """Search for slices whose error rate is higher than that of the rest.

    A beam search (Chung et al. 2019, arXiv 1807.06068, section 3, searches the same lattice): from single values the
    `beam` least likely are extended by a value of another column, up to three. A slice is tested by how many of all
    errors fall into it, which is hypergeometric where errors and metadata have nothing to do with each other. Which
    slices the search comes to depends on the errors, so Holm's correction (1979) counts every conjunction that it
    could have come to: by chance alone anything at all is found with probability alpha at most. A slice is left out
    where it says nothing that those above it do not: where it would not be found among the samples that they leave.

    Args:
        correct: (N,) bool, or 0 and 1.
        columns: (N,) values each; where there are many numbers they are cut into quarters.
        alpha: in (0, 1).
        min_size: samples of a slice, at least.
        beam: slices extended at each depth, at least 1.

    Raises:
        ValueError: lengths that differ, values other than 0 and 1, or an option out of range.
    """
    right = np.asarray(correct)
    if right.ndim != 1 or not np.isin(right, (0, 1)).all():
        raise ValueError(f"correct must have shape (N,) and hold only true and false, or 1 and 0; got {right.shape}")
    if not 0 < alpha < 1 or min_size < 1 or beam < 1:
        raise ValueError(
            f"needs alpha in (0, 1), min_size and beam >= 1, got alpha={alpha}, min_size={min_size} and beam={beam}"
        )
    for name, values in columns.items():
        if len(values) != len(right):
            raise ValueError(f"column {name!r} has {len(values)} values for {len(right)} samples")
    wrong = right == 0
    kept = [_column(name, values, min_size) for name, values in columns.items()]
    possible = _possible([len(column.values) for column in kept])
    looked = _search(wrong, kept, min_size, beam)
    chosen: list[Slice] = []
    left, corrected = np.ones(len(wrong), dtype=bool), 0.0
    for at, one in enumerate(sorted(looked, key=lambda one: (one.p_value, -one.n, one.parts))):
        corrected = max(corrected, min(1.0, one.p_value * (possible - at)))
        if corrected > alpha:
            break
        inside = _inside(kept, one.parts, len(wrong))
        fresh = inside & left
        again = _chance(int(wrong[fresh].sum()), int(left.sum()), int(wrong[left].sum()), int(fresh.sum()))
        if fresh.sum() >= min_size and (not chosen or again * possible <= alpha):
            values = tuple((kept[c].name, kept[c].values[k]) for c, k in one.parts)
            rest = float(wrong[~inside].mean())
            chosen.append(Slice(values, one.n, one.errors, *wilson(one.errors, one.n), rest, corrected))
            left &= ~inside
    return Found(chosen, len(looked), possible)


def of_run(records: Records, model: str, alpha: float = 0.05) -> Found:
    """Return the slices of a run's clean data, from its metadata columns; the class is one of them.

    Raises:
        ValueError: the run holds no clean data of this model, or no metadata.
    """
    known, clean = metadata(records), records.cells(model=model, kind="clean")
    if known is None or not clean:
        models = sorted({cell.model for cell in records.cells()})
        raise ValueError(f"{records.folder} holds no clean data of {model!r} with metadata; it holds {models}")
    samples = records.samples(_only(clean), ["index", "correct"])
    rows = known.rows(samples["index"])
    columns = {c: np.array(g.names, dtype=str)[g.at[rows]] for c, g in known.columns.items()}
    return find_slices(samples["correct"], columns, alpha)


def _only(cells: Sequence[Cell]) -> Cell:
    [cell] = cells
    return cell


def _column(name: str, cells: Sequence[Any] | np.ndarray, min_size: int) -> _Column:
    names, at, sizes = np.unique(cohort([str(cell) for cell in cells]), return_inverse=True, return_counts=True)
    large = (sizes >= min_size) & (sizes < len(cells))
    place = np.where(large, np.cumsum(large) - 1, large.sum())
    return _Column(name, [str(value) for value in names[large]], place[at])


def _possible(values: Sequence[int]) -> int:
    """Return in how many ways one to three values of different columns can be chosen.

    >>> _possible([2, 3, 4])
    59
    """
    ways = [1] + [0] * DEPTH
    for count in values:
        ways = [1, *(ways[depth] + ways[depth - 1] * count for depth in range(1, DEPTH + 1))]
    return sum(ways[1:])


def _search(wrong: np.ndarray, columns: Sequence[_Column], min_size: int, beam: int) -> list[_Candidate]:
    """Return every conjunction looked at that is large enough."""
    looked: list[_Candidate] = []
    edge: list[tuple[tuple[int, int], ...]] = [()]
    for _ in range(DEPTH):
        grown: dict[tuple[tuple[int, int], ...], tuple[int, int]] = {}
        for parts in edge:
            rows = np.flatnonzero(_inside(columns, parts, len(wrong)))
            for c in {*range(len(columns))} - {c for c, _ in parts}:
                at, values = columns[c].at[rows], len(columns[c].values)
                sizes, errors = np.bincount(at, minlength=values + 1), np.bincount(at, wrong[rows], values + 1)
                # a value that all of a slice share adds nothing to it
                for k in np.flatnonzero(((sizes >= min_size) & (sizes < len(rows)))[:values]).tolist():
                    grown[tuple(sorted((*parts, (c, k))))] = int(sizes[k]), int(errors[k])
        if not grown:
            break
        n, errors = np.array([*grown.values()]).T
        chances = _chance(errors, len(wrong), int(wrong.sum()), n)
        fresh = [_Candidate(*one) for one in zip(grown, n.tolist(), errors.tolist(), chances.tolist(), strict=True)]
        looked += fresh
        edge = [one.parts for one in sorted(fresh, key=lambda one: (one.p_value, one.parts))[:beam]]
    return looked


def _inside(columns: Sequence[_Column], parts: Sequence[tuple[int, int]], n: int) -> np.ndarray:
    """Return (N,) bool, whether each sample is in the slice."""
    inside = np.ones(n, dtype=bool)
    for c, k in parts:
        inside &= columns[c].at == k
    return inside


def _chance(errors: Any, n: int, all_errors: int, drawn: Any) -> Any:
    """Return the chance that of all errors among n samples so many or more are among those drawn."""
    return hypergeom.sf(np.subtract(errors, 1), n, all_errors, drawn)
