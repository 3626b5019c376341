"""What a cell says of a model's confidence: accuracy and calibration, and prediction sets where some were fitted.

Legend: N samples, K classes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from robustaug.data.source import Source
from robustaug.evaluate.calibration_intervals import gap_sums, groups_for
from robustaug.evaluate.statistics import Interval, bootstrap_ci, wilson
from robustaug.trust import calibration, ood
from robustaug.trust.conformal import ConformalSets, conformal_quantile, fit_sets

CALIBRATION = ("ece", "classwise_ece", "nll", "brier")
SELECTIVE = ("aurc",)
"""Area under the curve of wrong answers against the share answered, the surest first."""

SETS = ("coverage", "set_size")
"""Figures of prediction sets: the share that holds the label, and the mean number of classes in one."""


class Confidence:
    """Gather the logits of one cell, batch by batch; nothing as large as them is kept.

    Args:
        sets: fitted to held-out samples, None where there were none.
    """

    def __init__(self, sets: ConformalSets | None) -> None:
        self.sets = sets
        self._tally: calibration.Tally | None = None

    def add(self, logits: np.ndarray, labels: np.ndarray, index: np.ndarray) -> dict[str, np.ndarray]:
        """Add samples; returns the columns "covered" bool and "set_size" int64, or none without sets.

        Args:
            logits: (N, K).
            labels, index: (N,) int64.
        """
        if self._tally is None:
            self._tally = calibration.Tally(logits.shape[1], groups=groups_for(logits.shape[1]))
        self._tally.add(logits, labels)
        if self.sets is None:
            return {}
        found = self.sets.outcome(logits, labels, index)
        return {"covered": found.covered, "set_size": found.size}

    @property
    def sums(self) -> dict[str, np.ndarray]:
        """What an interval of the classwise error is had from, see `gap_sums`; its size has nothing to do with N."""
        assert self._tally is not None, "a cell without samples is refused before"
        return gap_sums(self._tally)

    def figures(self, samples: dict[str, np.ndarray]) -> dict[str, float]:
        """Return accuracy, `CALIBRATION`, `SELECTIVE` and, where there are sets, `SETS`, from a cell's columns."""
        assert self._tally is not None, "a cell without samples is refused before"
        figures = {"accuracy": float(samples["correct"].mean())} | calibration_figures(self._tally)
        figures["aurc"] = ood.aurc(samples["confidence"], samples["correct"])
        if self.sets is not None:
            figures["coverage"] = float(samples["covered"].mean())
            figures["set_size"] = float(samples["set_size"].mean())
        return figures


def calibration_figures(tally: calibration.Tally) -> dict[str, float]:
    """Return `CALIBRATION` of a tally; NaN where a row of logits has no softmax."""
    found = tally.predictions
    return {
        "ece": calibration.ece_from_confidence(found.confidence, found.correct),
        "classwise_ece": calibration.classwise_ece_of(tally),
        "nll": float(found.nll.mean()),
        "brier": float(found.brier.mean()),
    }


def fit_where_enough(logits: Any, labels: Any, alpha: float) -> ConformalSets | None:
    """Return prediction sets fitted to held-out logits by `lac`, None where they are too few for `alpha`."""
    return None if _lacking(len(labels), alpha) else fit_sets(logits, labels, alpha)


def set_limits(validation: Source | None, alpha: float) -> list[str]:
    """Say why no prediction sets are fitted, if so; without validation data the runner says that already."""
    lacking = "" if validation is None else _lacking(len(validation), alpha)
    return [f"No prediction sets were fitted: {lacking}."] if lacking else []


def set_intervals(covered: Any, set_size: Any, seed: int = 0, confidence: float = 0.95) -> dict[str, Interval]:
    """Return `SETS` with their intervals: Wilson's for the coverage, the bootstrap's for the size.

    Args:
        covered: (N,) bool.
        set_size: (N,) whole numbers.
        seed, confidence: as in `statistics.bootstrap_ci`.

    Raises:
        ValueError: no samples, unequal lengths, or a confidence out of range.
    """
    covered, set_size = np.asarray(covered, dtype=bool), np.asarray(set_size)
    if covered.shape != set_size.shape or covered.ndim != 1:
        raise ValueError(f"covered and set_size must have one shape (N,), got {covered.shape} and {set_size.shape}")
    return {
        "coverage": wilson(int(covered.sum()), len(covered), confidence),
        "set_size": bootstrap_ci(set_size, seed, confidence=confidence),
    }


def _lacking(n: int, alpha: float) -> str:
    try:
        conformal_quantile(np.zeros(n), alpha)
    except ValueError as error:
        return str(error)
    return ""
