"""The section on shift in depth: errors held against a baseline, the line of reference models, sequences and cues."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
from scipy.special import logit

from robustaug.evaluate import effective, shift
from robustaug.evaluate.asked import Asked, asked_of
from robustaug.evaluate.references import CLEAN, Reference
from robustaug.evaluate.statistics import Interval
from robustaug.report.figures import Figure, Series, Spec, Table, dots, label, shortened
from robustaug.report.pictures import PICTURES, Picture, Strip, data_uri
from robustaug.report.view import View, decimal, percent, points_text, words

_CONFIDENCE = 0.95
_TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
_LISTED = 60  # reference models in the table: the page must not grow with them


class Shift(NamedTuple):
    """What the section shows; what was not measured is None or empty.

    Attributes:
        overall: figures of each model over all corruptions.
        note: what the errors of it are relative to.
        line: accuracy under shift over clean accuracy, with the line of the reference models.
        line_note: what the line says, or why there is none; empty where it was not asked for.
        sequences: flip probability by sequence.
        cues: what each cue costs each model.
        strips: the first and last frames of sequences, and samples without and with cues.
    """

    overall: Table | None
    note: str
    line: Figure | None
    line_note: str
    sequences: Figure | None
    cues: Table | None
    strips: list[Strip]


Known = dict[str, tuple[dict[str, float], shift.Intervals]]
"""By model: its figures, and their intervals."""


def shifted(view: View) -> Shift | None:
    """Return the section, None where nothing of it was measured."""
    known: Known = {
        model.name: (
            shift.figures(view.records, model.name),
            shift.Intervals(view.records, model.name, _CONFIDENCE),
        )
        for model in view.models
    }
    if not any(figures for figures, _ in known.values()):
        return None
    asked = asked_of(view.records)
    line, line_note = _line(view, asked, known) if asked.effective else (None, "")
    overall = _overall(view, known)
    note = _note(asked) if overall else ""
    if any(np.isnan(figures.get("relative_mce", 0.0)) for figures, _ in known.values()):
        note += " There is no relative mCE (n/a) where the baseline loses no accuracy to some corruption."
    return Shift(overall, note, line, line_note, _sequences(view, known), _cues(view, asked, known), _strips(view))


def _overall(view: View, known: Known) -> Table | None:
    columns = {
        "consistency": ("predictions kept", percent),
        "severity_area": ("area under severity", decimal),
        "mce": ("mCE", decimal),
        "relative_mce": ("relative mCE", decimal),
    }
    there = [name for name in columns if any(name in figures for figures, _ in known.values())]
    if not there:
        return None
    rows = [[m.name, *(_within(known, m.name, name, columns[name][1]) for name in there)] for m in view.models]
    headings = ["model", *(columns[name][0] for name in there)]
    return Table("Over all corruptions (95 % interval)", headings, rows)


def _within(known: Known, model: str, name: str, form: Callable[[float], str]) -> str:
    figures, intervals = known[model]
    if name not in figures:
        return "baseline" if len(known) > 1 and name.endswith(("mce", "_fr")) else ""  # the one that has no such figure
    found = intervals.of(name)
    return form(figures[name]) + (f" ({_end(found.low, form)} to {_end(found.high, form)})" if found else "")


def _end(value: float, form: Callable[[float], str]) -> str:
    return form(value) if np.isfinite(value) else "∞" if value > 0 else "−∞"


def _note(asked: Asked) -> str:
    kept = "Predictions kept: the share that is the same as on clean data, right or wrong."
    area = "Area: mean accuracy from clean data to the greatest severity, ends counted half."
    if asked.errors_against == "alexnet":
        return (
            f"{kept} {area} mCE is relative to AlexNet's published errors; relative mCE takes off clean errors first."
        )
    if asked.baseline is None:
        return f"{kept} {area}"
    mce = f"mCE: errors divided by those of {asked.baseline}, the mean over corruptions; below 1 is better."
    return f"{kept} {area} {mce} Relative mCE takes off clean errors first. Neither is the published benchmark's."


def _line(view: View, asked: Asked, known: Known) -> tuple[Figure | None, str]:
    every = effective.references(view.records, None)
    fit = effective.fit_of(every, effective.SHIFTED)
    usable = [one for one in every if {CLEAN, effective.SHIFTED} <= {*one.figures}]
    own = {
        model.name: found
        for model in view.models
        if {CLEAN, effective.SHIFTED} <= {*(found := effective.accuracies(view.records, model.name))}
    }
    if fit is None or not own:
        fewest = effective.FEWEST
        return None, (
            f"Effective robustness was asked for, but a line needs at least {fewest} reference models of different "
            f"accuracy, none of them 0 or 1; there are {len(usable)}."
        )
    title = "Accuracy under corruption over clean accuracy"
    said = [
        f"{model}: {points_text(figures['effective_robustness'], *_ends(intervals.of('effective_robustness')))} points"
        for model, (figures, intervals) in known.items()
        if np.isfinite(figures.get("effective_robustness", np.nan))
    ]
    note = f"Above the line by (95 % interval) {'; '.join(said)}." if said else ""
    missing = [model for model in known if not np.isfinite(known[model][0].get("effective_robustness", np.nan))]
    note += f" Too few other models for {', '.join(missing)}." * bool(missing)
    if asked.run_models:
        note += " The line drawn is of all; each model is held against the line of the others."
    note += f" {fit.n} models, R² = {decimal(fit.r2, 2)}."
    figure = Figure(
        "effective",
        title,
        f"Scatter chart with the fitted line. {note.strip()}",
        _scatter(view, asked.references, own, fit),
        380,
        _reference_table(title, asked.references, own, known),
        [("--ink-3", "reference models and their line")] if asked.references else [("--ink-3", "their line")],
    )
    return figure, note.strip()


def _ends(found: Interval | None) -> tuple[float, float]:
    return (np.nan, np.nan) if found is None else (found.low, found.high)


def _scatter(view: View, table: tuple[Reference, ...], own: dict[str, dict[str, float]], fit: effective.Fit) -> Spec:
    """Points on axes stretched as the fit is, where it is a straight line."""
    listed = [(one.name, one.figures[CLEAN], one.figures[effective.SHIFTED]) for one in table if _placed(one.figures)]
    places = [*(x for _, x, _ in listed), *(figures[CLEAN] for figures in own.values() if _placed(figures))]
    ends = np.linspace(logit(min(places)), logit(max(places)), 2)
    shown = {"x": ends.tolist(), "y": (fit.intercept + fit.slope * ends).tolist(), "mode": "lines"}
    data: list[Spec] = [shown | {"hoverinfo": "skip", "line": {"color": "--ink-3", "width": 1.5, "dash": "dot"}}]
    if listed:
        data.append(_points("reference", listed, "--ink-3", "circle-open"))
    for model in view.models:
        figures = own.get(model.name, {})
        if _placed(figures):
            point = (model.name, figures[CLEAN], figures[effective.SHIFTED])
            data.append(_points(model.name, [point], model.style.colour, model.style.symbol))
    axis = {"tickvals": [round(float(logit(t)), 6) for t in _TICKS], "ticktext": [f"{100 * t:g} %" for t in _TICKS]}
    layout = {
        "hovermode": "closest",
        "xaxis": axis | {"title": {"text": "clean accuracy"}},
        "yaxis": axis | {"title": {"text": "accuracy under corruption"}},
    }
    return {"data": data, "layout": layout}


def _placed(figures: dict[str, float]) -> bool:
    return all(0 < figures.get(key, 0.0) < 1 for key in (CLEAN, effective.SHIFTED))


def _points(name: str, points: list[tuple[str, float, float]], colour: str, symbol: str) -> Spec:
    return {
        "name": label(shortened(name, 40)),
        "mode": "markers",
        "x": [round(float(logit(x)), 6) for _, x, _ in points],
        "y": [round(float(logit(y)), 6) for _, _, y in points],
        "customdata": [[label(shortened(text, 40)), x, y] for text, x, y in points],
        "marker": {"color": colour, "symbol": symbol, "size": 9},
        "hovertemplate": "%{customdata[0]}: %{customdata[1]:.1%} clean, %{customdata[2]:.1%} shifted<extra></extra>",
    }


def _reference_table(title: str, table: tuple[Reference, ...], own: dict[str, dict[str, float]], known: Known) -> Table:
    rows = []
    for name, figures in own.items():
        above = known[name][0].get("effective_robustness", np.nan)
        text = points_text(above, *_ends(known[name][1].of("effective_robustness"))) if np.isfinite(above) else ""
        rows.append([name, percent(figures[CLEAN]), percent(figures[effective.SHIFTED]), text])
    there = [one for one in table if effective.SHIFTED in one.figures]
    for one in there[:_LISTED]:
        rows.append([one.name, percent(one.figures[CLEAN]), percent(one.figures[effective.SHIFTED]), "reference"])
    left = len(there) - _LISTED
    caption = title + (f"; {left:,} more reference models are left out" if left > 0 else "")
    return Table(caption, ["model", "clean", "under corruption", "points above the line (95 % interval)"], rows)


def _sequences(view: View, known: Known) -> Figure | None:
    names = view.scenarios("sequence")
    if not names:
        return None
    series, rows, greatest = [], [], 0.0
    for model in view.models:
        intervals = known[model.name][1]
        found = [(at, intervals.of(f"{name}_flip_probability")) for at, name in enumerate(names)]
        there = [(at, one) for at, one in found if one is not None]
        if there:
            at, ends = zip(*there, strict=True)
            series.append(Series(model, at, *zip(*ends, strict=True)))  # estimate, low, high
            greatest = max(greatest, *(one.high for one in ends))
    for name in names:
        for model in view.models:
            cells = view.of("sequence", model.name, name)
            if not cells:
                continue
            values = [_within(known, model.name, f"{name}_flip_probability", partial(percent, digits=2))]
            values += [_within(known, model.name, f"{name}_{key}", decimal) for key in ("fr", "top5_distance")]
            rows.append([words(name), model.name, f"{cells[0].n:,}", f"{cells[0].metrics['steps'] + 1:.0f}", *values])
    title = "How often predictions flip from frame to frame"
    spec = dots(series, [words(name) for name in names], "flip probability, with 95 % interval", True, None)
    spec["layout"]["xaxis"] |= {"range": [0, max(1.1 * greatest, 0.001)], "tickformat": ".1%", "dtick": None}
    said = "; ".join(f"{s.model.name}: {percent(min(s.y), 2)} to {percent(max(s.y), 2)}" for s in series)
    columns = ["sequence", "model", "samples", "frames", "flip probability (95 % interval)"]
    columns += ["of the baseline's", "top-5 distance"]
    return Figure(
        "sequences",
        title,
        f"Dot chart of flip probability by sequence. {said}.",
        spec,
        130 + (18 + 9 * len(series)) * len(names),
        Table(title, columns, rows, 2),
    )


def _cues(view: View, asked: Asked, known: Known) -> Table | None:
    rows = []
    for cue, about in asked.cues.items():
        for model in view.models:
            figures, intervals = known[model.name]
            gap = figures.get(f"{cue}_gap", np.nan)
            if not np.isfinite(gap):
                continue
            with_ = figures[f"{cue}_cued_accuracy"]
            towards = figures.get(f"{cue}_towards", np.nan)
            drawn = points_text(towards, *_ends(intervals.of(f"{cue}_towards"))) if np.isfinite(towards) else ""
            drawn += f" to {view.class_name(about.towards)}" if drawn and about.towards is not None else ""
            kind = f"cohorts of {about.column}" if about.column else "put on each sample"
            shown = [percent(with_ + gap), percent(with_), points_text(gap, *_ends(intervals.of(f"{cue}_gap")))]
            rows.append([words(cue), model.name, kind, *shown, drawn])
    if not rows:
        return None
    columns = ["cue", "model", "how", "without", "with", "gap", "drawn to a class"]
    if not any(row[-1] for row in rows):
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    return Table("Accuracy without and with each cue; gaps and draws in points (95 % interval)", columns, rows, 3)


def _strips(view: View) -> list[Strip]:
    out = []
    for kind, notes in (("sequence", ("first", "last")), ("cue", ("without", "with"))):
        for name in view.scenarios(kind):
            cell = view.of(kind, view.models[0].name, name)[:1]
            examples = view.records.examples(cell[0]) if cell else {}
            if not {"before", "after"} <= {*examples}:
                continue
            pictures = [
                Picture(data_uri(image), f"{words(name)}, {note}", note)
                for before, after in zip(examples["before"], examples["after"], strict=True)
                for image, note in zip((before, after), notes, strict=True)
            ]
            out.append(Strip(words(name), pictures[: 2 * (PICTURES // 2)], 2))
    return out
