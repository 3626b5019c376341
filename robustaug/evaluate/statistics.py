"""Intervals and tests on per-sample outcomes; every random draw follows from the seed and the resample's number.

NaN or infinite outcomes and empty ones are errors: a figure over them would look like a result.

Legend: N samples, R resamples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.special import gammaincinv, ndtri
from scipy.stats import beta, binom, binomtest

from robustaug.attacks.anytime import anytime_interval
from robustaug.rng import Keys

_FEW_VALUES = 8  # up to here a resample is drawn as counts of values, beyond as indices
_CHUNK_DRAWS = 1 << 21  # indices held at once: 16 MiB of int64, about ten times that while they are drawn


class Interval(NamedTuple):
    """An estimate and the ends of its confidence interval."""

    estimate: float
    low: float
    high: float


class McNemar(NamedTuple):
    """McNemar's test.

    Attributes:
        only_a, only_b: samples that only the one got right: the discordant pairs.
        p_value: two-sided.
    """

    only_a: int
    only_b: int
    p_value: float


def wilson(successes: float, n: float, confidence: float = 0.95) -> Interval:
    """Return a share and its Wilson score interval (Wilson 1927; formula 4 of Brown, Cai and DasGupta 2001).

    It holds its level where the textbook interval does not: few samples, and shares near 0 or 1.

    Args:
        successes: 0 <= successes <= n.
        n: samples, >= 1; of samples that weigh unequally as many as would vary as much, which may be a fraction.

    Raises:
        ValueError: counts or confidence out of range.

    >>> [round(value, 3) for value in wilson(18, 20)]
    [0.9, 0.699, 0.972]
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"needs 0 <= successes <= n and n >= 1, got successes={successes}, n={n}")
    z = float(ndtri(0.5 + _level(confidence) / 2))
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    # the ends meet 0 and 1 exactly where no or all samples succeed; rounding must not cross the estimate
    return Interval(
        share, max(0.0, centre - half) if successes else 0.0, min(1.0, centre + half) if successes < n else 1.0
    )


def anytime(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """Return a share and an interval that holds however it was decided to stop at n; wider than `wilson`.

    Raises:
        ValueError: counts or confidence out of range.

    >>> [round(value, 2) for value in anytime(90, 100)]
    [0.9, 0.77, 0.97]
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"needs 0 <= successes <= n and n >= 1, got successes={successes}, n={n}")
    return Interval(successes / n, *anytime_interval(successes, n, _level(confidence)))


def clopper_pearson_lower(successes: Any, n: int, alpha: float) -> np.ndarray:
    """Return the one-sided lower bound of a share that is too high with probability alpha at most, (N,) float64.

    Exact at every n: the alpha quantile of Beta(k, n - k + 1) (Clopper and Pearson 1934).

    Args:
        successes: (N,) whole numbers k, 0 <= k <= n.
        n: trials of each, >= 1.
        alpha: in (0, 1).

    Raises:
        ValueError: counts or alpha out of range.

    >>> clopper_pearson_lower([0, 99, 100], 100, 0.001).round(4).tolist()
    [0.0, 0.9114, 0.9333]
    """
    k = np.asarray(successes, dtype=np.int64)
    if n < 1 or not ((k >= 0) & (k <= n)).all():
        raise ValueError(f"needs 0 <= successes <= n and n >= 1, got n={n} and successes {np.unique(k)[[0, -1]]}")
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must be in (0, 1), got {alpha!r}; write 0.001 for 0.1 %")
    return np.where(k > 0, beta.ppf(alpha, np.maximum(k, 1), n - k + 1), 0.0)


def auroc_interval(higher: Any, lower: Any, confidence: float = 0.95) -> Interval:
    """Return the chance that one score exceeds another, ties counted half, with its interval from the normal law.

    Its variance follows from how each score stands among all of the other kind (DeLong, DeLong and Clarke-Pearson
    1988); the interval is cut at 0 and 1. Where the scores do not vary so, as when the kinds are wholly apart, it is
    Wilson's of as many independent pairs as the rarer kind has scores: what was never seen is not held impossible.

    Args:
        higher: (N,) scores of the kind that should be higher, N >= 2.
        lower: (M,) scores of the other kind, M >= 2.

    Raises:
        ValueError: fewer than two scores of a kind, or some that are not finite.

    >>> [round(value, 3) for value in auroc_interval([1, 2, 3, 4], [0, 1, 2, 3])]
    [0.719, 0.335, 1.0]
    """
    a, b = _outcomes("higher", higher), _outcomes("lower", lower)
    if min(len(a), len(b)) < 2:
        raise ValueError(f"needs at least two scores of either kind, got {len(a)} and {len(b)}")
    above, below = placements(a, b)
    deviation = math.sqrt(above.var(ddof=1) / len(a) + below.var(ddof=1) / len(b))
    half = float(ndtri(0.5 + _level(confidence) / 2)) * deviation
    estimate = float(above.mean())
    if deviation == 0:
        pairs = min(len(a), len(b))
        return wilson(estimate * pairs, pairs, confidence)
    return Interval(estimate, max(0.0, estimate - half), min(1.0, estimate + half))


def bootstrap_ci(values: Any, seed: int = 0, n_resamples: int = 10_000, confidence: float = 0.95) -> Interval:
    """Return the mean of per-sample outcomes and its percentile bootstrap interval (Efron 1979).

    Outcomes of at most eight distinct values, such as 0/1, are resampled as counts: how often each value is drawn is
    multinomial, so N costs nothing. Others are resampled by index, in pieces of bounded memory. Equal outcomes give
    an interval of no width: a resample cannot hold what was never seen (for shares, `wilson` does not say that).

    Args:
        values: (N,) finite numbers or bool: correct, loss, squared error, ...
        seed: in [0, 2^64); the same seed gives the same interval.
        n_resamples: R; at least one must fall beyond each end.

    Raises:
        ValueError: empty, wrong shape, NaN or infinite values, or an option out of range.
    """
    values = _outcomes("values", values)
    tail = _tail(confidence, n_resamples)
    distinct, counts = np.unique(values, return_counts=True)
    if len(distinct) <= _FEW_VALUES:
        means = _multinomial(counts, seed, n_resamples) @ distinct / len(values)
    else:
        means = np.concatenate([values[rows].mean(axis=1) for rows in _resamples(len(values), seed, n_resamples)])
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(float(values.mean()), float(low), float(high))


def bootstrap_cells(counts: Any, seed: int = 0, n_resamples: int = 10_000) -> np.ndarray:
    """Return (R, V) float64 weights of the V cells of a table of counts, for figures that are ratios of its sums.

    The Bayesian bootstrap (Rubin 1981) gives each sample an exponential weight, so that the weight of a cell follows a
    gamma law: N costs nothing. Half a sample is added to every cell, after Jeffreys: what was never seen is not held
    impossible, and no sum that a figure is divided by is 0.

    Args:
        counts: (V,) >= 0.
        seed, n_resamples: as in `bootstrap_ci`.

    Raises:
        ValueError: wrong shape, or counts that are negative or not finite.
    """
    cells = _outcomes("counts", counts)
    if (cells < 0).any():
        raise ValueError(f"counts must be >= 0, got {cells.min():g}")
    return gammaincinv(cells + 0.5, _uniform(Keys.of(seed, n_resamples).fold("bootstrap.cells"), len(cells)))


def bootstrap_statistic(
    statistic: Callable[[np.ndarray], float], n: int, seed: int = 0, n_resamples: int = 1_000, confidence: float = 0.95
) -> Interval:
    """Return any figure of N samples and its percentile bootstrap interval.

    For figures that are no means, such as the calibration error:
    `bootstrap_statistic(lambda rows: ece_from_confidence(confidence[rows], correct[rows]), len(correct))`.

    Args:
        statistic: called with (N,) int64 rows, drawn with replacement; first with every row once for the estimate.
        n: N >= 1.
        seed, n_resamples, confidence: as in `bootstrap_ci`.

    Raises:
        ValueError: an option out of range, or the statistic is NaN on a resample.
    """
    if n < 1:
        raise ValueError(f"n must be >= 1, got {n}")
    tail = _tail(confidence, n_resamples)
    found = np.array([statistic(row) for rows in _resamples(n, seed, n_resamples) for row in rows], dtype=np.float64)
    estimate = float(statistic(np.arange(n)))
    if missing := int(np.isnan([estimate, *found]).sum()):
        raise ValueError(f"the statistic is NaN on {missing} of {n_resamples + 1} evaluations, so it has no interval")
    low, high = np.quantile(found, [tail, 1 - tail])
    return Interval(estimate, float(low), float(high))


def paired_bootstrap(a: Any, b: Any, seed: int = 0, n_resamples: int = 10_000, confidence: float = 0.95) -> Interval:
    """Return the mean of b - a over the same samples and its percentile bootstrap interval.

    Resampling pairs keeps what the two models share: samples that are easy or hard for both widen nothing. Identical
    outcomes give (0, 0, 0).

    Args:
        a, b: (N,) outcomes of two models, one pair a sample: correct (bool or 0/1), or any finite per-sample figure.
        seed, n_resamples, confidence: as in `bootstrap_ci`.

    Raises:
        ValueError: unequal lengths; otherwise as in `bootstrap_ci`.
    """
    a, b = _pair(a, b)
    return bootstrap_ci(b - a, seed, n_resamples, confidence)


def mcnemar(a_correct: Any, b_correct: Any) -> McNemar:
    """Test whether two models are right equally often, from the samples on which they disagree (McNemar 1947).

    The exact binomial test at every count: among discordant pairs either model is right with chance one half. It
    never exceeds its level, needs no switch to an approximation, and is quick at any N; in exchange it is
    conservative where few pairs are discordant. Without any, p is 1.

    Args:
        a_correct, b_correct: (N,) bool or 0/1, one pair a sample.

    Raises:
        ValueError: unequal lengths, empty, or values other than 0 and 1.
    """
    a, b = _pair(a_correct, b_correct)
    for name, values in (("a", a), ("b", b)):
        if not np.isin(values, (0, 1)).all():
            raise ValueError(f"{name} must hold only true and false, or 1 and 0")
    only_a, only_b = int((a > b).sum()), int((b > a).sum())
    p_value = float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0
    return McNemar(only_a, only_b, min(1.0, p_value))


def holm(p_values: Any) -> np.ndarray:
    """Return p-values corrected for their number, in the order given (Holm 1979).

    Rejecting where the corrected value is at most alpha keeps the chance of any false rejection at most alpha,
    however the tests depend on each other.

    Args:
        p_values: (M,) in [0, 1]; may be empty.

    Raises:
        ValueError: wrong shape, or a value out of range (NaN is).

    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, dtype=np.float64)
    if p.ndim != 1:
        raise ValueError(f"p_values must have shape (M,), got {p.shape}")
    if not ((p >= 0) & (p <= 1)).all():  # written so that NaN fails too
        raise ValueError(f"p_values must be in [0, 1], {int((~((p >= 0) & (p <= 1))).sum())} of {len(p)} are not")
    order = np.argsort(p, kind="stable")
    corrected = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    out = np.empty_like(p)
    out[order] = corrected
    return out


def placements(higher: np.ndarray, lower: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return for each of (N,) scores the share of the (M,) others below it, and for each of these that above it.

    Ties count half. The mean of either is the AUROC.
    """
    return _share_below(higher, lower), 1 - _share_below(lower, higher)


def _share_below(values: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return for each of (N,) values the share of the others that lie below it, equal ones counted half."""
    others = np.sort(others)
    sides = (np.searchsorted(others, values, side) for side in ("left", "right"))
    return sum(sides) / (2 * len(others))  # type: ignore[return-value]


def _multinomial(counts: np.ndarray, seed: int, n_resamples: int) -> np.ndarray:
    """Return (R, V) float64 counts of V values in resamples of N = sum(counts): one binomial after another."""
    uniforms = _uniform(Keys.of(seed, n_resamples).fold("bootstrap.counts"), len(counts))
    drawn = np.empty((n_resamples, len(counts)))
    left, mass = np.full(n_resamples, counts.sum(), dtype=np.float64), int(counts.sum())
    for value, count in enumerate(counts):
        # the last value has count == mass, so it takes all that is left
        drawn[:, value] = left if count == mass else binom.ppf(uniforms[:, value], left, count / mass)
        left, mass = left - drawn[:, value], mass - int(count)
    return drawn


def _resamples(n: int, seed: int, n_resamples: int) -> Iterator[np.ndarray]:
    """Yield (r, N) int64 rows drawn with replacement, R of them in all; pieces do not change the draws."""
    step = max(1, _CHUNK_DRAWS // n)
    for start in range(0, n_resamples, step):
        keys = Keys.of(seed, torch.arange(start, min(start + step, n_resamples))).fold("bootstrap.rows")
        yield ((keys.bits(n) * n) >> 32).numpy()  # a 32-bit word scaled to [0, n): biased by less than n / 2^32


def _uniform(keys: Keys, n: int) -> np.ndarray:
    """Return (B, n) float64 strictly inside (0, 1): quantile functions are infinite or off by one at the ends."""
    words = keys.bits(2 * n).numpy()
    return (((words[:, 0::2] >> 6) << 26 | words[:, 1::2] >> 6) + 0.5) * 2.0**-52


def _outcomes(name: str, values: Any) -> np.ndarray:
    array = (values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)).astype(float)
    if array.ndim != 1 or not len(array):
        raise ValueError(f"{name} must have shape (N,) with N >= 1, got {array.shape}")
    if bad := np.count_nonzero(~np.isfinite(array)):
        raise ValueError(f"{name} must be finite, {bad} of {len(array)} values are not")
    return array


def _pair(a: Any, b: Any) -> tuple[np.ndarray, np.ndarray]:
    a, b = _outcomes("a", a), _outcomes("b", b)
    if len(a) != len(b):
        raise ValueError(f"a and b must be outcomes of the same samples, got {len(a)} and {len(b)}")
    return a, b


def _level(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be in (0, 1), got {confidence!r}; write 0.95 for 95 %")
    return confidence


def _tail(confidence: float, n_resamples: int) -> float:
    tail = (1 - _level(confidence)) / 2
    if n_resamples * tail < 1:
        raise ValueError(
            f"n_resamples must be >= {math.ceil(1 / tail)} for confidence {confidence:g}, got {n_resamples}"
        )
    return tail
