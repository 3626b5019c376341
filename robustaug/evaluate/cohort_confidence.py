"""Calibration and coverage in every cohort, on clean data and under each shift, from the records alone.

Legend: N samples, C cohorts of a column, M bins, S seeds.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.special import stdtrit

from robustaug.evaluate.cohorts import Metadata, conditions, groupings, metadata
from robustaug.evaluate.metrics import NAMED_COHORT
from robustaug.evaluate.records import Cell, Records
from robustaug.evaluate.statistics import Interval, wilson

COHORT_FIGURES = ("ece", "nll", "brier", "coverage")
"""Figures that are had by cohort; of the last the lowest is worst, of the others the greatest."""

_BINS = 15
_SIGNS = _WHOLE = 0.1  # the shares of the chance of error spent on the signs of gaps, and on the sum of all gaps
_COLUMNS = ("index", "confidence", "correct", "nll", "brier")


class ConfidenceCell(NamedTuple):
    """One figure of one cohort in one condition; seeds of it count together.

    Attributes:
        figure: of `COHORT_FIGURES`.
        kind, scenario, severity: as in `records.Cell`.
        column, cohort: such as "sex" and "sex = Female".
        n: samples of the cohort that were measured there, `NAMED_COHORT` or more.
        value, low, high: with an interval that holds for all rows of the same figure at once; NaN where the model said
            NaN of a sample.
    """

    figure: str
    kind: str
    scenario: str
    severity: float
    column: str
    cohort: str
    n: int
    value: float
    low: float
    high: float


class ConfidenceTable(NamedTuple):
    """Figures of confidence by cohort and condition.

    Attributes:
        rows: of cohorts large enough.
        suppressed: by column, how many cohorts are too small in some condition and therefore not shown.
    """

    rows: list[ConfidenceCell]
    suppressed: dict[str, int]

    def worst(self, figure: str) -> ConfidenceCell | None:
        """Return the row of a figure that is worst, one that is NaN before all; None where there is none."""
        rows = [row for row in self.rows if row.figure == figure]
        sign = 1 if figure == "coverage" else -1
        return min(rows, key=lambda row: -math.inf if math.isnan(row.value) else sign * row.value, default=None)


def confidence_table(records: Records, model: str, kinds: Collection[str], confidence: float = 0.95) -> ConfidenceTable:
    """Return calibration and coverage by metadata column in every condition of these kinds.

    Losses have Student's interval of their mean's logarithm, coverage Wilson's, the calibration error that of `_ece`,
    each at a level that makes all intervals of a figure hold at once (Bonferroni). Of classes there is no calibration
    error: to be of a class is an outcome, and of samples chosen by their outcome even a calibrated model's confidence
    is off.

    Args:
        kinds: "clean", "operator".
        confidence: that all intervals of a figure hold, in (0, 1).
    """
    known = metadata(records)
    cells = [c for c in records.cells(model=model) if c.kind in kinds and {*COHORT_FIGURES[:3]} <= {*c.metrics}]
    if known is None or not cells:
        return ConfidenceTable([], {})
    found: list[_Measured] = []
    suppressed: dict[str, int] = {}
    columns = [*groupings(known, pairs=False)]
    small = {grouping.column: np.zeros(len(grouping.names), dtype=bool) for grouping in columns}
    for group in conditions(cells):
        outcomes = _Outcomes.of(records, known, group)
        for grouping in columns:
            at = grouping.at[outcomes.rows]
            sizes = np.bincount(at, minlength=len(grouping.names))
            small[grouping.column] |= sizes < NAMED_COHORT
            for cohort in np.flatnonzero(sizes >= NAMED_COHORT).tolist():
                chosen = outcomes.take(np.flatnonzero(at == cohort))
                found += [
                    _Measured(figure, group[0], grouping.column, grouping.names[cohort], chosen)
                    for figure in COHORT_FIGURES
                    if figure in chosen.values and (figure, grouping.column) != ("ece", "class")
                ]
    suppressed = {column: int(few.sum()) for column, few in small.items() if few.any()}
    counts = {figure: sum(one.figure == figure for one in found) for figure in COHORT_FIGURES}
    return ConfidenceTable([_row(one, 1 - (1 - confidence) / counts[one.figure]) for one in found], suppressed)


class _Outcomes(NamedTuple):
    """What a model said of samples in one condition, the mean over its seeds.

    Attributes:
        rows: (N,) rows of the metadata.
        values: (N,) by figure; of "ece" (N, M), correct less confidence in the bin of the confidence, 0 in others.
        right, confidence: (N,).
    """

    rows: np.ndarray
    values: dict[str, np.ndarray]
    right: np.ndarray
    confidence: np.ndarray

    @classmethod
    def of(cls, records: Records, known: Metadata, cells: Sequence[Cell]) -> _Outcomes:
        covered = ["covered"] if all("coverage" in cell.metrics for cell in cells) else []
        parts = [records.samples(cell, [*_COLUMNS, *covered]) for cell in cells]
        columns = {key: np.concatenate([part[key] for part in parts]) for key in (*_COLUMNS, *covered)}
        rows, at, times = np.unique(known.rows(columns["index"]), return_inverse=True, return_counts=True)
        means = {
            key: np.bincount(at, column.astype(np.float64), len(rows)) / times
            for key, column in columns.items()
            if key != "index"
        }
        p = columns["confidence"].astype(np.float64)
        edges = np.linspace(0.0, 1.0, _BINS + 1)[1:-1]  # closed on the right, as everywhere
        gaps = np.bincount(
            at * _BINS + np.searchsorted(edges, p, side="left"), columns["correct"] - p, len(rows) * _BINS
        )
        values = {"ece": gaps.reshape(len(rows), _BINS) / times[:, None], "nll": means["nll"], "brier": means["brier"]}
        values |= {"coverage": means["covered"]} if covered else {}
        return cls(rows, values, means["correct"], means["confidence"])

    def take(self, at: np.ndarray) -> _Outcomes:
        chosen = {figure: values[at] for figure, values in self.values.items()}
        return _Outcomes(self.rows[at], chosen, self.right[at], self.confidence[at])


class _Measured(NamedTuple):
    figure: str
    cell: Cell
    column: str
    cohort: str
    outcomes: _Outcomes


def _row(one: _Measured, level: float) -> ConfidenceCell:
    values, cell = one.outcomes.values[one.figure], one.cell
    if not np.isfinite(values).all():
        interval = Interval(math.nan, math.nan, math.nan)
    elif one.figure == "coverage":
        interval = wilson(min(float(values.sum()), len(values)), len(values), level)
    elif one.figure == "ece":
        interval = _ece(one.outcomes, level)
    else:
        interval = _loss(values, level, 2.0 if one.figure == "brier" else math.inf)
    place = (cell.kind, cell.scenario, cell.severity, one.column, one.cohort)
    return ConfidenceCell(one.figure, *place, len(values), *interval)


def _loss(values: np.ndarray, level: float, most: float) -> Interval:
    """Return the mean of losses in [0, most] with Student's interval of its logarithm, by the delta method.

    Losses are mostly small and seldom large, so that the mean of few is mostly too low: its logarithm is nearer to
    normal. How large a loss may be that no sample had, no interval can know.
    """
    mean = float(values.mean())
    if mean == 0:
        return Interval(0.0, 0.0, 0.0)
    ratio = math.exp(_reach(level, len(values)) * float(values.std(ddof=1)) / mean)
    return Interval(mean, mean / ratio, max(mean, min(most, mean * ratio)))


def _ece(outcomes: _Outcomes, level: float) -> Interval:
    """Return the calibration error with an interval for any level, however near to 1: nothing is resampled.

    The error is a sum of |gaps|, and the true one is no further away than the sum of |moves| of the gaps is large; gaps
    whose sign is beyond doubt may cancel each other. Moves are taken as normal and independent (shares of bins are
    slightly the opposite). A sum of |moves| is a Lipschitz function of them with constant L = sqrt(sum of variances),
    so it exceeds its mean by L z with a chance of 1 - Phi(z) at most (Gaussian concentration about the median, which
    of a convex function is below the mean: Cirel'son, Ibragimov and Sudakov 1976). The mean of |normal| is sqrt(2 / pi)
    of its deviation. Nor is the error less than the distance of the accuracy from the mean confidence.
    """
    gaps, n = outcomes.values["ece"], len(outcomes.rows)
    mean, deviation = gaps.mean(axis=0), gaps.std(axis=0, ddof=1) / math.sqrt(n)
    alpha = 1 - level
    sure = np.abs(mean) > _quantile(_SIGNS * alpha / (2 * _BINS), n) * deviation
    spread = math.sqrt(float((deviation[sure] ** 2).sum())) + float(deviation[~sure].sum())
    length = math.sqrt(float((deviation**2).sum()))
    reach = math.sqrt(2 / math.pi) * spread + _quantile((1 - _SIGNS - _WHOLE) * alpha, n) * length
    estimate = float(np.abs(mean).sum())
    whole = gaps.sum(axis=1)
    least = abs(float(whole.mean())) - _reach(1 - _WHOLE * alpha, n) * float(whole.std(ddof=1))
    right, said = min(float(outcomes.right.sum()), n), float(outcomes.confidence.mean())
    # where all samples are right no gap moves, but the accuracy is in doubt all the same
    ends = wilson(right, n, level)
    most = max(estimate + reach, abs(said - ends.low), abs(said - ends.high))
    return Interval(estimate, max(0.0, least, estimate - reach), most)


def _quantile(tail: float, n: int) -> float:
    return -float(stdtrit(n - 1, tail))


def _reach(level: float, n: int) -> float:
    return _quantile((1 - level) / 2, n) / math.sqrt(n)


def worst_figures(records: Records, model: str) -> dict[str, float]:
    """Return `worst_cohort_<figure>` on clean data and `worst_cohort_shifted_<figure>` under corruptions."""
    return {name: row.value for name, row in _worst(records, model, 0.95).items()}


def worst_intervals(records: Records, model: str, confidence: float) -> dict[str, Interval]:
    """Return `worst_figures` with their intervals; one that is NaN has none.

    The true worst lies between the worst of the low and the worst of the high ends.
    """
    out: dict[str, Interval] = {}
    for kind, prefix in _KINDS.items():
        table = confidence_table(records, model, [kind], confidence)
        for figure in COHORT_FIGURES:
            row = table.worst(figure)
            if row is not None and not math.isnan(row.value):
                choose: Any = min if figure == "coverage" else max
                rows = [one for one in table.rows if one.figure == figure]
                ends = choose(one.low for one in rows), choose(one.high for one in rows)
                out[f"{prefix}_{figure}"] = Interval(row.value, *ends)
    return out


_KINDS = {"clean": "worst_cohort", "operator": "worst_cohort_shifted"}
WORST = tuple(f"{prefix}_{figure}" for prefix in _KINDS.values() for figure in COHORT_FIGURES)
"""Names of `worst_figures`."""


def _worst(records: Records, model: str, confidence: float) -> dict[str, ConfidenceCell]:
    found: dict[str, ConfidenceCell] = {}
    for kind, prefix in _KINDS.items():
        table = confidence_table(records, model, [kind], confidence)
        for figure in COHORT_FIGURES:
            if (row := table.worst(figure)) is not None:
                found[f"{prefix}_{figure}"] = row
    return found
