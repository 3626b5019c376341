"""Groups of samples that look alike to a model and on which it errs more than elsewhere.

One half of the samples says where groups lie and which of them look bad; only the other half says whether they are.

Legend: N samples, D features, E numbers kept of them, C clusters.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.stats import hypergeom
from torch import Tensor

from robustaug.evaluate.metrics import NAMED_COHORT
from robustaug.evaluate.statistics import holm, wilson
from robustaug.rng import Keys

KEPT = 32
"""Numbers kept of a sample's features, at most: distances survive a random projection."""
_COUNTS = (4, 8, 16, 32)
_TESTED = 12  # clusters that go to the test, at most: each more costs all the others certainty
_FITTED = 20_000  # samples that clusters are fitted to, at most


class Cluster(NamedTuple):
    """A group that a test found worse than the rest.

    Attributes:
        members: (N,) bool, of both halves.
        n, errors: of the half that tested it.
        error_rate, low, high: there, with its 95 % Wilson interval.
        rest: the error rate of that half's other samples.
        p_value: that errors fall into it by chance alone so often, corrected for all clusters tested (Holm 1979).
    """

    members: np.ndarray
    n: int
    errors: int
    error_rate: float
    low: float
    high: float
    rest: float
    p_value: float


class Clusters(NamedTuple):
    """What a search found: clusters, the least likely by chance first, and how many were tested."""

    found: list[Cluster]
    tested: int


def embedded(features: Tensor | None) -> dict[str, np.ndarray]:
    """Return the column "embedding", (B, E) float32, of a model's features (B, D); no column where it shows none.

    More than `KEPT` features are projected to so many at random, the same way for every batch and model (Johnson and
    Lindenstrauss 1984), so that nothing must be fitted and distances are kept on the mean.
    """
    if features is None:
        return {}
    features, width = features.float(), features.shape[1]
    if width > KEPT:
        projection = Keys.of(0, torch.arange(width)).fold("slices.projection").normal(KEPT)
        features = features @ projection.to(features.dtype) / math.sqrt(KEPT)
    return {"embedding": features.numpy()}


def find_clusters(
    embedding: Any, correct: Any, index: Any, alpha: float = 0.05, min_size: int = NAMED_COHORT, seed: int = 0
) -> Clusters:
    """Search for groups of near samples whose error rate is higher than that of the rest.

    K-means with 4, 8, 16 and 32 clusters runs on one half of the samples. Of its clusters those whose error rate there
    is above the mean, the least likely by chance first, are tested on the other half, by how many of all errors fall
    into them: hypergeometric where errors and clusters have nothing to do with each other. As neither clusters nor
    choice have seen that half, Holm's correction over those tested holds the chance of any false alarm at alpha. A
    cluster is left out where it would not be found among the samples that those above it leave.

    Args:
        embedding: (N, E) finite numbers; each is scaled to unit variance.
        correct: (N,) bool, or 0 and 1.
        index: (N,) int64, which samples these are; the halves go by it and the seed alone.
        alpha: in (0, 1).
        min_size: samples of a cluster in either half, at least.
        seed: of halves and clusters.

    Raises:
        ValueError: lengths that differ, values that are not finite, or an option out of range.
    """
    x, right = np.asarray(embedding, dtype=np.float64), np.asarray(correct)
    samples = torch.from_numpy(np.array(index, dtype=np.int64))
    if x.ndim != 2 or right.shape != (len(x),) or len(samples) != len(x):
        raise ValueError(
            f"embedding must have shape (N, E), correct and index (N,); got {x.shape}, {right.shape} and "
            f"({len(samples)},)"
        )
    if not np.isfinite(x).all() or not np.isin(right, (0, 1)).all():
        raise ValueError("embedding must be finite, and correct hold only true and false, or 1 and 0")
    if not 0 < alpha < 1 or min_size < 1:
        raise ValueError(f"needs alpha in (0, 1) and min_size >= 1, got alpha={alpha} and min_size={min_size}")
    wrong = right == 0
    first = (Keys.of(seed, samples).fold("slices.half").bits()[:, 0] % 2 == 0).numpy()
    if not wrong[first].any() or not wrong[~first].any():
        return Clusters([], 0)
    chosen = _candidates(_scaled(x, first), wrong, first, min_size, seed)
    p = [_chance(wrong[~first], inside[~first]) for inside in chosen]
    corrected = holm(p)
    found: list[Cluster] = []
    left = ~first
    for at in np.argsort(p, kind="stable"):
        inside = chosen[at]
        fresh = int((inside & left).sum())
        again = _chance(wrong[left], inside[left]) * len(chosen) if fresh >= min_size else 1.0
        if corrected[at] <= alpha and again <= alpha:
            found.append(_cluster(inside, wrong, ~first, float(corrected[at])))
            left = left & ~inside
    return Clusters(found, len(chosen))


def _scaled(x: np.ndarray, first: np.ndarray) -> np.ndarray:
    spread = x[first].std(axis=0)
    return (x - x[first].mean(axis=0)) / np.where(spread > 0, spread, 1)


def _candidates(x: np.ndarray, wrong: np.ndarray, first: np.ndarray, min_size: int, seed: int) -> list[np.ndarray]:
    """Return (N,) bool for each cluster that looks bad in the first half."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    rows = np.flatnonzero(first)[:: max(1, math.ceil(first.sum() / _FITTED))]
    found: list[tuple[float, np.ndarray]] = []
    for clusters in _COUNTS:
        if 2 * len(rows) < clusters * min_size:  # most would be too small to test
            break
        state = int(Keys.of(seed, clusters).fold("slices.kmeans").bits()[-1, 0] % 2**31)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct samples than clusters
            fitted = KMeans(clusters, n_init=4, random_state=state).fit(x[rows])  # type: ignore[arg-type]
        at = np.asarray(fitted.predict(x))
        for number in range(clusters):
            inside = at == number
            sizes = int(inside[first].sum()), int(inside[~first].sum())
            if min(sizes) >= min_size and wrong[first & inside].mean() > wrong[first].mean():
                found.append((_chance(wrong[first], inside[first]), inside))
    return [inside for _, inside in sorted(found, key=lambda one: one[0])[:_TESTED]]


def _chance(wrong: np.ndarray, inside: np.ndarray) -> float:
    """Return the chance that so many of all errors or more fall inside."""
    return float(hypergeom.sf(wrong[inside].sum() - 1, len(wrong), wrong.sum(), inside.sum()))


def _cluster(inside: np.ndarray, wrong: np.ndarray, testing: np.ndarray, p_value: float) -> Cluster:
    members = inside & testing
    n, errors = int(members.sum()), int(wrong[members].sum())
    rest = float(wrong[testing & ~inside].mean())
    return Cluster(inside, n, errors, *wilson(errors, n), rest, p_value)


def over_represented(values: Sequence[str] | np.ndarray, inside: np.ndarray, level: float) -> list[tuple[str, float]]:
    """Return the values that are more frequent inside than elsewhere beyond doubt, with their share, largest first.

    Args:
        values: (N,).
        inside: (N,) bool.
        level: of the one-sided test of each value; the caller corrects for how many are looked at.
    """
    names, at = np.unique(np.asarray(values, dtype=str), return_inverse=True)
    total, within = np.bincount(at, minlength=len(names)), np.bincount(at[inside], minlength=len(names))
    chance = hypergeom.sf(within - 1, len(at), total, inside.sum())
    sure = [k for k in np.flatnonzero(within) if chance[k] * len(names) <= level]
    return [(str(names[k]), float(within[k] / inside.sum())) for k in sorted(sure, key=lambda k: -within[k])]
