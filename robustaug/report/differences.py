"""Differences from the baseline: of one cell, from `compare`; of several together, paired by sample."""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import NamedTuple

import numpy as np

from robustaug.evaluate.compare import Comparison, compare
from robustaug.evaluate.records import Cell
from robustaug.report.view import View

LEVEL = 0.05


class Difference(NamedTuple):
    """Accuracy of a model minus the baseline's, on the same samples.

    Attributes:
        value, low, high: with its 95 % interval: a paired bootstrap's for one cell; for several together, the normal
            interval of the samples' mean differences, which any number of samples leaves quick.
        p: McNemar's p-value after Holm's correction over all cells of the run; NaN for several cells together.
        clear: p < 0.05, or, for several cells together, an interval without zero.
    """

    value: float
    low: float
    high: float
    p: float
    clear: bool


class Differences:
    """The differences of one run from its baseline."""

    def __init__(self, view: View) -> None:
        self._view = view
        self.rows = cache(self._rows)

    def _rows(self, model: str) -> tuple[Comparison, ...]:
        """Return every comparison of `model` with the baseline; none where they share no cell."""
        baseline = self._view.baseline
        if baseline is None or baseline.name == model:
            return ()
        try:
            return tuple(compare(self._view.records, baseline.name, self._view.records, model))
        except ValueError:  # no cell is shared: the page then shows the figures side by side
            return ()

    def of(
        self, model: str, kind: str, scenario: str | None = None, severity: float | None = None
    ) -> Difference | None:
        """Return the difference over all matching cells, or None where there is nothing to pair."""
        rows = [
            row
            for row in self.rows(model)
            if row.kind == kind and scenario in (None, row.scenario) and severity in (None, row.severity)
        ]
        if len(rows) == 1:
            row = rows[0]
            return Difference(row.difference, row.low, row.high, row.p_holm, row.p_holm < LEVEL)
        return self._together(model, kind, scenario, severity) if rows else None

    def _together(self, model: str, kind: str, scenario: str | None, severity: float | None) -> Difference | None:
        """Average over the shared cells sample by sample first: the cells of one sample are not independent.

        As in `summary.figures`, each scenario weighs the same however many cells it has.

        Cells that measured different samples have no average per sample, so no interval is given for them.
        """
        assert self._view.baseline is not None
        sides = [
            {
                (c.scenario, c.severity, c.seed): c
                for c in self._view.of(kind, name, scenario)
                if severity in (None, c.severity)
            }
            for name in (self._view.baseline.name, model)
        ]
        shared = [key for key in sides[0] if key in sides[1]]
        means = [self._mean_per_sample([side[key] for key in shared]) for side in sides]
        if any(mean is None for mean in means):
            return None
        (index_a, a), (index_b, b) = means  # type: ignore[misc]
        if not np.array_equal(index_a, index_b):
            return None
        value = float((b - a).mean())
        half = 1.96 * float((b - a).std(ddof=1)) / len(a) ** 0.5 if len(a) > 1 else float("inf")
        return Difference(value, value - half, value + half, float("nan"), abs(value) > half)

    def _mean_per_sample(self, cells: list[Cell]) -> tuple[np.ndarray, np.ndarray] | None:
        """Return sample indices (n,), sorted, and mean correctness (n,); None where the cells' samples differ."""
        siblings = Counter(cell.scenario for cell in cells)
        index: np.ndarray | None = None
        total = np.zeros(0)
        for cell in cells:
            samples = self._view.records.samples(cell, ["index", "correct"])
            order = np.argsort(samples["index"], kind="stable")
            if index is None:
                index, total = samples["index"][order], np.zeros(len(order))
            elif not np.array_equal(index, samples["index"][order]):
                return None
            total += samples["correct"][order] / siblings[cell.scenario]
        return None if index is None else (index, total / len(siblings))
