"""The section on what changed against the previous version, from the run's changes.json."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from robustaug.report.figures import Table
from robustaug.report.foreign import score_name
from robustaug.report.view import View, budget, p_text, percent, points_text, signed, words

SIDECAR = "changes.json"
"""By model, the document that `robustaug compare --json` prints of it and its previous version."""

_CLEAR = 0.05
_FIGURES = {
    "accuracy": "accuracy",
    "worst_cohort_accuracy": "worst cohort",
    "ece": "calibration error",
    "nll": "log-loss",
    "brier": "Brier score",
}
_SHARES = ("accuracy", "worst_cohort_accuracy")


class Changed(NamedTuple):
    """How one model differs from its previous version.

    Attributes:
        model: its name.
        previous: `run:model`.
        sentence: in how many comparisons it is better, and in how many worse.
        figures: the same of each figure, with the greatest clear changes.
        every: all comparisons.
    """

    model: str
    previous: str
    sentence: str
    figures: Table
    every: Table


class _Row(NamedTuple):
    """One comparison: its texts, figure and size, and whether it is "better", "worse", or not clear, ""."""

    texts: list[str]
    figure: str
    size: float
    side: str


def changed(view: View) -> list[Changed]:
    """Return one entry a model that has a previous version; none where the run has no changes.json.

    Raises:
        ValueError: the file is damaged.
    """
    path = view.records.folder / SIDECAR
    if not path.exists():
        return []
    try:
        documents = json.loads(path.read_text(encoding="utf-8"))
        released = {model.name for model in view.candidates}  # one made to leave a domain out is no next version
        return [_changed(view, model, document) for model, document in documents.items() if model in released]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is damaged ({error}); run the experiment again to write it anew") from None


def _changed(view: View, model: str, document: Mapping[str, Any]) -> Changed:
    rows = [*_accuracies(view, document["comparisons"]), *_figures(view, document["figures"])]
    counts = [sum(row.side == side for row in rows) for side in ("better", "worse")]
    sentence = "In {} of {} comparisons {} is clearly better, in {} clearly worse."
    columns = ["condition", "figure", "previous", "now", "change (95 % interval)", "after Holm"]
    return Changed(
        model,
        str(document["a"]),
        sentence.format(counts[0], len(rows), model, counts[1]),
        Table(
            f"Clear changes of {model} by figure",
            ["figure", "greatest for the better", "greatest for the worse", "better", "worse", "not clear"],
            [_by_figure(figure, rows) for figure in dict.fromkeys(row.figure for row in rows)],
            3,
        ),
        Table(f"Every change of {model}", columns, [row.texts for row in rows], 2),
    )


def _by_figure(figure: str, rows: list[_Row]) -> list[str]:
    of = [row for row in rows if row.figure == figure]
    sides = {side: [row for row in of if row.side == side] for side in ("better", "worse", "")}
    greatest = [max(sides[side], key=lambda row: row.size, default=None) for side in ("better", "worse")]
    said = ["none" if row is None else "{0}: {2}\u00a0→\u00a0{3}".format(*row.texts) for row in greatest]
    return [of[0].texts[1], *said, *(f"{len(found):,}" for found in sides.values())]


def _accuracies(view: View, rows: list[Mapping[str, Any]]) -> Iterator[_Row]:
    for row in rows:
        change = points_text(row["difference"], row["low"], row["high"]) + " points"
        clear = row["p_holm"] < _CLEAR and row["difference"] != 0
        side = "" if not clear else "better" if row["difference"] > 0 else "worse"
        shares = percent(row["accuracy_a"]), percent(row["accuracy_b"])
        texts = [_condition(view, row), "accuracy", *shares, _marked(change, side), p_text(row["p_holm"])]
        yield _Row(texts, "accuracy", abs(row["difference"]), side)


def _figures(view: View, rows: list[Mapping[str, Any]]) -> Iterator[_Row]:
    for row in rows:
        figure, share = row["figure"], row["figure"] in _SHARES
        side = {"b": "better", "a": "worse"}.get(row["better"], "")
        if share:
            values = [percent(row["a"]), percent(row["b"])]
            change = points_text(row["difference"], row["low"], row["high"]) + " points"
        else:
            values = [f"{row['a']:.3f}", f"{row['b']:.3f}"]
            ends = (signed(row[key], 3) for key in ("difference", "low", "high"))
            change = "{} ({} to {})".format(*ends)
        name = _FIGURES.get(figure) or f"{score_name(figure.removesuffix('_auroc'))}, AUROC"
        texts = [_condition(view, row), name, *values, _marked(change, side), p_text(row["p_holm"])]
        yield _Row(texts, figure, abs(row["difference"]), side)


def _marked(change: str, side: str) -> str:
    return {"better": "▲ ", "worse": "▼ "}.get(side, "") + change


def _condition(view: View, row: Mapping[str, Any]) -> str:
    kind, severity = row["kind"], row["severity"]
    name = view.attack_name(row["scenario"]) if kind == "attack" else words(row["scenario"])
    unit = {"attack": "ε =", "certified": "radius"}.get(kind, "severity")
    return f"{name}, {unit} {budget(severity)}" if severity else name
