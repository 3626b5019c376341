"""Figures as plotly specifications, plain dicts of aggregates.

Colours are names of CSS custom properties ("--m0", "--m0@0.15" with opacity), which the page's script resolves for
the light or the dark scheme. Text that came from users is escaped, because plotly reads markup in labels.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from robustaug.evaluate.records import Cell
from robustaug.evaluate.statistics import anytime, wilson
from robustaug.report.view import Model, mean_metric, percent

Spec = dict[str, Any]
Numbers = Sequence[float] | np.ndarray
_SHORT = 22  # characters of a label beside a plot, so that a phone keeps room for the plot


class Table(NamedTuple):
    """What a reader without the figure reads; also every table of the page.

    Attributes:
        caption: says what the table shows.
        columns: headings.
        rows: texts; the first column heads its row.
        texts: how many leading columns are text; the others are set to the right.
    """

    caption: str
    columns: list[str]
    rows: list[list[str]]
    texts: int = 1


class Figure(NamedTuple):
    """One figure.

    Attributes:
        name: file-safe and unique in the page.
        title: over the figure.
        summary: what the figure shows in one sentence, for those who do not see it.
        spec: plotly's data and layout.
        height: in CSS pixels.
        table: the same numbers.
        key: what the colours stand for, as (name of a CSS custom property, words), where they are not the models'.
    """

    name: str
    title: str
    summary: str
    spec: Spec
    height: int
    table: Table
    key: Sequence[tuple[str, str]] = ()


class Series(NamedTuple):
    """One model's line or dots: y over x, with an interval where low and high are given."""

    model: Model
    x: Numbers
    y: Numbers
    low: Numbers = ()
    high: Numbers = ()


def curves(series: Sequence[Series], x_title: str, ticks: Sequence[tuple[float, str]], y_title: str) -> Spec:
    """Lines in [0, 1] with markers, and a band where there is an interval."""
    data = [_band(s) for s in series if len(s.low)] + [_line(s) for s in series]
    x_axis = {
        "title": {"text": x_title},
        "tickvals": [value for value, _ in ticks],
        "ticktext": [text for _, text in ticks],
    }
    y_axis = {"title": {"text": y_title}, "range": [-0.02, 1.03], "tickformat": ".0%"}
    return {"data": data, "layout": {"hovermode": "x unified", "xaxis": x_axis, "yaxis": y_axis}}


def quantities(
    series: Sequence[Series], x_title: str, ticks: Sequence[tuple[float, str]], y_title: str, form: str
) -> Spec:
    """Lines like `curves`, of values from 0 up that are no shares; `form` is d3's, such as ".3f"."""
    spec = curves(series, x_title, ticks, y_title)
    spec["layout"]["yaxis"] = {"title": {"text": y_title}, "rangemode": "tozero"}
    for trace in spec["data"]:
        trace["hovertemplate"] = f"%{{y:{form}}}<extra>%{{fullData.name}}</extra>"
    return spec


def ring(model: Model, x: float, y: float) -> Spec:
    """A ring around one point of a model's line."""
    return {
        "x": _numbers([x]),
        "y": _numbers([y]),
        "mode": "markers",
        "hoverinfo": "skip",
        "cliponaxis": False,
        "marker": {"symbol": "circle-open", "size": 17, "color": model.style.colour, "line": {"width": 2.5}},
    }


def stacked(
    x: Numbers,
    parts: Sequence[tuple[str, str, Numbers]],
    x_title: str,
    ticks: Sequence[tuple[float, str]],
    y_title: str,
) -> Spec:
    """Bars of shares that add up to 1; a part is (words, colour, share at each x)."""
    data = [
        {
            "type": "bar",
            "name": label(name),
            "x": _numbers(x),
            "y": _numbers(shares),
            "marker": {"color": colour, "line": {"color": "--card", "width": 1}},
            "hovertemplate": "%{y:.1%}<extra>%{fullData.name}</extra>",
        }
        for name, colour, shares in parts
    ]
    x_axis = {
        "title": {"text": x_title},
        "tickvals": [value for value, _ in ticks],
        "ticktext": [text for _, text in ticks],
    }
    y_axis = {"title": {"text": y_title}, "range": [0, 1], "tickformat": ".0%"}
    layout = {"barmode": "stack", "bargap": 0.15, "hovermode": "x unified", "xaxis": x_axis, "yaxis": y_axis}
    return {"data": data, "layout": layout}


def reliability(series: Sequence[Series], shares: Sequence[np.ndarray]) -> Spec:
    """Accuracy over mean confidence in each bin, against the diagonal; a dot's area is its bin's share of samples."""
    diagonal = {
        "x": [0, 1],
        "y": [0, 1],
        "mode": "lines",
        "hoverinfo": "skip",
        "line": {"color": "--ink-3", "width": 1.5, "dash": "dot"},
    }
    lines = []
    for one, share in zip(series, shares, strict=True):
        line = _line(one)
        line["line"]["width"] = 1  # the dots speak: one of few samples must not look like a trend
        line["marker"]["size"] = [round(4 + 18 * float(np.sqrt(s)), 2) for s in share]
        line["customdata"] = _numbers(share)
        line["hovertemplate"] = (
            "confidence %{x:.1%}, accuracy %{y:.1%}<br>%{customdata:.1%} of samples<extra>%{fullData.name}</extra>"
        )
        lines.append(line)
    axis = {"range": [-0.03, 1.05], "tickformat": ".0%", "dtick": 0.25}
    return {
        "data": [diagonal, *lines],
        "layout": {
            "hovermode": "closest",
            "xaxis": axis | {"title": {"text": "confidence"}},
            "yaxis": axis | {"title": {"text": "accuracy"}},
        },
    }


def dots(
    series: Sequence[Series],
    names: Sequence[str],
    x_title: str,
    percent: bool,
    chance: float | None,
    most: float | None = None,
) -> Spec:
    """Dots with intervals, one row a name, the first on top; `x` of a series is the row, `y` the value in [0, 1].

    Args:
        chance: where to draw a line, None for none.
        most: the greatest value drawn, where it is better near 0; the axis then runs from there to it.
    """
    form = ".1%" if percent else ".3f"
    data = []
    for at, one in enumerate(series):
        shift = 0.0 if len(series) == 1 else 0.44 * (at / (len(series) - 1) - 0.5)
        trace = _line(one) | {
            "mode": "markers",
            "x": _numbers(one.y),
            "y": _numbers([row + shift for row in one.x]),
            "customdata": [label(names[int(row)]) for row in one.x],
            "hovertemplate": f"%{{customdata}}: %{{x:{form}}}<extra>%{{fullData.name}}</extra>",
        }
        if len(one.low):
            trace["error_x"] = {
                "type": "data",
                "symmetric": False,
                "array": _numbers(np.subtract(one.high, one.y)),
                "arrayminus": _numbers(np.subtract(one.y, one.low)),
                "color": one.model.style.colour,
                "thickness": 1.5,
                "width": 0,
            }
        data.append(trace)
    lowest = min((min([*s.low, *s.y]) for s in series if len(s.y)), default=0.0)
    start = max(0.0, np.floor(lowest * 10 - 0.3) / 10)  # dots near 1 need the room that zero would take
    layout: Spec = {
        "hovermode": "closest",
        "xaxis": {
            "title": {"text": x_title},
            "range": [start, 1.02],
            "dtick": 0.05 if start >= 0.8 else 0.1 if start >= 0.4 else 0.2,
            "tickformat": ".0%" if percent else ".2f",
        },
        "yaxis": {
            "tickvals": [*range(len(names))],
            "ticktext": [label(shortened(name)) for name in names],
            "range": [len(names) - 0.5, -0.5],
        },
    }
    if most is not None:
        layout["xaxis"] |= {"range": [0, 1.04 * max(most, 0.01)], "dtick": None}
    if chance is not None and chance >= start:
        line = {"color": "--ink-3", "width": 1.5, "dash": "dot"}
        place = {"x0": chance, "x1": chance, "yref": "paper", "y0": 0, "y1": 1}
        layout["shapes"] = [{"type": "line", "line": line} | place]
    return {"data": data, "layout": layout}


def accuracy_series(model: Model, points: Sequence[tuple[float, Sequence[Cell]]]) -> Series:
    """Return the mean accuracy of the cells at each x, with its interval."""
    y = [mean_metric(cells, "accuracy") for _, cells in points]
    bounds = [accuracy_bounds(cells) for _, cells in points]
    return Series(model, [x for x, _ in points], y, [low for low, _ in bounds], [high for _, high in bounds])


def accuracy_bounds(cells: Sequence[Cell]) -> tuple[float, float]:
    """Return the 95 % interval of the mean accuracy; several seeds count once, since they measured the same samples.

    It is Wilson's or, where the attack itself decided when to stop, one that holds whenever it does.
    """
    accuracy, n = mean_metric(cells, "accuracy"), min(cell.n for cell in cells)
    if n < 1 or not np.isfinite(accuracy):
        return float("nan"), float("nan")
    interval = anytime if any("asked" in cell.metrics for cell in cells) else wilson
    found = interval(round(accuracy * n), n)
    return found.low, found.high


def ends(series: Sequence[Series], where: str) -> str:
    """Say in words where each line begins and ends."""
    return "; ".join(f"{s.model.name}: {percent(s.y[0])} at first, {percent(s.y[-1])} {where}" for s in series) + "."


def label(text: str) -> str:
    """Return text that plotly shows as it is: its labels read <b>, <a> and entities."""
    return html.escape(text, quote=False)


def shortened(text: str, limit: int = _SHORT) -> str:
    """Return text of at most `limit` characters, with an ellipsis where it was cut."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _line(one: Series) -> Spec:
    style = one.model.style
    trace: Spec = {
        "name": label(shortened(one.model.name, 40)),
        "x": _numbers(one.x),
        "y": _numbers(one.y),
        "mode": "lines+markers",
        "line": {"color": style.colour, "width": 2.5, "dash": _dash(style.dash)},
        "marker": {"color": style.colour, "symbol": style.symbol, "size": 8, "opacity": 1},
        "hovertemplate": "%{y:.1%}<extra>%{fullData.name}</extra>",
    }
    if len(one.low):
        trace["customdata"] = [[*pair] for pair in zip(_numbers(one.low), _numbers(one.high), strict=True)]
        trace["hovertemplate"] = (
            "%{y:.1%} (%{customdata[0]:.1%} to %{customdata[1]:.1%})<extra>%{fullData.name}</extra>"
        )
    return trace


def _band(one: Series) -> Spec:
    return {
        "x": _numbers([*one.x, *reversed(one.x)]),
        "y": _numbers([*one.high, *reversed(one.low)]),
        "mode": "lines",
        "line": {"width": 0},
        "fill": "toself",
        "fillcolor": f"{one.model.style.colour}@0.14",
        "hoverinfo": "skip",
    }


def _dash(lengths: str) -> str:
    return "solid" if lengths == "none" else ",".join(f"{n}px" for n in lengths.split(","))


def _numbers(values: Numbers) -> list[float | None]:
    """Floats that JSON can hold: six digits, null for NaN."""
    return [round(float(v), 6) if np.isfinite(v) else None for v in values]
