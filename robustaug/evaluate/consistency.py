"""Consistency: the share of samples whose prediction under shift is the clean one, right or wrong."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from robustaug.evaluate.records import Cell, Records
from robustaug.evaluate.resamples import Resamples
from robustaug.evaluate.shares import even_weights, per_sample, share_interval
from robustaug.evaluate.statistics import Interval
from robustaug.evaluate.suite import Suite

SUFFIXES = ("consistency",)


def figures(records: Records, model: str) -> dict[str, float]:
    """Return consistency, the mean over operators, and `<operator>_consistency`, each over severities and seeds."""
    return {name: float(values.mean()) for name, (values, _) in _kept(records, model).items()}


def figure_names(suite: Suite, against: bool = True) -> set[str]:
    """Return the names of `figures`."""
    operators = {plan.scenario for plan in suite.plans() if plan.kind == "operator"}
    return {"consistency", *(f"{name}_consistency" for name in operators)} if operators else set()


def intervals(records: Records, model: str, resamples: Resamples) -> dict[str, Interval]:
    """Return `figures` with the intervals of `shares.share_interval`."""
    kept = _kept(records, model).items()
    return {name: share_interval(values, most, resamples.confidence) for name, (values, most) in kept}


def same_as_clean(records: Records, model: str) -> Callable[[Cell], tuple[np.ndarray, np.ndarray]]:
    """Return what gives a cell's sample indices and, of each, whether its prediction is the clean one, float64.

    An answer that is no number is the same as none.
    """
    clean = _answers(records, records.cells(model=model, kind="clean")[0])
    order = np.argsort(clean[0], kind="stable")
    index, prediction = (column[order] for column in clean)

    def same(cell: Cell) -> tuple[np.ndarray, np.ndarray]:
        at, now = _answers(records, cell)
        before = prediction[np.searchsorted(index, at)]
        return at, ((before == now) & (now >= 0)).astype(np.float64)

    return same


def _kept(records: Records, model: str) -> dict[str, tuple[np.ndarray, int]]:
    """Return by figure what each sample adds to it, and how many outcomes there are."""
    cells = records.cells(model=model, kind="operator")
    if not cells or not records.cells(model=model, kind="clean"):
        return {}
    same = same_as_clean(records, model)
    found = [same(cell) for cell in cells]
    out = {}
    for name in ("", *dict.fromkeys(cell.scenario for cell in cells)):
        chosen = [at for at, cell in enumerate(cells) if name in ("", cell.scenario)]
        parts = [found[at] for at in chosen]
        values = per_sample(parts, even_weights([cells[at] for at in chosen]))
        out[f"{name}_consistency".lstrip("_")] = values, sum(len(index) for index, _ in parts)
    return out


def _answers(records: Records, cell: Cell) -> tuple[np.ndarray, np.ndarray]:
    samples = records.samples(cell, ["index", "prediction", "confidence"])
    return samples["index"], np.where(np.isfinite(samples["confidence"]), samples["prediction"], -1)
