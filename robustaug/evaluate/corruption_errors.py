"""Errors under corruption held against another model's, and the area under accuracy over severity.

Of model f, corruption c and the baseline b, with errors E over severities s:
CE = sum_s E_f(s, c) / sum_s E_b(s, c), relative CE = sum_s (E_f(s, c) - E_f(clean)) / sum_s (E_b(s, c) - E_b(clean));
mCE and relative mCE are their means over corruptions. 1 is as good as the baseline, less is better. Published mCE
divides by AlexNet on ImageNet-C; that of a run divides by its own baseline, and the two must not be compared.

Source: Hendrycks & Dietterich 2019 (arXiv 1903.12261), section 4.1.

Legend: R resamples.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from robustaug.evaluate import alexnet
from robustaug.evaluate.asked import Asked, asked_of
from robustaug.evaluate.metrics import area_under_severity
from robustaug.evaluate.records import Cell, Records
from robustaug.evaluate.resamples import Resamples
from robustaug.evaluate.shares import even_weights, per_sample, ratio, share_interval
from robustaug.evaluate.statistics import Interval
from robustaug.evaluate.suite import Suite

SUFFIXES = ("mce", "_ce", "severity_area")
"""How names of figures of this module end."""


class Errors(NamedTuple):
    """Errors of a model, each a number or (R,) resampled ones: on clean data, and by corruption over severities."""

    clean: Any
    by: dict[str, Any]


def figures(records: Records, model: str) -> dict[str, float]:
    """Return mce, relative_mce, `<operator>_ce`, `<operator>_relative_ce` (none for the baseline itself), and
    severity_area and `<operator>_severity_area`.

    A relative error is NaN where the baseline loses nothing to the corruption, and so is its mean.
    """
    out = {name: float(np.mean([*parts.values()])) for name, parts in _areas(records, model).items() if parts}
    ours, theirs = _pair(records, model, lambda cell, _: 1 - cell.metrics["accuracy"])
    return out | {name: float(value) for name, value in _ratios(ours, theirs).items()}


def figure_names(suite: Suite, against: bool = True) -> set[str]:
    """Return the names of `figures`; without those held against a baseline where there is none."""
    operators = {plan.scenario for plan in suite.plans() if plan.kind == "operator"}
    if not operators:
        return set()
    names = {"severity_area", *(f"{name}_severity_area" for name in operators)}
    if suite.errors_against == "alexnet":
        operators &= {*alexnet.ALEXNET}
    elif not against:
        return names
    return names | {"mce", "relative_mce"} | {f"{name}_{ce}" for name in operators for ce in ("ce", "relative_ce")}


def intervals(records: Records, model: str, resamples: Resamples) -> dict[str, Interval]:
    """Return `figures` with their intervals; one that is NaN has none.

    Ratios from resamples of the samples, the same for both models; areas as in `shares.share_interval`.
    """
    known = figures(records, model)

    def wrong(cell: Cell, side: str) -> np.ndarray:
        samples = records.samples(cell, ["index", "correct"])
        return resamples.mean(samples["index"], 1.0 - samples["correct"], f"{side}, {cell.model}")

    drawn = _ratios(*_pair(records, model, wrong))
    out = {name: resamples.interval(known[name], draws) for name, draws in drawn.items() if np.isfinite(known[name])}
    return out | _area_intervals(records, model, resamples.confidence)


def standing_limits(asked: Asked, cells: Iterable[Cell]) -> list[str]:
    """Say what keeps errors against AlexNet from being the published benchmark's."""
    if asked.errors_against != "alexnet":
        return []
    few = any(cell.kind == "operator" and cell.n < 50_000 for cell in cells)
    return [
        "Corruption errors are relative to AlexNet's published ones, on corruptions drawn anew (the frost of other "
        "textures): near the published benchmark, not it." + " Fewer than its 50,000 pictures were measured." * few
    ]


def _pair(records: Records, model: str, error: Callable[[Cell, str], Any]) -> tuple[Errors, Errors]:
    """Return the errors of a model and those it is held against, over the cells that both have; none without these."""
    asked = asked_of(records)
    if asked.errors_against == "alexnet":
        mine = _graded(records, model)
        ours = {key: cell for key, cell in mine.items() if cell.scenario in alexnet.ALEXNET}
        return _errors(records, model, ours, error), Errors(alexnet.CLEAN, alexnet.ALEXNET)
    if asked.baseline in (None, model):
        return Errors(0.0, {}), Errors(0.0, {})
    mine, other = _graded(records, model), _graded(records, str(asked.baseline))
    ours, theirs = ({key: side[key] for key in mine if key in other} for side in (mine, other))
    return _errors(records, model, ours, error), _errors(records, str(asked.baseline), theirs, error)


def _graded(records: Records, model: str) -> dict[tuple[str, float, int], Cell]:
    return {(c.scenario, c.severity, c.seed): c for c in records.cells(model=model, kind="operator")}


def _errors(records: Records, model: str, cells: dict[Any, Cell], error: Callable[[Cell, str], Any]) -> Errors:
    clean = records.cells(model=model, kind="clean")
    by: dict[str, list[Cell]] = {}
    for cell in cells.values():
        by.setdefault(cell.scenario, []).append(cell)
    graded = {
        name: sum(w * error(cell, "shifted") for w, cell in zip(even_weights(of), of, strict=True))
        for name, of in by.items()
    }
    return Errors(error(clean[0], "clean") if clean else np.nan, graded)


def _ratios(ours: Errors, theirs: Errors) -> dict[str, Any]:
    ce = {name: ratio(error, theirs.by[name]) for name, error in ours.by.items()}
    relative = {name: ratio(error - ours.clean, theirs.by[name] - theirs.clean) for name, error in ours.by.items()}
    if not ce:
        return {}
    out = {f"{name}_ce": value for name, value in ce.items()}
    out |= {f"{name}_relative_ce": value for name, value in relative.items()}
    return out | {"mce": sum(ce.values()) / len(ce), "relative_mce": sum(relative.values()) / len(relative)}


def _areas(records: Records, model: str) -> dict[str, dict[str, float]]:
    """Return by figure the area of each operator that it is the mean of."""
    clean = records.cells(model=model, kind="clean")
    by: dict[str, dict[float, list[float]]] = {}
    for cell in records.cells(model=model, kind="operator"):
        by.setdefault(cell.scenario, {}).setdefault(cell.severity, []).append(cell.metrics["accuracy"])
    if not clean:
        return {}
    start = {0.0: clean[0].metrics["accuracy"]}
    areas = {
        name: area_under_severity(start | {s: float(np.mean(v)) for s, v in graded.items()})
        for name, graded in by.items()
    }
    return {"severity_area": areas} | {f"{name}_severity_area": {name: area} for name, area in areas.items()}


def _area_intervals(records: Records, model: str, confidence: float) -> dict[str, Interval]:
    clean = records.cells(model=model, kind="clean")
    cells = records.cells(model=model, kind="operator")
    out = {}
    for figure, areas in _areas(records, model).items():
        at = [cell for cell in cells if cell.scenario in areas]
        if not at:
            continue
        weights = np.mean([_trapezoids(at, name) for name in areas], axis=0)
        samples = [records.samples(cell, ["index", "correct"]) for cell in (clean[0], *at)]
        parts = [(one["index"], one["correct"].astype(np.float64)) for one in samples]
        out[figure] = share_interval(per_sample(parts, weights), sum(len(index) for index, _ in parts), confidence)
    return out


def _trapezoids(cells: list[Cell], name: str) -> np.ndarray:
    """Return the weights, clean first, that the trapezoid rule gives the cells of one operator; 0 to others."""
    seeds = Counter(cell.severity for cell in cells if cell.scenario == name)
    grades = sorted({0.0, *seeds})
    gaps = np.diff(grades, prepend=grades[0], append=grades[-1])
    share = dict(zip(grades, (gaps[:-1] + gaps[1:]) / 2 / grades[-1], strict=True))
    each = (share[c.severity] / seeds[c.severity] if c.scenario == name else 0.0 for c in cells)
    return np.array([share[0.0], *each])
