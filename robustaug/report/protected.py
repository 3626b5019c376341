"""Predictions between the groups of protected columns, in the section on cohorts: rates, gaps and their intervals."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from robustaug.evaluate import protected
from robustaug.evaluate.metrics import NAMED_COHORT
from robustaug.evaluate.protected import Compared
from robustaug.report.figures import Table
from robustaug.report.view import View, decimal, percent
from robustaug.trust.fairness import COMPARED, FOUR_FIFTHS, rates

_CONFIDENCE = 0.95


class Protected(NamedTuple):
    """One protected column: what counts as a selection, the rates of its groups, and the gaps between them."""

    sentence: str
    rates: Table
    gaps: Table


def protected_columns(view: View) -> list[Protected]:
    """Return one entry a protected column, none where none was asked for."""
    by_column: dict[str, dict[str, Compared]] = {}
    for model in view.models:
        for one in protected.compared(view.records, model.name):
            by_column.setdefault(one.column, {})[model.name] = one
    known = {model.name: protected.intervals(view.records, model.name, _CONFIDENCE) for model in view.models}
    out = []
    for column, found in by_column.items():
        first = next(iter(found.values()))
        left_out = f" Groups of fewer than {NAMED_COHORT} samples are left out: {first.suppressed}."
        sentence = (
            f"Predictions by {column}: a sample is selected where the model says {view.class_name(first.positive)}."
            + left_out * bool(first.suppressed)
        )
        gaps = [row for model, one in found.items() for row in _gaps(model, one, known[model])]
        gap_columns = ["model", "figure", "value", "95 % interval", "note"]
        out.append(
            Protected(
                sentence,
                Table(f"Rates by {column}, on clean data", _RATES, _rates(column, found), 2),
                Table(
                    f"Gaps between the groups of {column}; all groups alike: 0, or a ratio of 1", gap_columns, gaps, 2
                ),
            )
        )
    return out


_RATES = ["model", "group", "samples", "selected", "of the positive", "of the negative"]


def _rates(column: str, found: dict[str, Compared]) -> list[list[str]]:
    out = []
    for model, one in found.items():
        table = rates(one.table.counts)
        for at, group in enumerate(one.table.groups):
            shares = (percent(float(rate[at])) for rate in table)
            out.append([model, f"{column} = {group}", f"{int(one.table.counts[at].sum()):,}", *shares])
    return out


def _gaps(model: str, one: Compared, known: dict[str, protected.Interval]) -> list[list[str]]:
    out = []
    for figure in COMPARED:
        value, interval = one.figures[figure], known.get(f"{one.column}_{figure}")
        within = "" if interval is None else f"{decimal(interval.low)} to {decimal(interval.high)}"
        note = one.reasons.get(figure, "")
        if figure == "disparate_impact" and np.isfinite(value) and value < FOUR_FIFTHS:
            note = "below four fifths"
        out.append([model, figure.replace("_", " "), decimal(value), within, note])
    return out
