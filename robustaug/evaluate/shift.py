"""Figures of models under shift that need more than one cell: all families of them behind one face.

A family is a module with `figures`, `figure_names`, `intervals`, and `SUFFIXES`, how the names of its figures end.
"""

from __future__ import annotations

from robustaug.evaluate import consistency, corruption_errors, cue_gaps, effective, flips
from robustaug.evaluate.asked import asked_of
from robustaug.evaluate.records import Records
from robustaug.evaluate.resamples import Resamples
from robustaug.evaluate.statistics import Interval
from robustaug.evaluate.suite import Suite

FAMILIES = (corruption_errors, consistency, effective, flips, cue_gaps)


def figures(records: Records, model: str) -> dict[str, float]:
    """Return the figures of every family."""
    return {name: value for family in FAMILIES for name, value in family.figures(records, model).items()}


def figure_names(suite: Suite, against: bool = True) -> set[str]:
    """Return the names of the figures that a suite adds.

    Args:
        against: whether the model is held against a baseline, as the baseline itself is not.
    """
    return set().union(*(family.figure_names(suite, against) for family in FAMILIES))


class Intervals:
    """The intervals of one model, each family's made when the first of them is asked for."""

    def __init__(self, records: Records, model: str, confidence: float) -> None:
        self._records, self._model, self._confidence = records, model, confidence
        self._known: dict[str, dict[str, Interval]] = {}
        self._resamples: Resamples | None = None

    def of(self, name: str) -> Interval | None:
        """Return the interval of a figure; None where it has none or is of another kind."""
        for family in FAMILIES:
            if name.endswith(family.SUFFIXES):
                if family.__name__ not in self._known:
                    self._resamples = self._resamples or Resamples(self._confidence)
                    self._known[family.__name__] = family.intervals(self._records, self._model, self._resamples)
                if name in self._known[family.__name__]:
                    return self._known[family.__name__][name]
        return None


def limits(records: Records, model: str) -> list[str]:
    """Say which figures could not be made though they were asked for, and what they must not be taken for."""
    cells = records.cells(model=model)
    return effective.limits(records, model) + corruption_errors.standing_limits(asked_of(records), cells)
