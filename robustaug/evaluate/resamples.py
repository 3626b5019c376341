"""Means of several outcomes under the same resamples of the samples: what they share cancels in ratios and differences.

Legend: N samples, G groups, R resamples.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from scipy.special import gammaincinv

from robustaug.evaluate.statistics import Interval
from robustaug.rng import Keys

GROUPS = 512
_RESAMPLES = 2_000


class Resamples:
    """Random weights of groups of samples: the Bayesian bootstrap (Rubin 1981), at a cost that N hardly adds to.

    A sample's group follows from its index, so cells that measured the same samples are paired, whatever else differs.

    Args:
        confidence: of the intervals that are wanted, in (0, 1).
        seed: the same gives the same weights.

    Attributes:
        weights: (R, G).
    """

    def __init__(self, confidence: float, seed: int = 0) -> None:
        self.confidence, self.seed = confidence, seed
        self.n = max(_RESAMPLES, math.ceil(40 / (1 - confidence)))  # twenty beyond each end
        drawn = Keys.of(seed, self.n).fold("resamples").uniform(GROUPS).double()
        self.weights = -np.log1p(-drawn.numpy())  # (R, G)
        self._sizes: dict[bytes, np.ndarray] = {}  # cells mostly measured the same samples

    def groups(self, index: np.ndarray) -> np.ndarray:
        """Return the group of each sample, (N,) int64 in [0, G).

        Args:
            index: (N,) int64, which samples these are.
        """
        keys = Keys.of(self.seed, torch.from_numpy(np.array(index, dtype=np.int64)))
        return (keys.fold("resamples.group").bits()[:, 0] % GROUPS).numpy()

    def mean(self, index: np.ndarray, values: np.ndarray, side: str) -> np.ndarray:
        """Return (R,) resampled means of outcomes in [0, 1].

        Half an independent outcome of 1 and half of 0 are added, after Jeffreys: what was never seen is not held
        impossible, and no mean that a figure is divided by is 0. Outcomes that vary less than 0 and 1 would, such as
        means over many frames, count as more independent ones.

        Args:
            index: (N,) of the samples.
            values: (N,).
            side: what was added is the same for outcomes of one side, such as "shifted, standard".
        """
        group = self.groups(index)
        total, count = np.bincount(group, values, GROUPS), np.bincount(group, minlength=GROUPS).astype(np.float64)
        share, spread = float(np.mean(values)), float(np.var(values))
        trial = min(1.0, spread / (share * (1 - share))) if spread and 0 < share < 1 else 1.0
        uniform = Keys.of(self.seed, self.n).fold(f"resamples.{side}").uniform(2).double().numpy()
        ones, zeros = (trial * gammaincinv(0.5, uniform)).T
        if (key := count.tobytes()) not in self._sizes:
            self._sizes[key] = self.weights @ count
        return (self.weights @ total + ones) / (self._sizes[key] + ones + zeros)

    def interval(self, estimate: float, drawn: Any, confidence: float | None = None) -> Interval:
        """Return a figure with the quantiles of its resamples, (R,); it always lies between them.

        A resample without a value, NaN, may be anything: where so many are that they reach an end, that end is
        infinite.
        """
        tail = (1 - (self.confidence if confidence is None else confidence)) / 2
        unknown = np.isnan(drawn)
        low = float(np.quantile(np.where(unknown, -np.inf, drawn), tail, method="lower"))
        high = float(np.quantile(np.where(unknown, np.inf, drawn), 1 - tail, method="higher"))
        return Interval(estimate, min(low, estimate), max(high, estimate))
