"""How often predictions flip along sequences of small perturbations, alone and against the baseline.

Of n frames x_1 to x_n of each sample, FP is the mean over samples of the share of j in 2 to n with
f(x_j) != f(x_{j-1}); for noise, with f(x_j) != f(x_1). The flip rate FR is FP over the baseline's, mFR its mean over
sequences. The top-5 distance is the mean of `sequences.top5_distance` over the same pairs, mT5D the mean of its ratios.

Source: Hendrycks & Dietterich 2019 (arXiv 1903.12261), section 4.2, which divides by AlexNet; so these are not its
published mFR and mT5D.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from robustaug.evaluate.asked import asked_of
from robustaug.evaluate.records import Cell, Records
from robustaug.evaluate.resamples import Resamples
from robustaug.evaluate.sequences import FARTHEST
from robustaug.evaluate.shares import even_weights, per_sample, ratio, share_interval
from robustaug.evaluate.statistics import Interval
from robustaug.evaluate.suite import Suite

SUFFIXES = ("flip_probability", "top5_distance", "_fr", "mfr", "t5d")

_COUNTED = {"flip_probability": ("flips", 1), "top5_distance": ("distance", FARTHEST)}
"""By figure the column that is counted, and its greatest value a step."""

_RATIOS = {"flip_probability": ("mfr", "fr"), "top5_distance": ("mt5d", "t5d")}
"""By figure the name of the mean ratio to the baseline, and that of one sequence."""


def figures(records: Records, model: str) -> dict[str, float]:
    """Return flip_probability and top5_distance (means over sequences), `<sequence>_` and either, and, but for the
    baseline itself, mfr, mt5d, `<sequence>_fr` and `<sequence>_t5d`.

    Distances are NaN where there are five classes or fewer, ratios where the baseline never flips.
    """
    cells = records.cells(model=model, kind="sequence")
    out: dict[str, float] = {}
    for figure in _COUNTED if cells else ():
        found = _by_sequence(cells, lambda cell, key=figure: cell.metrics.get(key, np.nan))
        out |= {f"{name}_{figure}": float(value) for name, value in found.items()}
        out[figure] = float(np.mean([*found.values()]))
        out |= {
            name: float(v)
            for name, v in _ratios(records, model, figure, lambda c, k=figure: c.metrics.get(k, np.nan)).items()
        }
    return out


def figure_names(suite: Suite, against: bool = True) -> set[str]:
    """Return the names of `figures`; without those held against a baseline where there is none."""
    names = {plan.scenario for plan in suite.plans() if plan.kind == "sequence"}
    if not names:
        return set()
    out = {*_COUNTED} | {f"{name}_{figure}" for name in names for figure in _COUNTED}
    for mean, one in _RATIOS.values() if against else ():
        out |= {mean, *(f"{name}_{one}" for name in names)}
    return out


def intervals(records: Records, model: str, resamples: Resamples) -> dict[str, Interval]:
    """Return `figures` with their intervals; one that is NaN has none.

    Ratios from resamples of the samples, the same for both models; the others as in `shares.share_interval`, where a
    step is an outcome.
    """
    known = figures(records, model)
    cells = records.cells(model=model, kind="sequence")
    out: dict[str, Interval] = {}
    for figure in _COUNTED if cells else ():
        if np.isnan(known[figure]):
            continue
        for name in ("", *dict.fromkeys(cell.scenario for cell in cells)):
            at = [cell for cell in cells if name in ("", cell.scenario)]
            out[f"{name}_{figure}".lstrip("_")] = _share(records, at, figure, resamples.confidence)

        def drawn(cell: Cell, figure: str = figure) -> np.ndarray:
            return resamples.mean(*_counted(records, cell, figure), f"{cell.scenario}, {cell.model}")

        draws = _ratios(records, model, figure, drawn)
        out |= {name: resamples.interval(known[name], of) for name, of in draws.items() if np.isfinite(known[name])}
    return out


def _by_sequence(cells: list[Cell], of: Callable[[Cell], Any]) -> dict[str, Any]:
    by: dict[str, list[Any]] = {}
    for cell in cells:
        by.setdefault(cell.scenario, []).append(of(cell))
    return {name: sum(values) / len(values) for name, values in by.items()}


def _ratios(records: Records, model: str, figure: str, of: Callable[[Cell], Any]) -> dict[str, Any]:
    baseline = asked_of(records).baseline
    if baseline in (None, model):
        return {}
    mine, theirs = (_by_sequence(records.cells(model=m, kind="sequence"), of) for m in (model, baseline))
    ratios = {name: ratio(value, theirs[name]) for name, value in mine.items() if name in theirs}
    mean, one = _RATIOS[figure]
    named = {f"{name}_{one}": value for name, value in ratios.items()}
    return named | ({mean: sum(ratios.values()) / len(ratios)} if ratios else {})


def _counted(records: Records, cell: Cell, figure: str) -> tuple[np.ndarray, np.ndarray]:
    """Return sample indices, and of each the share in [0, 1] of what its frames could have changed."""
    column, most = _COUNTED[figure]
    samples = records.samples(cell, ["index", column])
    return samples["index"], samples[column] / (most * cell.metrics["steps"])


def _share(records: Records, cells: list[Cell], figure: str, confidence: float) -> Interval:
    parts = [_counted(records, cell, figure) for cell in cells]
    outcomes = sum(int(cell.n * cell.metrics["steps"]) for cell in cells)
    found = share_interval(per_sample(parts, even_weights(cells)), outcomes, confidence)
    return Interval(*(_COUNTED[figure][1] * end for end in found))
