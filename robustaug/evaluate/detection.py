"""Bootstrap intervals of how well a score tells foreign data apart, from counts: no resample is sorted.

Legend: N known and M foreign samples, T distinct scores in descending order, R resamples.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.special import expit, logit

from robustaug.evaluate.statistics import Interval, wilson
from robustaug.rng import Keys

_RESAMPLES = 2_000
_CHUNK_VALUES = 1 << 22  # counts or draws held at once


def detection_interval(
    figure: str, known: np.ndarray, foreign: np.ndarray, correct: np.ndarray, confidence: float, seed: int = 0
) -> Interval:
    """Return aupr, aupr_foreign or aurc as in `ood.detection`, with an interval from the bootstrap.

    Precision leans upwards by chance, in resamples, which hold samples twice, more than in what was measured: their
    quantiles may even leave out the figure. So its true logit is no further from the measured one, to either side, than
    a resample's mostly is. A figure so near to 0 or 1 that resamples hardly move it is besides in doubt as a share of
    as many samples as the rarer kind has, see `auroc_interval`.

    Args:
        confidence: in (0, 1).
        figure, known, foreign, correct, seed: as in `detection_draws`.
    """
    found = detection_draws(figure, known, foreign, correct, confidence, seed)
    pairs = min(len(known), len(foreign))
    least = 1 / (2 * pairs + 2)  # the logits of 0 and 1 are infinite
    logits = logit(np.clip(found, least, 1 - least))
    reach = np.quantile(np.abs(logits[1:] - logits[0]), confidence)
    estimate, low, high = float(found[0]), float(expit(logits[0] - reach)), float(expit(logits[0] + reach))
    if not least <= estimate <= 1 - least:
        share = wilson(min(max(estimate, 0.0), 1.0) * pairs, pairs, confidence)
        low, high = min(low, share.low), max(high, share.high)
    return Interval(estimate, min(low, estimate), max(high, estimate))


def detection_draws(
    figure: str, known: np.ndarray, foreign: np.ndarray, correct: np.ndarray, confidence: float, seed: int = 0
) -> np.ndarray:
    """Return (1 + R,) a figure and what it is in each of R resamples, which depend on N, M and the seed alone.

    Known and foreign samples are resampled each by themselves: their shares, which these figures depend on, stay.

    Args:
        figure: fpr95, aupr, aupr_foreign or aurc.
        known, foreign: (N,) and (M,) scores, none NaN.
        correct: (N,) bool, whether the known samples are predicted right.
        confidence: of an interval from the draws, in (0, 1); R is large enough for it.
        seed: of the resamples.
    """
    distinct, at = np.unique(-np.concatenate([known, foreign]), return_inverse=True)
    ours, theirs, wrong = at[: len(known)], at[len(known) :], ~correct.astype(bool)

    def figures(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Return a figure for each row of known (R, N) and of foreign (R, M) samples."""
        n = len(distinct)
        return _figure(figure, _counts(ours[rows], n), _counts(theirs[others], n), _counts(ours[rows], n, wrong[rows]))

    resamples = max(_RESAMPLES, math.ceil(40 / (1 - confidence)))  # twenty beyond each end
    step = max(1, _CHUNK_VALUES // len(at))
    found = [figures(np.arange(len(known))[None], np.arange(len(foreign))[None])]
    for start in range(0, resamples, step):
        keys = Keys.of(seed, torch.arange(start, min(start + step, resamples)))
        known_rows = _rows(keys, "bootstrap.known", len(known))
        found.append(figures(known_rows, _rows(keys, "bootstrap.foreign", len(foreign))))
    return np.concatenate(found)


def _rows(keys: Keys, use: str, n: int) -> np.ndarray:
    """Return (R, n) rows drawn with replacement."""
    return ((keys.fold(use).bits(n) * n) >> 32).numpy()


def _counts(at: np.ndarray, n: int, weights: np.ndarray | None = None) -> np.ndarray:
    """Return how many of each row of `at` (R, N) are 0 to n - 1, or the sum of their weights: (R, n) float64."""
    places = at + n * np.arange(len(at))[:, None]
    given = None if weights is None else weights.ravel()
    return np.bincount(places.ravel(), given, n * len(at)).reshape(len(at), n).astype(np.float64)


def _figure(figure: str, known: np.ndarray, foreign: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    """Return (R,) figures from counts (R, T) of known, foreign and wrongly predicted known samples."""
    match figure:
        case "fpr95":
            return _accepted(known, foreign)
        case "aupr":
            return _average_precision(known, foreign)
        case "aupr_foreign":
            return _average_precision(foreign[:, ::-1], known[:, ::-1])
        case "aurc":
            return _risk(known + foreign, wrong + foreign)
    raise ValueError(f"figure must be fpr95, aupr, aupr_foreign or aurc, got {figure!r}")


def _accepted(known: np.ndarray, foreign: np.ndarray) -> np.ndarray:
    """Return the share of foreign samples at or above the highest score that accepts 95 % of the known ones."""
    n = known[0].sum()
    enough = known.cumsum(axis=1) >= max(1, math.ceil(0.95 * n - 1e-9))
    taken = np.take_along_axis(foreign.cumsum(axis=1), enough.argmax(axis=1)[:, None], axis=1)[:, 0]
    return taken / foreign.sum(axis=1)


def _average_precision(positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    found, taken = positive.cumsum(axis=1), (positive + negative).cumsum(axis=1)
    return (positive * found / np.maximum(taken, 1)).sum(axis=1) / positive.sum(axis=1)


def _risk(answered: np.ndarray, failed: np.ndarray) -> np.ndarray:
    """Return the mean risk over the 1, 2, ... samples of highest score, ties in random order.

    Of c ties with w wrong behind A answers with W wrong, the j-th answer brings the risk to (W + w j / c) / (A + j):
    a constant and a multiple of 1 / (A + j), so their sum over j is a difference of harmonic numbers.
    """
    total = int(answered[0].sum())
    harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, total + 1))])
    before, failed_before = answered.cumsum(axis=1) - answered, failed.cumsum(axis=1) - failed
    rate = failed / np.maximum(answered, 1)
    inverse = harmonic[(before + answered).astype(int)] - harmonic[before.astype(int)]
    return (failed + (failed_before - rate * before) * inverse).sum(axis=1) / total
