"""The section on cohorts: clean accuracy by class and by every metadata column, the worst first."""

from __future__ import annotations

from typing import NamedTuple

from robustaug.evaluate import summary
from robustaug.report.figures import Figure, Series, Table, dots
from robustaug.report.view import View, percent

IN_FIGURE, IN_TABLE = 16, 60  # a column may hold thousands of values: the page must not grow with them

ByModel = dict[str, dict[str, summary.CohortRow]]
"""By model, then by cohort."""


class Cohorts(NamedTuple):
    """One metadata column: its figure, and a sentence that names the worst cohort of each model."""

    sentence: str
    figure: Figure


def cohorts(view: View, skip: str = "") -> list[Cohorts]:
    """Return one entry a metadata column but for `skip`, the classes first."""
    found = {model.name: summary.cohorts(view.records, model.name) for model in view.models}
    columns = sorted(dict.fromkeys(row.column for rows in found.values() for row in rows), key=lambda c: c != "class")
    return [
        _cohorts(view, column, at, {m: {r.cohort: r for r in rows if r.column == column} for m, rows in found.items()})
        for at, column in enumerate(columns)
        if column != skip
    ]


def _cohorts(view: View, column: str, at: int, found: ByModel) -> Cohorts:
    names = dict.fromkeys(cohort for rows in found.values() for cohort in rows)
    lowest = {name: min(rows[name].accuracy for rows in found.values() if name in rows) for name in names}
    order = sorted(names, key=lambda name: (lowest[name], name))
    shown = order[:IN_FIGURE]
    series = [
        Series(model, at_rows, *zip(*((r.accuracy, r.low, r.high) for r in rows), strict=True))
        for model in view.models
        if (at_rows := [i for i, name in enumerate(shown) if name in found[model.name]])
        and (rows := [found[model.name][shown[i]] for i in at_rows])
    ]
    few = len(order) > len(shown)
    title = f"Clean accuracy by {column}" + (f", the {len(shown)} least accurate of {len(order):,}" if few else "")
    sentence = _worst(column, found)
    figure = Figure(
        f"cohorts-{at}",
        title,
        f"Dot chart with intervals. {sentence}",
        dots(series, shown, "clean accuracy, with 95 % interval", percent=True, chance=None),
        110 + (18 + 9 * len(series)) * len(shown),
        _table(view, column, order, found),
    )
    return Cohorts(sentence, figure)


def _worst(column: str, found: ByModel) -> str:
    worst = {model: next((r for r in rows.values() if r.worst), None) for model, rows in found.items()}
    said = [
        f"{f'{model}: ' if len(found) > 1 else ''}{r.cohort} at {percent(r.accuracy)} (n = {r.n:,})"
        for model, r in worst.items()
        if r is not None
    ]
    if not said:
        return f"No cohort of {column} is large enough to name a worst one."
    return f"Worst by {column}, {'; '.join(said)}." if len(found) > 1 else f"Worst by {column}: {said[0]}."


def _table(view: View, column: str, order: list[str], found: ByModel) -> Table:
    rows = []
    for name in order[:IN_TABLE]:
        for model in view.models:
            if (r := found[model.name].get(name)) is not None:
                interval = f"{percent(r.low)} to {percent(r.high)}"
                rows.append([name, model.name, f"{r.n:,}", percent(r.accuracy), interval, "worst" if r.worst else ""])
    left = len(order) - IN_TABLE
    caption = f"Clean accuracy by {column}" + (f"; {left:,} more accurate cohorts are left out" if left > 0 else "")
    return Table(caption, [column, "model", "samples", "accuracy", "95 % interval", "note"], rows, 2)
