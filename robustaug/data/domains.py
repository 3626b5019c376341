"""Parts of a source by where its samples come from: a site, a device, a time, a place.

Legend: N samples, D domains, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robustaug.data.opening import open_source
from robustaug.data.source import Source
from robustaug.data.splits import apportion, choose, divide
from robustaug.parameters import check_share
from robustaug.registry import did_you_mean, register

Values = str | int | float | Sequence[Any]


@register("data.domains")
def domains(
    of: Any,
    column: str,
    split: str = "all",
    *,
    keep: Values = (),
    leave_out: Values = (),
    val: Values = (),
    test: Values = (),
    val_share: float = 0.0,
    test_share: float = 0.0,
    seed: int = 0,
) -> Source:
    """Samples of some domains of another source, and parts that are disjoint by domain.

    A domain is a value of a metadata column. Domains named in `val` and `test` are those parts, whole: none of their
    samples is in another. A part may instead be a random share of what is left, with each class of each domain in
    proportion. Parts are made first and then cut down to the domains asked for, so the same arguments with another
    `split`, `keep` or `leave_out` never give a sample of one part to another. Means and categories by which rows of a
    table and series are encoded stay those of `of`.

    >>> import robustaug
    >>> few = robustaug.create("data.domains", of="data.digits", column="ink", leave_out="heavy", split="train")
    >>> sorted(set(few.cohorts["ink"].tolist()))
    ['light', 'medium']

    Args:
        of: the source, as `name`, `{name: parameters}` or itself.
        column: of its metadata, such as site.
        split: "train", "val" or "test"; or "all" of the samples.
        keep: the domains to keep, one or a list; all when left out.
        leave_out: the domains not to keep.
        val, test: domains that are the part of this name.
        val_share, test_share: of the samples of the other domains; for a part that has no domains of its own.
        seed: of the random parts.

    Raises:
        ValueError: a column or domain that the source lacks, a domain or part given twice, a part that there is not, or
            nothing left; names the column, the value and what there is.
    """
    source = open_source(of)
    values = column_of("data.domains", source, column)
    named = {"keep": keep, "leave_out": leave_out, "val": val, "test": test}
    asked = {key: _known(source, column, values, key, given) for key, given in named.items()}
    for a, b in (("keep", "leave_out"), ("val", "test")):
        if both := [value for value in asked[a] if value in asked[b]]:
            raise ValueError(f"data.domains: {column} {both[0]!r} is in {a} and in {b}; name it in one of them")
    parts = _parts(source, values, asked["val"], asked["test"], val_share, test_share, seed)
    rows = choose("data.domains", parts, split)
    kept = np.isin(values, asked["keep"]) if asked["keep"] else ~np.isin(values, asked["leave_out"])
    rows = rows[torch.from_numpy(kept)[rows]]
    if not len(rows):
        raise ValueError(f"data.domains: no sample is left in split {split!r} of {source.name}; {_said(asked)}")
    words = [f"{column} {', '.join(asked['keep'])}"] if asked["keep"] else []
    words += [f"without {column} {', '.join(asked['leave_out'])}"] if asked["leave_out"] else []
    name = "/".join([source.name, *([] if split == "all" else [split]), *words])
    return source.subset(rows, name)


def column_of(where: str, source: Source, column: str) -> np.ndarray:
    """Return (N,) values of a metadata column.

    Args:
        where: starts the message.

    Raises:
        ValueError: there is no such column; names those there are.
    """
    if column not in source.cohorts:
        columns = [*source.cohorts]
        raise ValueError(
            f"{where}: {source.name} has no column {column!r}{did_you_mean(column, columns)}; its metadata columns are "
            f"{columns}, and its own cohorts parameter, where it has one, says which to keep"
        )
    return source.cohorts[column]


def domain_names(values: np.ndarray) -> list[str]:
    """Return the domains of a column (N,), sorted."""
    return [str(name) for name in np.unique(values)]


def _known(source: Source, column: str, values: np.ndarray, key: str, given: Values) -> list[str]:
    wanted = [str(value) for value in ([given] if isinstance(given, str | int | float) else given)]
    known = domain_names(values)
    for value in wanted:
        if value not in known:
            few = f"{known[:10]}" + (f" and {len(known) - 10:,} more" if len(known) > 10 else "")
            raise ValueError(
                f"data.domains: {key}: no sample of {source.name} has {column} {value!r}{did_you_mean(value, known)}; "
                f"it has {few}"
            )
    return wanted


def _parts(
    source: Source,
    values: np.ndarray,
    val: Sequence[str],
    test: Sequence[str],
    val_share: float,
    test_share: float,
    seed: int,
) -> dict[str, Tensor]:
    held = {"val": (val, val_share), "test": (test, test_share)}
    for part, (names, share) in held.items():
        check_share("data.domains", f"{part}_share", share, whole=False)
        if names and share:
            raise ValueError(f"data.domains: {part} is given by domains and by {part}_share; leave one of them out")
    if val_share + test_share >= 1:
        raise ValueError(
            f"data.domains: val_share {val_share:g} and test_share {test_share:g} leave nothing to train on"
        )
    parts = {part: _rows(np.isin(values, names)) for part, (names, _) in held.items() if names}
    rest = _rows(~np.isin(values, [*val, *test]))
    if not len(rest):
        raise ValueError("data.domains: val and test name every domain, so nothing is left to train on; name fewer")
    domain = np.unique(values, return_inverse=True)[1]
    code = torch.from_numpy(domain)[rest] * len(source.classes) + source.labels[rest]
    cell = code.unique(return_inverse=True)[1]  # class by class of each domain
    left = torch.bincount(cell)
    quotas: dict[str, Tensor] = {}
    for part, (_, share) in held.items():
        if share:
            quotas[part] = apportion(round(len(rest) * share), left)
            left = left - quotas[part]
    drawn = divide(cell, [*quotas.values()], seed)
    parts |= {part: rest[rows] for part, rows in zip([*quotas, "train"], drawn, strict=True)}
    return parts | {"all": torch.arange(len(source))}


def _rows(chosen: np.ndarray) -> Tensor:
    return torch.from_numpy(np.flatnonzero(chosen))


def _said(asked: dict[str, list[str]]) -> str:
    return ", ".join(f"{key}: {names}" for key, names in asked.items() if names) or "name fewer domains"
