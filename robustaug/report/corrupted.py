"""The section on corruptions: accuracy over severities, and what each operator did to a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from robustaug.evaluate.records import Cell
from robustaug.report.differences import Differences
from robustaug.report.figures import Figure, Series, Table, curves, ends
from robustaug.report.pictures import PICTURES, Picture, data_uri
from robustaug.report.view import Model, Style, View, mean_metric, percent, points_text, words


class Line(NamedTuple):
    """One model in a small panel: SVG coordinates of its markers, and its last value as text."""

    model: str
    style: Style
    points: list[tuple[float, float]]
    last: str


class Panel(NamedTuple):
    """One corruption: the accuracy of each model over severities, drawn small, and one picture at each severity."""

    name: str
    summary: str
    last_severity: str
    lines: list[Line]
    pictures: list[Picture]


class Corruptions(NamedTuple):
    """The mean curve, one panel a corruption (hardest first) and the whole table."""

    figure: Figure
    panels: list[Panel]
    table: Table


def corruptions(view: View, differences: Differences) -> Corruptions | None:
    """Return the section on operators, or None where none was measured."""
    names = view.scenarios("operator")
    if not names:
        return None
    severities = sorted({cell.severity for cell in view.of("operator")})
    hardest = sorted(names, key=lambda name: (-_lost(view, name), name))
    panels = [_panel(view, name, severities) for name in hardest]
    return Corruptions(_mean_figure(view, severities), panels, _table(view, hardest, severities, differences))


def _mean_figure(view: View, severities: Sequence[float]) -> Figure:
    count = len(view.scenarios("operator"))
    title = f"Mean accuracy over {count} corruptions" if count > 1 else "Accuracy under one corruption"
    ticks = [(0.0, "clean"), *((s, f"{s:g}") for s in severities)]
    graded = {model: _graded(view, model, None) for model in view.models}
    series = [Series(model, [*points], [*points.values()]) for model, points in graded.items() if points]
    rows = [[m.name, *(percent(points.get(x, np.nan)) for x, _ in ticks)] for m, points in graded.items() if points]
    return Figure(
        "corruptions",
        title,
        f"Line chart of mean accuracy against severity. {ends(series, f'at severity {severities[-1]:g}')}",
        curves(series, "severity", ticks, "accuracy"),
        340,
        Table(title, ["model", *(text for _, text in ticks)], rows),
    )


def _graded(view: View, model: Model, name: str | None) -> dict[float, float]:
    """Return accuracy by severity, clean as 0, of one operator or the mean over all; {} where nothing was measured."""
    cells = view.of("operator", model.name, name)
    clean = view.clean(model.name)
    points = {} if clean is None or not cells else {0.0: clean.metrics.get("accuracy", np.nan)}
    for severity in sorted({cell.severity for cell in cells}):
        points[severity] = mean_metric([c for c in cells if c.severity == severity], "accuracy")
    return points


def _lost(view: View, name: str) -> float:
    """Mean error under one operator; 0 where it is not known."""
    return float(np.nan_to_num(1 - mean_metric(view.of("operator", scenario=name), "accuracy")))


def _panel(view: View, name: str, severities: Sequence[float]) -> Panel:
    lines, said = [], []
    for model in view.models:
        graded = _graded(view, model, name)
        # 8 to 152 across, 100 % at 6 and 0 % at 74: markers keep clear of the edges of a panel of 160 by 80
        points = [
            (round(8 + 144 * x / max(severities[-1], 1), 2), round(74 - 68 * y, 2))
            for x, y in graded.items()
            if np.isfinite(y)
        ]
        if points:
            values = [percent(y) for y in graded.values()]
            lines.append(Line(model.name, model.style, points, values[-1]))
            said.append(f"{model.name} from {values[0]} to {values[-1]}")
    cells = [c for c in view.of("operator", scenario=name) if c.model == view.models[0].name]
    summary = f"Accuracy under {words(name)}: {'; '.join(said)}"
    return Panel(words(name), summary, f"{severities[-1]:g}", lines, _pictures(view, cells))


def _pictures(view: View, cells: list[Cell]) -> list[Picture]:
    """The first sample as it was, then at each severity of the first seed."""
    pictures: list[Picture] = []
    first_seed = [cell for cell in cells if cell.seed == min(c.seed for c in cells)]
    for cell in sorted(first_seed, key=lambda c: c.severity):
        examples = view.records.examples(cell)
        if not {"before", "after"} <= {*examples} or not len(examples["after"]):
            continue
        if not pictures:
            pictures.append(Picture(data_uri(examples["before"][0]), "the original", "clean"))
        alt = f"{words(cell.scenario)} at severity {cell.severity:g}"
        pictures.append(Picture(data_uri(examples["after"][0]), alt, f"{cell.severity:g}"))
    return pictures[:PICTURES]


def _table(view: View, names: list[str], severities: list[float], differences: Differences) -> Table:
    rows = []
    for name in names:
        for model in view.models:
            graded = _graded(view, model, name)
            values = np.array([graded.get(s, np.nan) for s in severities])
            if not np.isfinite(values).any():
                continue
            found = differences.of(model.name, "operator", name)
            changed = "" if found is None else points_text(found.value, found.low, found.high)
            mean = percent(float(np.nanmean(values)))
            rows.append([words(name), model.name, *(percent(float(v)) for v in values), mean, changed])
    columns = ["corruption", "model", *(f"severity {s:g}" for s in severities), "mean"]
    if view.baseline is None:
        return Table("Accuracy by corruption and severity", columns, [row[:-1] for row in rows], 2)
    return Table("Accuracy by corruption and severity", [*columns, "change in points (95 % interval)"], rows, 2)
