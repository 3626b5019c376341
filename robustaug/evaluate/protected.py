"""Predictions compared between the groups of protected columns: asked for in a suite, read from records."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from robustaug.data.source import Source
from robustaug.evaluate.cohorts import metadata
from robustaug.evaluate.gaps import gap_intervals
from robustaug.evaluate.metrics import NAMED_COHORT
from robustaug.evaluate.records import Records
from robustaug.evaluate.statistics import Interval
from robustaug.evaluate.suite import Suite
from robustaug.registry import did_you_mean
from robustaug.trust.fairness import COMPARED, Confusion, confusion, fairness, undefined

MOST_GROUPS = 50
"""Groups of a protected column, at most: every two of them are compared."""


class Compared(NamedTuple):
    """Predictions on clean data between the groups of one protected column.

    Attributes:
        column: such as "sex".
        positive: the class that counts as a selection.
        table: counts of the groups of `NAMED_COHORT` samples or more.
        suppressed: how many smaller groups are left out.
        figures: of `trust.fairness.fairness`.
        reasons: why a figure is NaN, in words.
    """

    column: str
    positive: int
    table: Confusion
    suppressed: int
    figures: dict[str, float]
    reasons: dict[str, str]


def check_protected(suite: Suite, source: Source) -> int:
    """Return the class that counts as a selection: the one named, of two the last when none is.

    Raises:
        ValueError: a protected column that the source lacks, one of too many groups, or a positive class that it lacks
            or that must be named.
    """
    columns = [column for column in source.cohorts if column != "class"]
    for column in suite.protected:
        if column not in columns:
            raise ValueError(
                f"protected names {column!r}{did_you_mean(column, columns)}; {source.name} has the metadata columns "
                f"{columns}, and its own cohorts parameter says which to keep"
            )
        if (groups := len(set(source.cohorts[column]))) > MOST_GROUPS:
            raise ValueError(
                f"protected: {column!r} has {groups:,} groups, {MOST_GROUPS} can be compared; name a column of fewer, "
                "such as one of ranges"
            )
    if suite.positive is not None and suite.positive not in source.classes:
        raise ValueError(
            f"positive names no class of {source.name}: {suite.positive!r}"
            f"{did_you_mean(suite.positive, source.classes)}"
        )
    if suite.positive is not None:
        return source.classes.index(suite.positive)
    if suite.protected and len(source.classes) > 2:
        raise ValueError(
            f"protected needs positive, the class that counts as a selection: {source.name} has "
            f"{len(source.classes)} classes, such as {source.classes[:3]}"
        )
    return len(source.classes) - 1


def compared(records: Records, model: str) -> list[Compared]:
    """Return one entry a protected column of the run; none where none was asked for, or nothing clean was measured.

    An answer that is no number selects nobody.
    """
    known, clean = metadata(records), records.cells(model=model, kind="clean")
    if known is None or not known.protected or not clean:
        return []
    samples = records.samples(clean[0], ["index", "label", "prediction", "confidence"])
    selected = (samples["prediction"] == known.positive) & np.isfinite(samples["confidence"])
    rows = known.rows(samples["index"])
    out = []
    for column in known.protected:
        grouping = known.columns[column]
        group = np.array(grouping.names, dtype=str)[grouping.at[rows]]
        every = confusion(group, samples["label"] == known.positive, selected)
        large = every.counts.sum(axis=(1, 2)) >= NAMED_COHORT
        table = Confusion([g for g, is_large in zip(every.groups, large, strict=True) if is_large], every.counts[large])
        small = int((~large).sum())
        left_out = f"; groups of fewer than {NAMED_COHORT} samples left out: {small}" if small else ""
        whys = {name: why + left_out for name in COMPARED if (why := undefined(name, table))}
        out.append(Compared(column, known.positive, table, small, fairness(table.counts), whys))
    return out


def figures(records: Records, model: str) -> dict[str, float]:
    """Return `<column>_<figure>` of every protected column, NaN where the groups do not allow it."""
    every = compared(records, model)
    return {f"{one.column}_{name}": value for one in every for name, value in one.figures.items()}


def figure_names(suite: Suite) -> set[str]:
    """Return the names of `figures` that a suite asks for."""
    return {f"{column}_{figure}" for column in suite.protected for figure in COMPARED}


def intervals(records: Records, model: str, confidence: float) -> dict[str, Interval]:
    """Return the figures that are numbers with their intervals; see `gaps.gap_intervals`."""
    every = [(one.column, gap_intervals(one.table.counts, confidence)) for one in compared(records, model)]
    return {f"{column}_{name}": interval for column, found in every for name, interval in found.items()}
