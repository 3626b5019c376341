"""Intervals of the gaps between groups that `trust.fairness` measures, from counts alone.

Legend: G groups, P pairs of groups times rates compared, R resamples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from robustaug.evaluate.statistics import Interval, bootstrap_cells
from robustaug.trust.fairness import COMPARED, fairness, rates

_RESAMPLES = 4_000


def gap_intervals(counts: Any, confidence: float = 0.95, seed: int = 0) -> dict[str, Interval]:
    """Return each figure of `trust.fairness.COMPARED` with its bootstrap interval; one that is NaN is absent.

    A gap is the greatest of many differences, and chance alone makes it too large: resampled gaps would stay away from
    0 though groups are treated alike. So the signed differences between all groups are resampled, of a ratio those of
    logarithms, and get intervals that hold for all of them at once, as far as the greatest deviation of a resample in
    units of its standard deviation (Romano and Wolf 2005, section 4). The greatest difference then lies between the
    greatest of their ends.

    Args:
        counts: (G, 2, 2), as `trust.fairness.confusion` returns.
        confidence: of each figure, in (0, 1).
        seed: the same gives the same intervals.
    """
    table = np.asarray(counts)
    estimates = {name: value for name, value in fairness(table).items() if not math.isnan(value)}
    if not estimates:
        return {}
    resamples = max(_RESAMPLES, math.ceil(20 / (1 - confidence)))
    drawn = rates(bootstrap_cells(table.reshape(-1), seed, resamples).reshape(resamples, *table.shape))._asdict()
    return {name: _gap(name, value, drawn, confidence) for name, value in estimates.items()}


def _gap(figure: str, estimate: float, drawn: Mapping[str, np.ndarray], confidence: float) -> Interval:
    is_ratio = figure == "disparate_impact"
    compared = [np.log(drawn[key]) if is_ratio else drawn[key] for key in COMPARED[figure]]
    a, b = np.triu_indices(compared[0].shape[1], 1)
    signed = np.concatenate([rate[:, a] - rate[:, b] for rate in compared], axis=1)  # (R, P)
    centre, deviation = signed.mean(axis=0), signed.std(axis=0)
    reach = float(np.quantile(np.abs((signed - centre) / deviation).max(axis=1), confidence))
    low, high = centre - reach * deviation, centre + reach * deviation
    least, most = float(np.maximum(low, -high).clip(0).max()), float(np.maximum(high, -low).max())
    if is_ratio:
        least, most = math.exp(-most), math.exp(-least)
    return Interval(estimate, max(0.0, min(least, estimate)), min(1.0, max(most, estimate)))
