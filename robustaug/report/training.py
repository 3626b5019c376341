"""The section on training: what each epoch came to, which one was kept, where the time went, and what went wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from robustaug.report.figures import Figure, Series, Table, curves, quantities, ring, stacked
from robustaug.report.view import Model, View, percent
from robustaug.train.figures import step_shares
from robustaug.train.validation import OVERFITTING

Figures = Mapping[str, float]
_ACCURACIES = {
    "val_accuracy": "Validation accuracy",
    "val_robust_accuracy": "Validation accuracy under attack",
    "val_single_step_accuracy": "Validation accuracy under one step",
    "val_worst_group_accuracy": "Validation accuracy of the worst group",
}
_PARTS = {
    "data": ("reading", "--m5"),
    "augment": ("augmentation", "--m4"),
    "attack": ("attack", "--m6"),
    "update": ("update", "--m7"),
    "rest": ("validation and storing", "--ink-3"),
}
_CROWDED = 40  # points of a line, above which markers run together


class Ended(NamedTuple):
    """Training that ended before its time: whose, whether by the alarm, and the trainer's words."""

    model: Model
    alarm: bool
    words: str


class Trained(NamedTuple):
    """What run.json says of a model's training: figures by epoch, of the start, of the epoch kept, and why it ended."""

    model: Model
    history: list[Figures]
    start: Figures
    best: Figures
    stopped: str

    @property
    def kept(self) -> float:
        """Epochs done when the weights were what was kept; 0 for the start's."""
        return float(self.best.get("epoch", -1)) + 1

    def points(self, key: str) -> list[tuple[float, float]]:
        """Return (epochs done, figure), from the start where it was judged."""
        found = [(float(one["epoch"]) + 1, float(one[key])) for one in self.history if one.get(key) is not None]
        return [(0.0, float(self.start[key])), *found] if self.start.get(key) is not None else found


class Section(NamedTuple):
    """What the template shows.

    Attributes:
        models: those that were trained.
        ended: training that ended early.
        table: a line a model: before and after.
        figures: curves of all models, and how each one's time was spent.
        started: whether some training began at a checkpoint that was judged.
    """

    models: list[Model]
    ended: list[Ended]
    table: Table
    figures: list[Figure]
    started: bool


def training(view: View) -> Section | None:
    """Return the section; None where no model was trained in this run."""
    found = [one for model in view.models if (one := _trained(view, model)) is not None]
    if not found:
        return None
    ended = [Ended(one.model, one.stopped.startswith(OVERFITTING), one.stopped) for one in found if one.stopped]
    shown = [_line(found, key, title) for key, title in _ACCURACIES.items()]
    shown += [_line(found, "loss", "Training loss", ".4f"), _line(found, "lr", "Learning rate", ".3g")]
    figures = [figure for figure in shown if figure is not None]
    figures += [figure for number, one in enumerate(found) if (figure := _times(one, number)) is not None]
    return Section([one.model for one in found], ended, _table(found), figures, any(one.start for one in found))


def _trained(view: View, model: Model) -> Trained | None:
    facts = view.model_facts(model.name).get("training") or {}
    history = facts.get("history") or []
    if not history:
        return None
    return Trained(model, history, facts.get("start") or {}, facts.get("best") or {}, str(facts.get("stopped") or ""))


def _table(found: Sequence[Trained]) -> Table:
    """Before and after: what the epoch that was kept came to, and what training began at."""
    columns = ["model", "epochs", "kept epoch", "clean", "under attack", "augmentation's share of step time"]
    rows = []
    for one in found:
        kept = ("start" if not one.kept else f"{one.kept:.0f}") if one.best else ""
        kept = f"{one.best['snapshots']:.0f} snapshots" if "snapshots" in one.best else kept
        shares = step_shares(one.history)
        augment = percent(shares.get("augment", 0.0)) if shares else "n/a"
        accuracies = [_change(one, key) for key in ("val_accuracy", "val_robust_accuracy")]
        rows.append([one.model.name, f"{len(one.history)}", kept, *accuracies, augment])
    return Table("What training came to, on its validation data", columns, rows)


def _change(one: Trained, key: str) -> str:
    after = percent(float(one.best.get(key, np.nan)))
    return f"{percent(float(one.start[key]))} → {after}" if key in one.start else after


def _line(found: Sequence[Trained], key: str, title: str, form: str = "") -> Figure | None:
    """Curves of one figure, of accuracies or, where `form` (d3's and Python's) is given, of any size."""
    lines = [(one, points) for one in found if (points := one.points(key))]
    if not lines:
        return None
    series = [Series(one.model, *zip(*points, strict=True)) for one, points in lines]
    ticks = _ticks([x for one in series for x in one.x])
    spec = (
        quantities(series, "epochs", ticks, title.lower(), form)
        if form
        else curves(series, "epochs", ticks, "accuracy")
    )
    for trace in spec["data"]:
        if len(trace["x"]) > _CROWDED:
            trace["mode"] = "lines"
    rung = [one for one, _ in lines if key in one.best and "snapshots" not in one.best]  # an ensemble is of no epoch
    spec["data"] += [ring(one.model, one.kept, float(one.best[key])) for one in rung]

    def text(value: float) -> str:
        return format(value, form) if form else percent(value)

    rows = [
        [
            one.model.name,
            f"{points[-1][0]:.0f}",
            text(points[0][1]),
            text(points[-1][1]),
            text(one.best.get(key, np.nan)),
        ]
        for one, points in lines
    ]
    said = "; ".join(f"{row[0]}: {row[2]} at first, {row[3]} at last" for row in rows)
    table = Table(title, ["model", "epochs", "first", "last", "kept"], rows)
    return Figure(key.replace("_", "-"), title, f"Line chart over epochs. {said}.", spec, 300, table)


def _times(one: Trained, number: int) -> Figure | None:
    """Where each epoch's time went, as shares of it."""
    whole = np.array([float(h.get("seconds") or np.nan) for h in one.history])
    spent = {p: np.array([float(h.get(f"seconds_{p}") or 0.0) for h in one.history]) for p in _PARTS if p != "rest"}
    steps = np.sum([*spent.values()], axis=0)
    if not np.isfinite(whole).all() or not steps.any():
        return None
    total = np.maximum(whole, steps)
    taken = {part: seconds for part, seconds in (spent | {"rest": total - steps}).items() if seconds.any()}
    epochs = [float(h["epoch"]) + 1 for h in one.history]
    parts = [(*_PARTS[part], seconds / total) for part, seconds in taken.items()]
    rows = [
        [words, f"{seconds.sum():,.1f} s", percent(float(seconds.sum() / total.sum()))]
        for part, seconds in taken.items()
        for words in [_PARTS[part][0]]
    ]
    title = f"Where the time went: {one.model.name}"
    said = "; ".join(f"{row[0]}: {row[2]}" for row in rows)
    return Figure(
        f"training-times-{number}",
        title,
        f"Stacked bars over epochs. In all, {said}.",
        stacked(epochs, parts, "epochs", _ticks(epochs), "share of the epoch"),
        300,
        Table(title, ["part", "in all", "share"], rows),
        [(colour, words) for words, colour, _ in parts],
    )


def _ticks(epochs: Sequence[float]) -> list[tuple[float, str]]:
    """Return whole numbers at even distances, seven at most."""
    first, last = int(min(epochs)), int(max(epochs))
    distance = next(d for power in range(9) for d in (10**power, 2 * 10**power, 5 * 10**power) if last - first < 7 * d)
    return [(float(at), str(at)) for at in range(first + -first % distance, last + 1, distance)]
