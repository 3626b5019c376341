"""The section on training: what was validated epoch by epoch."""

from __future__ import annotations

import numpy as np

from robustaug.report.figures import Figure, Series, Table, curves
from robustaug.report.view import View, percent

_CURVES = {"val_accuracy": "Validation accuracy", "val_robust_accuracy": "Validation accuracy under attack"}


def training(view: View) -> list[Figure]:
    """Return one figure a validated quantity; none where no model was trained in this run."""
    return [figure for key, title in _CURVES.items() if (figure := _figure(view, key, title)) is not None]


def _figure(view: View, key: str, title: str) -> Figure | None:
    series, rows = [], []
    for model in view.models:
        history = (view.model_facts(model.name).get("training") or {}).get("history") or []
        points = [(float(h["epoch"]) + 1, float(h[key])) for h in history if h.get(key) is not None]
        if points:
            series.append(Series(model, *zip(*points, strict=True)))
            at, best = max(points, key=lambda point: point[1])
            rows.append([model.name, f"{points[-1][0]:.0f}", percent(points[-1][1]), percent(best), f"{at:.0f}"])
    if not series:
        return None
    last = max(max(one.x) for one in series)
    ticks = [(float(x), f"{x:.0f}") for x in np.unique(np.linspace(1, last, 6).round())]
    said = "; ".join(f"{row[0]}: {row[3]} at best" for row in rows)
    return Figure(
        key.replace("_", "-"),
        title,
        f"Line chart over epochs. {said}.",
        curves(series, "epoch", ticks, "accuracy"),
        300,
        Table(title, ["model", "epochs", "last", "best", "best at epoch"], rows),
    )
