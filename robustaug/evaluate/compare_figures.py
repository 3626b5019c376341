"""Two models on the same samples, by figures other than accuracy: every cell both were measured on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from robustaug.evaluate.changes import Pair, Pairing, Side
from robustaug.evaluate.compare import Comparison, compare
from robustaug.evaluate.gates import is_error
from robustaug.evaluate.paired import SAME, Change, between
from robustaug.evaluate.statistics import holm

LEVEL = 0.05
"""A p-value below this, corrected for all comparisons made together, counts as a difference."""
_CONFIDENCE = 0.95


class FigureChange(NamedTuple):
    """One figure of one cell, model b against model a.

    Attributes:
        scenario, kind, severity: the cell's.
        figure: "ece", "nll" or "brier"; "worst_cohort_accuracy", over cohorts large enough to name; of foreign data the
            AUROC of a score, such as "energy_auroc".
        n: samples that both models were measured on.
        a, b: the figure, on those samples.
        difference, low, high: b - a with its 95 % paired interval, see `paired`.
        p_value: of no difference.
        p_holm: the same, corrected over all figures of all cells (Holm 1979).
    """

    scenario: str
    kind: str
    severity: float
    figure: str
    n: int
    a: float
    b: float
    difference: float
    low: float
    high: float
    p_value: float
    p_holm: float

    @property
    def better(self) -> str:
        """Which of the two is better beyond doubt: "a", "b", or neither, ""."""
        if not self.p_holm < LEVEL:
            return ""
        return "b" if (self.difference < 0) == is_error(self.figure) else "a"


class Compared(NamedTuple):
    """All that two models were compared by: accuracy, and other figures."""

    cells: list[Comparison]
    figures: list[FigureChange]


def compare_all(a: Side, b: Side) -> Compared:
    """Compare two models on every cell and figure both have, paired by sample index.

    Raises:
        ValueError: as `compare.compare`.
    """
    return Compared(compare(*a, *b), compare_figures(a, b))


def compare_figures(a: Side, b: Side) -> list[FigureChange]:
    """Return the changes of all figures other than accuracy, of runs on the same test data."""
    pairing = Pairing(a, b, _CONFIDENCE)
    rows = [
        FigureChange(
            pair.a.scenario, pair.a.kind, pair.a.severity, figure, n, change.a, change.b, *change[:4], change.p_value
        )
        for pair in pairing.pairs
        for figure, change, n in _of_cell(pairing, pair)
    ]
    corrected = holm([row.p_value for row in rows])
    return [row._replace(p_holm=float(p)) for row, p in zip(rows, corrected, strict=True)]


def document(a: str, b: str, compared: Compared, summary: str) -> dict[str, Any]:
    """Return what `robustaug compare --json` prints and a run's changes.json holds for each model.

    Args:
        a, b: the models, each `run:model`.
        summary: in words.
    """
    return {
        "a": a,
        "b": b,
        "comparisons": [_plain(row) for row in compared.cells],
        "figures": [_plain(row) | {"better": row.better} for row in compared.figures],
        "summary": summary,
    }


def sentence(compared: Compared, a: str, b: str) -> str:
    """Return the outcome in words: where B is better, where worse, by how much at most."""
    rows = compared.cells
    better = [row for row in rows if row.p_holm < LEVEL and row.difference > 0]
    worse = [row for row in rows if row.p_holm < LEVEL and row.difference < 0]
    unsure = len(rows) - len(better) - len(worse)
    text = (
        f"{b} is better than {a} in {len(better)} of {len(rows)} conditions and worse in {len(worse)}; "
        f"{unsure} show no clear difference (McNemar, Holm-corrected p < {LEVEL:g})."
    )
    if better:
        most = max(better, key=lambda row: row.difference)
        text += f" Greatest gain: {condition(most)}, {100 * most.difference:+.1f} points."
    if worse:
        most = min(worse, key=lambda row: row.difference)
        text += f" Greatest loss: {condition(most)}, {100 * most.difference:+.1f} points."
    return text + _of_figures(compared.figures)


def condition(row: Comparison | FigureChange) -> str:
    """Return what a cell is in words, such as "fog at severity 3"."""
    at = f" at severity {row.severity:g}"
    graded = {"operator": at, "behaviour": at, "attack": f" at eps {row.severity:.4g}"}
    graded |= {"sequence": ", predictions that never change", "cue": ", with the cue"}
    graded |= {"smoothed": ", smoothed", "certified": f" certified within {row.severity:.4g}"}
    return row.scenario + graded.get(row.kind, "")


def _of_figures(rows: Sequence[FigureChange]) -> str:
    if not rows:
        return ""
    said = []
    for figure in dict.fromkeys(row.figure for row in rows):
        of = [row.better for row in rows if row.figure == figure]
        if any(of):
            said.append(f"{figure} better in {of.count('b')} and worse in {of.count('a')} of {len(of)}")
    return f" Other figures: {'; '.join(said) or 'no clear difference'}."


def _of_cell(pairing: Pairing, pair: Pair) -> list[tuple[str, Change, int]]:
    if pair.a.kind not in ("clean", "operator", "data", "attack", "ood"):
        return []
    index, *_ = pairing.aligned(pair)
    if not len(index):
        return []
    found: list[tuple[str, Change | None, int]] = []
    if pair.a.kind in ("clean", "operator", "data"):
        if pairing.has(pair, "confidence"):
            found.append(("ece", pairing.ece([pair]), len(index)))
        for figure in ("nll", "brier"):
            if pairing.has(pair, figure):
                _, [a], [b] = pairing.aligned(pair, figure)
                before, after = (pairing.weighed.mean(index, values) for values in (a, b))
                found.append((figure, between(before, after, _CONFIDENCE), len(index)))
    if pair.a.kind in ("clean", "operator", "attack") and not any("asked" in cell.metrics for cell in pair):
        found.append(("worst_cohort_accuracy", pairing.worst_cohort([pair]), len(index)))
    if pair.a.kind == "ood":
        found += [
            (key, pairing.detected(pair, key.removesuffix("_auroc"), "auroc"), len(index))
            for key in pair.a.metrics
            if key.endswith("_auroc") and key in pair.b.metrics
        ]
    same = pair.a.fingerprint == pair.b.fingerprint
    known = [(figure, change, n) for figure, change, n in found if change is not None and math.isfinite(change.value)]
    return [(figure, SAME._replace(a=c.a, b=c.b) if same else c, n) for figure, c, n in known]


def _plain(row: Comparison | FigureChange) -> dict[str, Any]:
    values = row._asdict().items()
    return {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in values}
