"""In the section on cohorts: whom confidence misleads, on clean data and under corruption."""

from __future__ import annotations

import math
from typing import NamedTuple

from robustaug.evaluate.cohort_confidence import COHORT_FIGURES, ConfidenceCell, ConfidenceTable, confidence_table
from robustaug.evaluate.metrics import NAMED_COHORT
from robustaug.report.figures import Figure, Series, Table, dots
from robustaug.report.view import View, decimal, percent, words

_KINDS = ("clean", "operator")
_SPELT = {"ece": "calibration error", "nll": "NLL", "brier": "Brier score", "coverage": "label in the set"}
_SHOWN = 12  # cohorts of a column in its figure; the table holds no more: the page must not grow with them

Tables = dict[str, dict[str, ConfidenceTable]]
"""By model, then by kind of cell."""


class CohortConfidence(NamedTuple):
    """A figure a column of metadata, the worst cohort of each figure and kind of data, and a note."""

    figures: list[Figure]
    worst: Table
    note: str


def cohort_confidence(view: View) -> CohortConfidence | None:
    """Return calibration and coverage by cohort, None where nothing is large enough to name."""
    tables: Tables = {
        model.name: {kind: confidence_table(view.records, model.name, [kind]) for kind in _KINDS}
        for model in view.models
    }
    rows = [
        [_SPELT[figure], model, worst.cohort, _condition(worst), f"{worst.n:,}", _value(worst)]
        for figure in COHORT_FIGURES
        for model, found in tables.items()
        if model in {one.name for one in view.candidates}
        for kind in _KINDS
        if (worst := found[kind].worst(figure)) is not None
    ]
    if not rows:
        return None
    every = [row for found in tables.values() for table in found.values() for row in table.rows]
    columns = [column for column in dict.fromkeys(row.column for row in every) if column != "class"]
    figures = [figure for at, column in enumerate(columns) if (figure := _figure(view, column, at, tables))]
    headings = ["figure", "model", "worst cohort", "condition", "samples", "value (interval)"]
    worst = Table("The cohort that each figure of confidence is worst in", headings, rows, 4)
    return CohortConfidence(figures, worst, _note(tables, "ece" in {row.figure for row in every}))


def _figure(view: View, column: str, at: int, tables: Tables) -> Figure | None:
    """Calibration error of each cohort, clean; beside it in the table what becomes of it where data are corrupted."""
    clean = {
        model: {row.cohort: row for row in found["clean"].rows if (row.column, row.figure) == (column, "ece")}
        for model, found in tables.items()
    }
    names = dict.fromkeys(cohort for rows in clean.values() for cohort in rows)
    most = {name: max(_known(rows[name].value) for rows in clean.values() if name in rows) for name in names}
    shown = sorted(names, key=lambda name: (-most[name], name))[:_SHOWN]
    series, table, said = [], [], []
    for model in view.models:
        rows = [(i, clean[model.name][name]) for i, name in enumerate(shown) if name in clean[model.name]]
        drawn = [(i, row) for i, row in rows if not math.isnan(row.value)]
        if drawn:
            series.append(Series(model, *zip(*((i, r.value, r.low, r.high) for i, r in drawn), strict=True)))
            said.append(f"{model.name} up to {decimal(max(row.value for _, row in drawn))}")
        for i, row in rows:
            table.append((i, [row.cohort, model.name, f"{row.n:,}", _value(row), *_beside(tables[model.name], row)]))
    if not series:
        return None
    few = f", the {len(shown)} worst of {len(names):,}" if len(names) > len(shown) else ""
    title = f"Calibration error by {column}{few}"
    headings = ["cohort", "model", "samples", "clean", "worst corruption", "label in the set, clean", "corrupted"]
    highest = max(max(s.high) for s in series)
    return Figure(
        f"cohort-confidence-{at}",
        title,
        f"Dot chart with intervals: {'; '.join(said)}.",
        dots(series, shown, "calibration error on clean data", percent=False, chance=None, most=highest),
        110 + (18 + 9 * len(series)) * len(shown),
        Table(title, headings, [row for _, row in sorted(table, key=lambda pair: pair[0])], 2),
    )


def _beside(found: dict[str, ConfidenceTable], clean: ConfidenceCell) -> list[str]:
    """Return the cohort's worst calibration error under corruption, and its coverage on clean and corrupted data."""
    here = {kind: [row for row in table.rows if row.cohort == clean.cohort] for kind, table in found.items()}
    worst = ConfidenceTable(here["operator"], {}).worst("ece")
    covered = [ConfidenceTable(here[kind], {}).worst("coverage") for kind in _KINDS]
    shifted = "" if worst is None else f"{_value(worst)}, {_condition(worst)}"
    return [shifted, *("" if one is None else percent(one.value) for one in covered)]


def _value(row: ConfidenceCell) -> str:
    form = percent if row.figure == "coverage" else decimal
    return form(row.value) if math.isnan(row.value) else f"{form(row.value)} ({form(row.low)} to {form(row.high)})"


def _condition(row: ConfidenceCell) -> str:
    return "clean" if row.kind == "clean" else f"{words(row.scenario)}, severity {row.severity:g}"


def _known(value: float) -> float:
    return math.inf if math.isnan(value) else value


def _note(tables: Tables, by_column: bool) -> str:
    small = max(sum(table.suppressed.values()) for found in tables.values() for table in found.values())
    note = "Intervals of a figure hold for all cohorts and conditions of a model and kind of data at once (95 %)."
    if by_column:
        note += " Of classes there is no calibration error: samples chosen by their label are no fair test of it."
    if small:
        note += f" Cohorts of fewer than {NAMED_COHORT} samples in some condition are not shown: {small:,}."
    return note
