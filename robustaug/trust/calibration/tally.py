"""What a model said of each sample, from its logits: in bounded memory, whatever the number of samples and classes.

Legend: N samples, K classes, M bins, G groups.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from robustaug.rng import Keys

_CHUNK_VALUES = 1 << 22  # logits turned to floats at once: 16 MiB
COUNT, SUM_P, SUM_PP, SUM_Y, SUM_PY = range(5)
"""The last axis of `Tally.table`: samples, and their sums of p, p^2, y and p y; y is 1 for the label, else 0."""


class Predictions(NamedTuple):
    """Outcomes by sample.

    Attributes:
        confidence: (N,) float64, probability of the predicted class; NaN where the logits have no softmax.
        correct: (N,) bool; never where they have none.
        nll: (N,) float64, negative log-likelihood in nats.
        brier: (N,) float64, squared error summed over classes, in [0, 2].
    """

    confidence: np.ndarray
    correct: np.ndarray
    nll: np.ndarray
    brier: np.ndarray


class Tally:
    """Gather what figures of calibration need, batch by batch: a softmax in float64, then sums.

    Every class has its own bins of equal width in [0, 1], closed on the right, the first one on both sides. Samples
    fall into groups at random by their number, so that intervals can be had from the sums of groups.

    Args:
        classes: K >= 2.
        bins: M >= 1.
        groups: G >= 1; 1 where no interval is wanted.
        seed: of the groups.

    Attributes:
        table: (G, K, M, 5) float64, see `COUNT` and the names beside it.
        n: samples so far.

    Raises:
        ValueError: a number out of range.
    """

    def __init__(self, classes: int, bins: int = 15, groups: int = 1, seed: int = 0) -> None:
        for name, value, least in (("classes", classes, 2), ("bins", bins, 1), ("groups", groups, 1)):
            if not isinstance(value, (int, np.integer)) or value < least:
                raise ValueError(f"{name} must be a whole number >= {least}, got {value!r}")
        self.table = np.zeros((groups, classes, bins, 5))
        self.seed, self.n = seed, 0
        self._parts: list[np.ndarray] = []

    def add(self, logits: Any, labels: Any) -> Tally:
        """Add samples; returns the tally.

        Args:
            logits: (N, K) real, numpy or torch, of any floating type.
            labels: (N,) integers in [0, K).

        Raises:
            TypeError: labels are not integers.
            ValueError: wrong shape, no samples, a label out of range, or another number of classes.
        """
        from robustaug.trust.calibration.softmax_sums import fill  # imports Numba

        logits, labels = checked(logits, labels)
        groups, classes, bins, _ = self.table.shape
        if logits.shape[1] != classes:
            raise ValueError(f"logits must have {classes} classes as those before, got {logits.shape[1]}")
        group = groups_of(self.n, len(labels), groups, self.seed)
        edges = np.linspace(0.0, 1.0, bins + 1)
        out = np.empty((len(labels), 4))
        step = max(1, _CHUNK_VALUES // classes)
        for start in range(0, len(labels), step):
            rows = slice(start, start + step)
            fill(_floats(logits[rows]), labels[rows], group[rows], edges, self.table, out[rows])
        self._parts.append(out)
        self.n += len(labels)
        return self

    @property
    def predictions(self) -> Predictions:
        """Outcomes of the samples in the order they were added.

        Raises:
            ValueError: there are none.
        """
        if not self.n:
            raise ValueError("no predictions were added")
        self._parts = [np.concatenate(self._parts)]
        confidence, correct, nll, brier = self._parts[0].T
        return Predictions(confidence, correct.astype(bool), nll, brier)

    @property
    def whole(self) -> bool:
        """Whether every row of logits had a softmax; if not, no figure is a number."""
        return not np.isnan(self.predictions.confidence).any()


def groups_of(first: int, n: int, groups: int, seed: int) -> np.ndarray:
    """Return the group of the samples `first` to `first + n - 1`, (n,) int64 in [0, groups), at random."""
    if groups == 1:
        return np.zeros(n, dtype=np.int64)
    words = Keys.of(seed, torch.arange(first, first + n)).fold("calibration.groups").bits()[:, 0]
    return ((words * groups) >> 32).numpy()


def predictions(logits: Any, labels: Any) -> Predictions:
    """Return what a model said of each sample; arguments and errors as in `Tally.add`."""
    logits, labels = checked(logits, labels)
    return Tally(logits.shape[1], bins=1).add(logits, labels).predictions


def checked(logits: Any, labels: Any) -> tuple[Any, np.ndarray]:
    """Return logits (N, K) as they are and int64 labels (N,), or say what is wrong with them.

    Raises:
        TypeError, ValueError: as `Tally.add`.
    """
    logits = logits.detach() if isinstance(logits, Tensor) else np.asarray(logits)
    labels = labels.detach().cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
    if logits.ndim != 2 or logits.shape[0] < 1 or logits.shape[1] < 2:
        raise ValueError(
            f"logits must have shape (N, K) with N >= 1 and K >= 2, got {tuple(logits.shape)}; "
            "for two classes give both logits"
        )
    if labels.shape != (len(logits),):
        raise ValueError(f"labels must have shape ({len(logits)},), one for each row of logits, got {labels.shape}")
    if not np.issubdtype(labels.dtype, np.integer):
        raise TypeError(f"labels must be integers, got {labels.dtype}")
    classes = logits.shape[1]
    if wrong := np.count_nonzero((labels < 0) | (labels >= classes)):
        raise ValueError(f"labels must be in [0, {classes}), {wrong} of {len(labels)} are not")
    return logits, labels.astype(np.int64)


def finite_logits(logits: Any, labels: Any, what: str) -> tuple[np.ndarray, np.ndarray]:
    """Return float64 logits (N, K) and int64 labels (N,) to fit something to.

    Args:
        what: is fitted, for the message.

    Raises:
        TypeError, ValueError: as `Tally.add`, or logits that are not finite.
    """
    logits, labels = checked(logits, labels)
    logits = logits.double().cpu().numpy() if isinstance(logits, Tensor) else logits.astype(np.float64)
    if bad := np.count_nonzero(~np.isfinite(logits)):
        rows = np.count_nonzero(~np.isfinite(logits).all(axis=1))
        raise ValueError(
            f"logits must be finite to fit {what}: {bad} values in {rows} of {len(logits)} rows are not; "
            "leave these samples out, or mend the model"
        )
    return logits, labels


def _floats(logits: Any) -> np.ndarray:
    """Return float32 or float64 in rows that lie one after the other, (N, K)."""
    if isinstance(logits, Tensor):
        logits = (logits if logits.dtype == torch.float64 else logits.float()).cpu().numpy()
    exact = logits.dtype in (np.float32, np.float64)
    narrow = logits.dtype == np.float16
    return np.ascontiguousarray(logits if exact else logits.astype(np.float32 if narrow else np.float64))
