"""Shares over several cells of the same samples, and their intervals.

Legend: N samples, C cells.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from robustaug.evaluate.records import Cell
from robustaug.evaluate.statistics import Interval, wilson


def even_weights(cells: Sequence[Cell]) -> np.ndarray:
    """Return (C,) weights of sum 1: operators count alike, in each its severities, in each of these its seeds."""
    seeds = Counter((cell.scenario, cell.severity) for cell in cells)
    severities = Counter(scenario for scenario, _ in seeds)
    weights = np.array([1 / (severities[c.scenario] * seeds[c.scenario, c.severity]) for c in cells])
    return weights / weights.sum()


def per_sample(parts: Sequence[tuple[np.ndarray, np.ndarray]], weights: np.ndarray) -> np.ndarray:
    """Return (N,) what each sample adds to a weighted sum over cells of their means; the mean of all is that sum.

    Args:
        parts: of each cell the sample indices and the outcomes, both (n,); cells may have measured other samples.
        weights: (C,).
    """
    rows, at = np.unique(np.concatenate([index for index, _ in parts]), return_inverse=True)
    added = [w * values * (len(rows) / max(len(values), 1)) for w, (_, values) in zip(weights, parts, strict=True)]
    return np.bincount(at, np.concatenate(added), len(rows))


def ratio(a: Any, b: Any) -> Any:
    """Return a / b, numbers or arrays, NaN where b is not above 0."""
    above = np.asarray(b) > 0
    return np.where(above, a / np.where(above, b, 1.0), np.nan)


def share_interval(values: np.ndarray, most: int, confidence: float) -> Interval:
    """Return the mean of outcomes in [0, 1] with Wilson's interval.

    Its sample size is that at which independent samples would vary as much (Franco et al. 2019, section 3): outcomes
    that are means over several cells vary less than those of one.

    Args:
        values: (N,) as `per_sample` returns.
        most: outcomes there are in all cells: what counts as independent is never more.
        confidence: in (0, 1).
    """
    share, spread, n = min(float(values.mean()), 1.0), float(values.var()), len(values)
    size = n if spread == 0 or share in (0, 1) else n * share * (1 - share) / spread
    size = max(1.0, min(size, most))
    return wilson(share * size, size, confidence)
