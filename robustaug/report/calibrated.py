"""The section on confidence: reliability before and after temperature scaling, and sets of classes under shift."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from robustaug.evaluate.records import Cell
from robustaug.report.figures import Figure, Series, Table, reliability
from robustaug.report.view import Model, View, decimal, mean_metric, percent
from robustaug.trust import calibration

_KEYS = ("ece", "classwise_ece", "nll", "brier")


class Calibration(NamedTuple):
    """Reliability diagrams as trained and, where a temperature was fitted, after scaling; and the figures.

    Attributes:
        sets: what sets of classes cover, on clean data and by severity; None where none were fitted.
    """

    figures: list[Figure]
    table: Table
    sets: Table | None


def calibrated(view: View) -> Calibration | None:
    """Return the section on confidence, or None where no clean cell was measured."""
    cells = [(model, cell) for model in view.models if (cell := view.clean(model.name)) is not None]
    if not cells:
        return None
    scaled = [(model, cell) for model, cell in cells if np.isfinite(cell.metrics.get("temperature", np.nan))]
    figures = [_figure(view, cells, False), _figure(view, scaled, True)] if scaled else [_figure(view, cells, False)]
    rows = []
    for model, cell in cells:
        metrics = cell.metrics
        rows.append([model.name, "as trained", "1", *(decimal(metrics.get(key, np.nan)) for key in _KEYS)])
        if (model, cell) in scaled:
            figures_of = (decimal(metrics.get(f"{key}_scaled", np.nan)) for key in _KEYS)
            rows.append([model.name, "scaled", decimal(metrics["temperature"], 2), *figures_of])
    columns = ["model", "confidence", "temperature", "ECE", "classwise ECE", "NLL", "Brier score"]
    return Calibration(figures, Table("Calibration on clean data; lower is better", columns, rows, 2), _sets(view))


def _sets(view: View) -> Table | None:
    rows = []
    for model in view.models:
        shifted = view.of("operator", model.name)
        severities = sorted({cell.severity for cell in shifted})
        groups = [("clean", view.of("clean", model.name))]
        groups += [(f"severity {s:g}, all corruptions", [c for c in shifted if c.severity == s]) for s in severities]
        for words, cells in groups:
            coverage, size = mean_metric(cells, "coverage"), mean_metric(cells, "set_size")
            if np.isfinite(coverage):
                rows.append([model.name, words, percent(coverage), decimal(size, 2)])
    alpha = view.suite_setting("alpha")
    promise = f", which promise {percent(1 - alpha, 0)} on clean data" if isinstance(alpha, float) else ""
    columns = ["model", "data", "label in the set", "classes in it"]
    return Table(f"Sets of classes{promise} and nothing under shift", columns, rows, 2) if rows else None


def _figure(view: View, cells: list[tuple[Model, Cell]], scaled: bool) -> Figure:
    series, shares, rows, said = [], [], [], []
    for model, cell in cells:
        confidence, correct = _confidence(view, cell, scaled)
        if not len(confidence):
            continue
        found = calibration.reliability(confidence, correct)
        filled = np.flatnonzero(found.count)
        series.append(Series(model, found.confidence[filled], found.accuracy[filled]))
        shares.append(found.count[filled] / found.count.sum())
        error = decimal(cell.metrics.get("ece_scaled" if scaled else "ece", np.nan))
        said.append(f"{model.name}: calibration error {error}")
        for i in filled:
            edges = f"{percent(found.edges[i], 0)} to {percent(found.edges[i + 1], 0)}"
            means = percent(found.confidence[i]), percent(found.accuracy[i])
            rows.append([model.name, edges, f"{found.count[i]:,}", *means])
    title = "After temperature scaling" if scaled else "As trained"
    columns = ["model", "confidence bin", "samples", "mean confidence", "accuracy"]
    return Figure(
        "reliability-scaled" if scaled else "reliability",
        title,
        f"Reliability diagram: accuracy against confidence. {'; '.join(said)}.",
        reliability(series, shares),
        360,
        Table(f"Reliability, {title.lower()}", columns, rows, 2),
    )


def _confidence(view: View, cell: Cell, scaled: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return confidence in the predicted class and whether it was right, (n,) each, without what is not finite."""
    if scaled:
        samples = view.records.samples(cell, ["logits", "correct"])
        logits = samples["logits"] / np.float32(cell.metrics["temperature"])
        # softmax of the largest logit; float32 keeps a thousand classes in memory
        confidence = 1 / np.exp(logits - logits.max(axis=1, keepdims=True)).sum(axis=1, dtype=np.float64)
    else:
        samples = view.records.samples(cell, ["confidence", "correct"])
        confidence = samples["confidence"].astype(np.float64)
    known = np.isfinite(confidence)
    return confidence[known].clip(0, 1), samples["correct"][known]
