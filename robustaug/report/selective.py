"""In the section on confidence: what is gained by answering only where the model is sure enough."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from robustaug.evaluate.records import Cell
from robustaug.evaluate.selective import risk_curve
from robustaug.report.figures import Figure, Series, Table, curves
from robustaug.report.view import Model, View, decimal, percent

_AT = (0.5, 0.8, 0.9, 1.0)  # shares answered that the table names


class Selective(NamedTuple):
    """Risk against coverage on clean data and, where there are some, on corrupted data."""

    figures: list[Figure]


def selective(view: View) -> Selective | None:
    """Return risk-coverage curves, None where no confidence is on record."""
    kinds = (("clean", "Clean data"), ("operator", "Corrupted data, mean over operators and severities"))
    found = [_figure(view, kind, title) for kind, title in kinds]
    drawn = [figure for figure in found if figure is not None]
    return Selective(drawn) if drawn else None


def _figure(view: View, kind: str, title: str) -> Figure | None:
    series, rows, said = [], [], []
    for model in view.models:
        cells = [cell for cell in view.of(kind, model.name) if "ece" in cell.metrics]
        curve = risk_curve(view.records, cells) if cells else None
        if curve is None:
            continue
        series.append(Series(model, curve.coverage, curve.risk))
        area = _area(view, model, kind, cells)
        rows.append([model.name, *(percent(float(np.interp(at, curve.coverage, curve.risk))) for at in _AT), area])
        said.append(f"{model.name}: {percent(curve.risk[-1])} wrong when all are answered, AURC {area}")
    if not series:
        return None
    columns = ["model", *(f"wrong when {percent(at, 0)} are answered" for at in _AT), "AURC"]
    ticks = [(share, percent(share, 0)) for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
    spec = curves(series, "share answered, the surest first", ticks, "wrong among the answered")
    spec["layout"]["yaxis"] |= {"range": None, "rangemode": "tozero", "tickformat": ".2~%"}  # errors may be rare
    spec["layout"]["xaxis"] |= {"range": [0, 1.02]}
    for trace in spec["data"]:
        trace["mode"] = "lines"
    return Figure(
        f"risk-coverage-{kind}",
        title,
        f"Line chart of the share of wrong answers against the share answered. {'; '.join(said)}.",
        spec,
        320,
        Table(f"Wrong answers by share answered: {title[0].lower()}{title[1:]}", columns, rows),
    )


def _area(view: View, model: Model, kind: str, cells: Sequence[Cell]) -> str:
    from robustaug.evaluate.intervals import intervals

    name = {"clean": "aurc", "operator": "corruption_aurc"}[kind]
    found = intervals(view.records, model.name, [name], 0.95).get(name)
    if found is None:
        return decimal(np.nan)
    return f"{decimal(found.estimate)} ({decimal(found.low)} to {decimal(found.high)})"
