"""The worst cohorts under every condition, in the section on cohorts."""

from __future__ import annotations

from typing import NamedTuple

from robustaug.evaluate.cohorts import SHIFTS, CohortCell, CohortTable, cohort_table
from robustaug.evaluate.metrics import NAMED_COHORT
from robustaug.report.figures import Table
from robustaug.report.view import View, percent, within, words

_OF_EACH_KIND = 3


class Worst(NamedTuple):
    """The least accurate cohorts of each model and kind of condition, which is worst, a note on those too small."""

    sentence: str
    table: Table
    note: str


def worst(view: View) -> Worst | None:
    """Return the worst cohorts and pairs of cohorts, None where there are none to name."""
    found = {model.name: cohort_table(view.records, model.name) for model in view.candidates}
    rows = []
    for model, table in found.items():
        for kind in SHIFTS:
            of_kind = sorted((row for row in table.rows if row.kind == kind), key=lambda row: row.accuracy)
            rows += [_row(view, model, row) for row in of_kind[:_OF_EACH_KIND]]
    if not rows:
        return None
    columns = ["cohort", "model", "condition", "samples", "accuracy", "interval"]
    caption = f"The {_OF_EACH_KIND} least accurate cohorts or pairs of cohorts of each model, by kind of condition"
    sentence = " ".join(_least(view, model, table) for model, table in found.items() if table.rows)
    return Worst(sentence, Table(caption, columns, rows, 3), _note([*found.values()]))


def _least(view: View, model: str, table: CohortTable) -> str:
    cohort, _, condition, n, accuracy, _ = _row(view, model, min(table.rows, key=lambda row: row.accuracy))
    return f"{model} does worst where {cohort}, {condition}: {accuracy} of {n} samples are right."


def _row(view: View, model: str, row: CohortCell) -> list[str]:
    condition = {
        "clean": "clean",
        "operator": f"{words(row.scenario)}, severity {row.severity:g}",
        "attack": within(view.attack_name(row.scenario), row.severity),
    }[row.kind]
    interval = f"{percent(row.low)} to {percent(row.high)}"
    return [row.cohort, model, condition, f"{row.n:,}", percent(row.accuracy), interval]


def _note(tables: list[CohortTable]) -> str:
    count = max(len(table.rows) for table in tables)
    small = max(sum(table.suppressed.values()) for table in tables)
    note = f"The worst of {count:,} a model, so the intervals hold for all of them at once, with 95 % confidence."
    if small:
        note += f" Cohorts of fewer than {NAMED_COHORT} samples in some condition are not named: {small:,}."
    return note
