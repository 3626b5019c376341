"""Accuracy in each domain of the test data, such as each site: asked for in a suite, read from records.

Legend: D domains.
"""

from __future__ import annotations

import math

import numpy as np

from robustaug.data.domains import column_of
from robustaug.data.source import Source
from robustaug.evaluate.cohorts import CohortCell, CohortTable, metadata, table_of
from robustaug.evaluate.records import Cell, Records
from robustaug.evaluate.statistics import Interval, wilson
from robustaug.evaluate.suite import Suite, attack_figure

WORST, MEAN = "worst_domain_accuracy", "mean_domain_accuracy"
SHIFTED = "worst_domain_shifted_accuracy"


def check_domains(suite: Suite, source: Source) -> None:
    """Refuse a suite whose domains are no metadata column of the source.

    Raises:
        ValueError: names the column and those there are.
    """
    if suite.domains is not None:
        column_of("domains", source, suite.domains)


def domain_table(records: Records, cells: list[Cell], confidence: float = 0.95) -> CohortTable:
    """Return accuracy by domain on these cells, with intervals that hold for all rows at once.

    Empty where the run has no domains, or nothing was measured.
    """
    known = metadata(records)
    if known is None or known.domains is None:
        return CohortTable([], {})
    return table_of(records, cells, False, confidence, (known.domains,))


def shifts(records: Records, model: str) -> dict[str, list[Cell]]:
    """Return the cells that the worst domain of each figure is looked for in, by the figure's name."""
    out: dict[str, list[Cell]] = {}
    for cell in records.cells(model=model):
        for name in _names(cell.kind, cell.scenario, cell.severity):
            out.setdefault(name, []).append(cell)
    return out


def figures(records: Records, model: str) -> dict[str, float]:
    """Return the figures of domains; NaN where each has fewer samples than `metrics.NAMED_COHORT`.

    Keys: worst_domain_accuracy and mean_domain_accuracy, in which every domain weighs the same, on clean data;
    worst_domain_shifted_accuracy, the lowest over domains and corrupted cells; `<operator>_worst_domain_accuracy`, the
    lowest over domains and severities, and the same of each attack and epsilon, such as
    `pgd@0.1_worst_domain_accuracy`. None where the run has no domains.
    """
    known = metadata(records)
    if known is None or known.domains is None:
        return {}
    out: dict[str, float] = {}
    for name, cells in shifts(records, model).items():
        table = domain_table(records, cells)
        out[name] = math.nan if table.worst is None else table.worst.accuracy
        if name == WORST:
            out[MEAN] = float(np.mean([row.accuracy for row in table.rows])) if table.rows else math.nan
    return out


def figure_names(suite: Suite) -> set[str]:
    """Return the names of `figures` that a suite asks for."""
    if suite.domains is None:
        return set()
    return {MEAN}.union(*(_names(plan.kind, plan.scenario, plan.severity) for plan in suite.plans()))


def interval(records: Records, model: str, name: str, confidence: float) -> Interval | None:
    """Return one of `figures` with its interval; None of one that it is not, or that is NaN.

    The least accuracy lies between the least of the ends, which hold for all domains and conditions at once. The mean
    takes the domains as they are: it says nothing of domains that were not measured.
    """
    cells = shifts(records, model).get(WORST if name == MEAN else name)
    rows = domain_table(records, cells, confidence).rows if cells else []
    if not rows:
        return None
    if name == MEAN:
        return _mean(rows, confidence)
    return Interval(*(min(ends) for ends in zip(*((row.accuracy, row.low, row.high) for row in rows), strict=True)))


def _mean(rows: list[CohortCell], confidence: float) -> Interval:
    """Return the plain mean over domains with Wilson's interval at as many samples as would vary as much.

    The variance is that of a stratified sample, sum p (1 - p) / n over D squared, each p drawn to 1/2 by one success
    and one failure, since no domain is sure to be all right (Franco et al. 2019, section 3).
    """
    n = np.array([row.n for row in rows], dtype=float)
    share = np.array([row.accuracy for row in rows])
    mean, drawn = float(share.mean()), (share * n + 1) / (n + 2)
    variance = float((drawn * (1 - drawn) / n).sum()) / len(rows) ** 2
    likely = float(drawn.mean())
    size = min(max(1.0, likely * (1 - likely) / variance), float(n.sum()))
    return wilson(min(mean, 1.0) * size, size, confidence)


def _names(kind: str, scenario: str, severity: float) -> list[str]:
    if kind == "clean":
        return [WORST]
    if kind == "operator":
        return [SHIFTED, f"{scenario}_{WORST}"]
    return [f"{attack_figure(scenario, severity)}_{WORST}"] if kind == "attack" else []
