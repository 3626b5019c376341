"""The section on foreign data: how well each score tells it apart, and what it looks like."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from robustaug.report.figures import Figure, Series, Table, dots
from robustaug.report.pictures import PICTURES, Picture, Strip, data_uri
from robustaug.report.spectrum import NearFar, near_far
from robustaug.report.view import View, decimal, mean_metric, percent, words

_PUBLISHED = {
    **{name: name.upper() for name in ("msp", "gen", "odin", "ash", "she")},
    "knn": "kNN",
    "vim": "ViM",
    "react": "ReAct",
    "grad_norm": "GradNorm",
    "mahalanobis": "Mahalanobis",
    "relative_mahalanobis": "relative Mahalanobis",
}
"""Scores whose names are spelled in a way of their own."""


class Foreign(NamedTuple):
    """AUROC by source and score, and by role where sources have one; a strip of pictures a source."""

    figure: Figure
    strips: list[Strip]
    near_far: NearFar | None


def foreign(view: View) -> Foreign | None:
    """Return the section on out-of-distribution data, or None where there was none."""
    keys = {key for cell in view.of("ood") for key in cell.metrics if key.endswith("_auroc")}
    pairs = [(source, key.removesuffix("_auroc")) for source in view.scenarios("ood") for key in sorted(keys)]
    if not pairs:
        return None
    series, rows = [], []
    for model in view.models:
        at, values = [], []
        for i, (source, score) in enumerate(pairs):
            cells = view.of("ood", model.name, source)
            auroc, fpr = (mean_metric(cells, f"{score}_{figure}") for figure in ("auroc", "fpr95"))
            if np.isfinite(auroc):
                at.append(i)
                values.append(auroc)
                names = words(source), score_name(score), model.name
                rows.append((i, [*names, f"{cells[0].n:,}", decimal(auroc), percent(fpr)]))
        series.append(Series(model, at, values))
    said = "; ".join(f"{s.model.name}: {min(s.y):.2f} to {max(s.y):.2f}" for s in series if len(s.y))
    title = "Foreign data told apart from the test data"
    columns = ["foreign data", "score", "model", "samples", "AUROC", "false positives at 95 % true"]
    figure = Figure(
        "foreign",
        title,
        f"Dot chart of AUROC by source and score. {said}.",
        dots(series, [f"{words(s)}, {score_name(k)}" for s, k in pairs], "AUROC", percent=False, chance=0.5),
        130 + (18 + 9 * len(series)) * len(pairs),
        Table(title, columns, [row for _, row in sorted(rows, key=lambda r: r[0])], 3),
    )
    strips = (_strip(view, source) for source in view.scenarios("ood"))
    return Foreign(figure, [strip for strip in strips if strip.pictures], near_far(view, _PUBLISHED))


def _strip(view: View, source: str) -> Strip:
    for cell in view.of("ood", scenario=source):
        images = view.records.examples(cell).get("after", ())
        if len(images):
            shown = enumerate(images[:PICTURES], start=1)
            return Strip(words(source), [Picture(data_uri(im), f"example {i} of {words(source)}") for i, im in shown])
    return Strip(words(source), [])


def score_name(score: str) -> str:
    """Return what a reader calls a score, such as "kNN"."""
    return _PUBLISHED.get(score, words(score))
