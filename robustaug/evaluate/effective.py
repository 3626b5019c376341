"""Effective robustness: accuracy under shift above what the clean accuracy lets expect, over a set of models.

Over reference models the logit of shifted accuracy is fitted by a line in the logit of clean accuracy; a model's
effective robustness is its shifted accuracy less the line's at its clean accuracy. Models that merely are better lie on
the line.

Source: Taori et al. 2020 (arXiv 2007.00644), section 2; that such lines hold for many shifts: Miller et al. 2021
(arXiv 2107.04649), who scale by probit instead.

Legend: M models, R resamples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import expit, logit
from scipy.stats import t as student

from robustaug.evaluate.asked import asked_of
from robustaug.evaluate.records import Cell, Records
from robustaug.evaluate.references import CLEAN, Reference
from robustaug.evaluate.resamples import Resamples
from robustaug.evaluate.shares import even_weights
from robustaug.evaluate.statistics import Interval
from robustaug.evaluate.suite import Suite

SUFFIXES = ("effective_robustness",)
FEWEST = 3
"""Reference models that a line needs: through two of them it goes whatever they are."""
SHIFTED = "corruption_accuracy"


class Fit(NamedTuple):
    """A line through logits of clean and shifted accuracy.

    Attributes:
        slope, intercept: of the line.
        n: models.
        mean, spread: the mean of the logits of clean accuracy, and the sum of their squared deviations from it.
        deviation: the standard deviation of the models about the line, n - 2 degrees of freedom.
        r2: the share of the variance of the logits of shifted accuracy that the line explains; NaN where they are
            all the same.
    """

    slope: float
    intercept: float
    n: int
    mean: float
    spread: float
    deviation: float
    r2: float

    def at(self, clean: np.ndarray | float) -> np.ndarray:
        """Return the shifted accuracy to expect of clean accuracies in (0, 1)."""
        return expit(self.intercept + self.slope * logit(clean))

    def band(self, clean: np.ndarray | float, confidence: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the ends of the confidence band of the line; how far single models lie from it is not in it."""
        x = logit(clean)
        reach = student.ppf(0.5 + confidence / 2, self.n - 2) * self.deviation
        reach = reach * np.sqrt(1 / self.n + (x - self.mean) ** 2 / self.spread)
        line = self.intercept + self.slope * x
        return expit(line - reach), expit(line + reach)


def logit_fit(clean: Sequence[float], shifted: Sequence[float]) -> Fit | None:
    """Fit the line by least squares; None where fewer than `FEWEST` models remain or all are as accurate.

    Accuracies of 0 and 1 have no logit; such models are left out.

    Args:
        clean, shifted: (M,) accuracies in [0, 1].
    """
    x, y = logit(np.asarray(clean, dtype=np.float64)), logit(np.asarray(shifted, dtype=np.float64))
    usable = np.isfinite(x) & np.isfinite(y)
    x, y = x[usable], y[usable]
    if len(x) < FEWEST or np.ptp(x) < 1e-9:
        return None
    spread, total = float(((x - x.mean()) ** 2).sum()), float(((y - y.mean()) ** 2).sum())
    slope = float((x - x.mean()) @ (y - y.mean())) / spread
    intercept = float(y.mean()) - slope * float(x.mean())
    residual = float(((y - intercept - slope * x) ** 2).sum())
    deviation = math.sqrt(residual / (len(x) - 2))
    return Fit(
        slope, intercept, len(x), float(x.mean()), spread, deviation, 1 - residual / total if total else math.nan
    )


def references(records: Records, model: str | None) -> list[Reference]:
    """Return the reference models of one model of the run: those of the table and, if asked, the others of the run.

    Args:
        model: never its own reference; None for all.
    """
    asked = asked_of(records)
    names = dict.fromkeys(cell.model for cell in records.cells(kind="clean")) if asked.run_models else ()
    return [*asked.references, *(Reference(name, accuracies(records, name)) for name in names if name != model)]


def accuracies(records: Records, model: str) -> dict[str, float]:
    """Return clean_accuracy, corruption_accuracy and the accuracy under each operator, what was measured."""
    clean, cells = records.cells(model=model, kind="clean"), records.cells(model=model, kind="operator")
    out = {CLEAN: clean[0].metrics["accuracy"]} if clean else {}
    for name, at in _by_shift(cells).items():
        values = [cell.metrics["accuracy"] for cell in at]
        out[name] = float(even_weights(at) @ values)
    return out


def fit_of(found: Sequence[Reference], shifted: str) -> Fit | None:
    """Fit the reference models that have this accuracy; see `logit_fit`."""
    pairs = [(one.figures[CLEAN], one.figures[shifted]) for one in found if {CLEAN, shifted} <= {*one.figures}]
    return logit_fit(*zip(*pairs, strict=True)) if pairs else None


def figures(records: Records, model: str) -> dict[str, float]:
    """Return effective_robustness, of the mean over corruptions, and `<operator>_effective_robustness`, if asked for.

    NaN where there are too few reference models, or the model's clean accuracy is 0 or 1.
    """
    if not asked_of(records).effective:
        return {}
    found, own = references(records, model), accuracies(records, model)
    return {
        _name(shift): _above(fit_of(found, shift), own.get(CLEAN, math.nan), value)
        for shift, value in own.items()
        if shift != CLEAN
    }


def figure_names(suite: Suite, against: bool = True) -> set[str]:
    """Return the names of `figures`."""
    operators = {plan.scenario for plan in suite.plans() if plan.kind == "operator"}
    return {_name(shift) for shift in (SHIFTED, *operators)} if operators and suite.effective_robustness else set()


def intervals(records: Records, model: str, resamples: Resamples) -> dict[str, Interval]:
    """Return `figures` with their intervals; one that is NaN has none.

    Half of the doubt is the samples', from which both accuracies of the model come, by resamples; half the line's, by
    the band of `Fit.band`: three models leave it wide.
    """
    known = {name: value for name, value in figures(records, model).items() if not math.isnan(value)}
    if not known:
        return {}
    half = 1 - (1 - resamples.confidence) / 2
    found, own = references(records, model), accuracies(records, model)
    clean = records.cells(model=model, kind="clean")[0]

    def right(cell: Cell) -> np.ndarray:
        samples = records.samples(cell, ["index", "correct"])
        return resamples.mean(samples["index"], samples["correct"].astype(np.float64), cell.kind)

    drawn_clean = right(clean)
    graded = records.cells(model=model, kind="operator")
    drawn = {cell.id: right(cell) for cell in graded}
    out = {}
    for shift, cells in _by_shift(graded).items():
        fit, name = fit_of(found, shift), _name(shift)
        if name not in known or fit is None:
            continue
        shifted = sum(w * drawn[cell.id] for w, cell in zip(even_weights(cells), cells, strict=True))
        of_samples = resamples.interval(known[name], shifted - fit.at(drawn_clean), half)
        line, (low, high) = float(fit.at(own[CLEAN])), fit.band(own[CLEAN], half)
        out[name] = Interval(
            known[name],
            max(-1.0, of_samples.low - (float(high) - line)),
            min(1.0, of_samples.high + (line - float(low))),
        )
    return out


def limits(records: Records, model: str) -> list[str]:
    """Say why a model has no effective robustness though it was asked for."""
    found = figures(records, model)
    if not math.isnan(found.get(_name(SHIFTED), 0.0)):
        return []
    usable = [
        one for one in references(records, model) if all(0 < one.figures.get(key, 0.0) < 1 for key in (CLEAN, SHIFTED))
    ]
    clean = accuracies(records, model).get(CLEAN, math.nan)
    if not 0 < clean < 1:
        return [f"{model} has no effective robustness: a clean accuracy of {clean:g} has no logit."]
    why = f"a line needs at least {FEWEST} other models of different accuracy, there are {len(usable)}"
    return [f"{model} has no effective robustness: {why}; list more in the table of effective_robustness."]


def _name(shift: str) -> str:
    return "effective_robustness" if shift == SHIFTED else f"{shift}_effective_robustness"


def _above(fit: Fit | None, clean: float, shifted: float) -> float:
    return shifted - float(fit.at(clean)) if fit is not None and 0 < clean < 1 else math.nan


def _by_shift(cells: Sequence[Cell]) -> dict[str, list[Cell]]:
    """Return all cells as those of the mean over corruptions, and those of each operator."""
    by: dict[str, list[Cell]] = {SHIFTED: [*cells]} if cells else {}
    for cell in cells:
        by.setdefault(cell.scenario, []).append(cell)
    return by
