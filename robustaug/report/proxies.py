"""The section on other data: how a model does on labelled samples that come from elsewhere."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from robustaug.report.differences import Differences
from robustaug.report.figures import Figure, Series, Table, accuracy_bounds, dots
from robustaug.report.pictures import PICTURES, Picture, Strip, data_uri
from robustaug.report.view import Model, View, decimal, mean_metric, percent, points_text, words


class Proxies(NamedTuple):
    """Accuracy on the test data and on each other data set, and a strip of pictures of each."""

    figure: Figure
    strips: list[Strip]


def proxies(view: View, differences: Differences) -> Proxies | None:
    """Return the section on other labelled data, or None where none was measured."""
    names = view.scenarios("data")
    if not names:
        return None
    places = [("clean", ""), *(("data", name) for name in names)]
    series, rows = [], []
    for model in view.models:
        at, found = [], []
        for i, (kind, name) in enumerate(places):
            cells = view.of(kind, model.name, name or None)
            if cells:
                at.append(i)
                found.append((mean_metric(cells, "accuracy"), *accuracy_bounds(cells)))
                rows.append((i, _row(view, model, kind, name, found[-1], differences)))
        if found:
            series.append(Series(model, at, *zip(*found, strict=True)))
    title = "Accuracy on other data"
    columns = ["data", "model", "samples", "accuracy", "95 % interval", "ECE", "label in the set"]
    columns += ["change in points (95 % interval)"] * (view.baseline is not None)
    said = "; ".join(f"{one.model.name}: {percent(min(one.y))} to {percent(max(one.y))}" for one in series)
    figure = Figure(
        "proxies",
        title,
        f"Dot chart of accuracy by data set with intervals. {said}.",
        dots(series, [_called(name) for _, name in places], "accuracy, with 95 % interval", percent=True, chance=None),
        110 + (18 + 9 * len(series)) * len(places),
        Table(title, columns, [row for _, row in sorted(rows, key=lambda row: row[0])], 2),
    )
    strips = (_strip(view, name) for name in names)
    return Proxies(figure, [strip for strip in strips if strip.pictures])


def _row(
    view: View, model: Model, kind: str, name: str, found: tuple[float, float, float], differences: Differences
) -> list[str]:
    cells = view.of(kind, model.name, name or None)
    accuracy, low, high = found
    row = [_called(name), model.name, f"{cells[0].n:,}", percent(accuracy), f"{percent(low)} to {percent(high)}"]
    row += [decimal(mean_metric(cells, "ece")), percent(mean_metric(cells, "coverage"))]
    if view.baseline is None:
        return row
    changed = differences.of(model.name, kind, name or None)
    return [*row, "" if changed is None else points_text(changed.value, changed.low, changed.high)]


def _called(name: str) -> str:
    return words(name) if name else "test data"


def _strip(view: View, name: str) -> Strip:
    for cell in view.of("data", scenario=name):
        images = view.records.examples(cell).get("after", np.empty(0))
        if len(images):
            shown = enumerate(images[:PICTURES], start=1)
            return Strip(words(name), [Picture(data_uri(im), f"example {i} of {words(name)}") for i, im in shown])
    return Strip(words(name), [])
