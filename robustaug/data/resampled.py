"""A source whose mixture of samples is another one: label shift and covariate shift, made by choosing samples.

Legend: N samples, K classes or cohorts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor

from robustaug.data.columns import MISSING, number
from robustaug.data.opening import open_source
from robustaug.data.source import Source
from robustaug.data.splits import apportion, divide
from robustaug.ops.tabular.table import TABLES
from robustaug.parameters import check_count, check_number, check_share
from robustaug.registry import did_you_mean, register
from robustaug.rng import Keys, permutation

_NAME = "data.resampled"
_PARTS = 10**9  # shares are kept as so many parts, whole numbers, so that no rounding takes a sample too many


@register(_NAME)
def resampled(
    of: Any,
    *,
    prior: Mapping[str, float] | None = None,
    cohorts: Mapping[str, Mapping[str, float]] | None = None,
    tilt: Mapping[str, float] | None = None,
    size: int | None = None,
    seed: int = 0,
) -> Source:
    """A random choice of a source's samples in which classes, cohorts or numbers are more or less common.

    No sample is taken twice and each keeps its index, so that figures pair with those of the whole source. Exactly one
    of `prior`, `cohorts` and `tilt` is given; for several, name a resampled source as `of`.

    - `prior: {">50K": 0.5}` sets the share of classes and leaves how each looks: label shift.
    - `cohorts: {sex: {Female: 0.7}}` sets that of the values of a metadata column and leaves what each of them means
      for the label: covariate shift.
    - `tilt: {age: 2}` keeps each sample with a chance in proportion to e^(strength u), u in (0, 1) its rank in a
      number column: the highest is e^2 times as likely as the lowest. Covariate shift, too; below 0 it favours low
      numbers. A missing number counts as the middle.

    What is not named shares the rest in proportion. The name says how many samples were chosen, and how many
    independent ones of the shifted kind the source is worth: see `effective_size`.

    >>> import robustaug
    >>> odd = robustaug.create("data.resampled", of={"data.digits": {"split": "test"}}, prior={"8": 0.5})
    >>> odd.labels.bincount()[8] / len(odd)
    tensor(0.5000)

    Args:
        of: the source, as `name`, `{name: parameters}` or itself.
        prior: class -> share in [0, 1].
        cohorts: one metadata column -> value -> share in [0, 1].
        tilt: one number column of a table, or metadata column of numbers -> strength.
        size: samples to choose; as many as there can be when left out.
        seed: of the choice.

    Raises:
        ValueError: not exactly one way, an unknown class, column or value, shares that make no whole, or more samples
            wanted than there are.
    """
    source = open_source(of)
    ways = {key: value for key, value in (("prior", prior), ("cohorts", cohorts), ("tilt", tilt)) if value is not None}
    if len(ways) != 1:
        raise ValueError(f"{_NAME}: give exactly one of prior, cohorts and tilt, got {[*ways] or 'none'}")
    if size is not None:
        check_count(_NAME, "size", size)
    if tilt is not None:
        column, strength = _only("tilt", tilt)
        strength = check_number(_NAME, f"tilt.{column}", strength)
        rows, worth = _tilted(source, column, strength, size, seed)
        words = f"{column} tilted by {strength:g}"
    else:
        if prior is not None:
            key, names, at, shares = "prior", source.classes, source.labels, prior
        else:
            column, shares = _only("cohorts", cohorts)
            if column not in source.cohorts:
                raise ValueError(f"{_NAME}: {source.name} has no metadata column {column!r}{_near(column, source)}")
            found, places = np.unique(source.cohorts[column], return_inverse=True)
            key, names, at = f"cohorts.{column}", found.tolist(), torch.from_numpy(places)
        rows, worth = _mixed(key, names, at, shares, size, seed)
        words = ", ".join(f"{name} at {share:.4g}" for name, share in shares.items())
    return source.subset(rows, f"{source.name}, {words} ({len(rows):,} of {len(source):,}, worth {worth:,.0f})")


def effective_size(weights: Any) -> float:
    """Return how many samples of equal weight vary as much as these: (sum w)^2 / sum w^2 (Kish 1965).

    With the weights that would turn a source into a shifted one, this is what the source is worth there. The samples
    chosen are never more.

    Args:
        weights: (N,) >= 0, not all 0.

    >>> effective_size([1, 1, 1, 0])
    3.0
    """
    w = np.asarray(weights, dtype=np.float64)
    return float(w.sum() ** 2 / np.square(w).sum())


def _mixed(key: str, names: list[str], at: Tensor, given: Any, size: int | None, seed: int) -> tuple[Tensor, float]:
    """Return the positions of a choice whose groups have these shares, and what all samples are worth."""
    counts = torch.bincount(at, minlength=len(names))
    parts = _parts(key, names, counts, given)
    present = parts > 0
    most = int((counts[present] * int(parts.sum()) // parts[present]).min())
    if size is not None and size > most:
        scarce = names[int(torch.where(present, counts / parts, math.inf).argmin())]
        raise ValueError(
            f"{_NAME}: {size:,} samples at these shares need more of {scarce!r} than there are; size can be "
            f"{most:,} at most"
        )
    quotas = apportion(size or most, parts)
    weights = (parts.double() / counts.clamp(min=1))[at]
    return divide(at, [quotas], seed)[0], effective_size(weights)


def _parts(key: str, names: list[str], counts: Tensor, given: Any) -> Tensor:
    """Return the share of each group in billionths, (K,) int64: those given, and the rest by how common they are."""
    if not isinstance(given, Mapping) or not given:
        raise ValueError(f"{_NAME}: {key} must read {{name: share}}, got {given!r}")
    wanted = {str(name): share for name, share in given.items()}
    for name, share in wanted.items():
        if name not in names:
            raise ValueError(f"{_NAME}: {key} names {name!r}, which is not there{did_you_mean(name, names)}")
        check_share(_NAME, f"{key}.{name}", share)
        if share > 0 and counts[names.index(name)] == 0:
            raise ValueError(f"{_NAME}: {key} wants samples of {name!r}, but there are none")
    others = torch.tensor([name not in wanted for name in names]) & (counts > 0)
    total = math.fsum(wanted.values())
    if total > 1 + 1e-6 or (not others.any() and total < 1 - 1e-6):
        fix = "at most 1" if others.any() else "1, for none is left to take the rest"
        raise ValueError(f"{_NAME}: the shares of {key} add up to {total:g}; they must add up to {fix}")
    parts = torch.zeros(len(names), dtype=torch.int64)
    for name, share in wanted.items():
        parts[names.index(name)] = round(share * _PARTS)
    rest = max(_PARTS - int(parts.sum()), 0)
    return parts + apportion(rest, counts * others) if others.any() else parts


def _tilted(source: Source, column: str, strength: float, size: int | None, seed: int) -> tuple[Tensor, float]:
    """Return the positions kept by rejection, each sample by a draw of its own, and what all samples are worth."""
    if not math.isfinite(strength):
        raise ValueError(f"{_NAME}: the strength of tilt must be finite, got {strength}")
    values = _numbers(source, column)
    known = np.isfinite(values)
    if len(np.unique(values[known])) < 2:
        raise ValueError(f"{_NAME}: column {column!r} of {source.name} never varies, so nothing in it can be tilted")
    rank = np.full(len(values), 0.5)
    rank[known] = (rankdata(values[known]) - 0.5) / known.sum()  # equal numbers share their mean rank
    chance = np.exp(strength * rank - max(strength, 0.0))
    drawn = Keys.of(seed, source.sample_index).fold("tilt").uniform()[:, 0].numpy()
    kept = torch.from_numpy(np.flatnonzero(drawn < chance))
    if len(kept) < (size or 1):
        raise ValueError(
            f"{_NAME}: a tilt of {strength:g} leaves {len(kept):,} of {len(source):,} samples, size wants "
            f"{size or 1:,}; tilt less, or ask for fewer"
        )
    if size is not None:
        kept = kept[permutation(len(kept), seed, use="size")[:size]].sort().values
    return kept, effective_size(chance)


def _numbers(source: Source, column: str) -> np.ndarray:
    """Return (N,) float64 of a number column, NaN where missing: of a table, or else of the metadata."""
    if source.layout is TABLES:
        table = source.fetch(range(len(source)))[0].image
        if column in table.numbers:
            return table.values[:, table.numbers.index(column)].numpy()
    if column not in source.cohorts:
        raise ValueError(f"{_NAME}: {source.name} has no column {column!r}{_near(column, source)}")
    found = [math.nan if value == MISSING else number(value) for value in source.cohorts[column].tolist()]
    if wrong := [value for value, one in zip(source.cohorts[column], found, strict=True) if one is None]:
        raise ValueError(f"{_NAME}: column {column!r} of {source.name} holds {str(wrong[0])!r}, which is no number")
    return np.array(found, dtype=np.float64)


def _near(column: str, source: Source) -> str:
    tables = source.fetch([0])[0].image.numbers if source.layout is TABLES else ()
    known = [*tables, *source.cohorts]
    return did_you_mean(column, known) or f"; columns: {', '.join(map(repr, known))}"


def _only(key: str, given: Any) -> tuple[str, Any]:
    if not isinstance(given, Mapping) or len(given) != 1:
        raise ValueError(f"{_NAME}: {key} names one column, got {given!r}; for two, resample a resampled source")
    [(column, value)] = given.items()
    return str(column), value
