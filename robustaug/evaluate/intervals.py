"""Intervals of the figures of a model, from its records: what gates are judged by.

Legend: N samples, C cells.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from scipy.special import ndtri, softmax
from scipy.stats import binom

from robustaug.evaluate import summary
from robustaug.evaluate.certify import ABSTAIN
from robustaug.evaluate.detection import detection_interval
from robustaug.evaluate.metrics import NAMED_COHORT
from robustaug.evaluate.records import Cell, Records
from robustaug.evaluate.statistics import (
    Interval,
    anytime,
    auroc_interval,
    bootstrap_ci,
    wilson,
)
from robustaug.trust.calibration import reliability
from robustaug.trust.ood.figures import FIGURES

_RESAMPLES = 10_000
_KNOWN_ACCEPTED = 0.95

Outcomes = Callable[[Cell], np.ndarray]
"""Gives (N,) outcomes of a cell's samples, each 0 or 1."""


def intervals(records: Records, model: str, names: Iterable[str], confidence: float) -> dict[str, Interval]:
    """Return the figures `names` of `summary.figures` with their intervals; those that have none are absent.

    Samples stand for the data that a model will meet; seeds and severities of the same samples count as one draw each.
    Shares have Wilson's interval, its sample size that at which independent samples would vary as much (Franco et al.
    2019, section 3); after an attack that stops itself, `statistics.anytime`. The least of several shares lies between
    the least of their ends, at a level that holds for all of them at once. For the rest: AUROC as in `auroc_interval`;
    FPR95 from the interval of the threshold and that of the share; AUPR and AURC
    as in `detection_interval`; medians from order statistics; means from a
    bootstrap; ECE from the normal law, its lower end moved by what chance adds to it at most.

    Args:
        confidence: of each interval, in (0, 1).
    """
    found = _Figures(records, model, confidence)
    made = {name: found.of(name) for name in dict.fromkeys(names)}
    return {name: interval for name, interval in made.items() if interval is not None}


class _Figures:
    """The cells of one model, and how each figure comes from them."""

    def __init__(self, records: Records, model: str, confidence: float) -> None:
        self.records, self.model, self.confidence = records, model, confidence
        self.kinds: dict[str, list[Cell]] = {}
        for cell in records.cells(model=model):
            self.kinds.setdefault(cell.kind, []).append(cell)

    def of(self, name: str) -> Interval | None:
        clean, graded = self.kinds.get("clean", []), self.kinds.get("operator", [])
        if name == "clean_accuracy" and clean:
            return self._share(clean)
        if name == "corruption_accuracy" and graded:
            return self._graded(graded)
        if name == "mean_corruption_error" and graded:
            kept = self._graded(graded)
            return Interval(1 - kept.estimate, 1 - kept.high, 1 - kept.low)
        for kind, least in (("attack", "robust_accuracy"), ("certified", "certified_accuracy")):
            cells = self.kinds.get(kind, [])
            if name == least and cells:
                return self._least_at_largest(cells)
            if at := [cell for cell in cells if summary.attack_figure(cell.scenario, cell.severity) == name]:
                return self._share(at)
        if at := [cell for cell in graded if cell.scenario == name]:
            return self._graded(at)
        if name == "worst_cohort_accuracy":
            return self._worst_cohort()
        if name in _CALIBRATION and clean:
            return self._calibrated(name, clean[0])
        return self._foreign(name) or self._smoothed(name) or self._nearest(name)

    def _samples(self, cell: Cell, *columns: str) -> list[np.ndarray]:
        found = self.records.samples(cell, columns)
        return [found[column] for column in columns]

    def _correct(self, cell: Cell) -> np.ndarray:
        return self._samples(cell, "correct")[0]

    def _share(
        self,
        cells: Sequence[Cell],
        weights: Sequence[float] | None = None,
        outcomes: Outcomes | None = None,
        confidence: float | None = None,
    ) -> Interval:
        """Return the weighted mean over cells of the share of samples whose outcome is 1."""
        level, outcomes = confidence or self.confidence, outcomes or self._correct
        scaled = np.ones(len(cells)) if weights is None else np.asarray(weights)
        scaled = scaled / scaled.sum()
        if any("asked" in cell.metrics for cell in cells):  # the attack decided how many samples it came to
            each = [anytime(int(outcomes(cell).sum()), cell.n, level) for cell in cells]
            return Interval(*(float(scaled @ ends) for ends in zip(*each, strict=True)))
        index = [self._samples(cell, "index")[0] for cell in cells]
        rows, at = np.unique(np.concatenate(index), return_inverse=True)
        parts = [w * outcomes(cell) * (len(rows) / cell.n) for w, cell in zip(scaled, cells, strict=True)]
        values = np.bincount(at, np.concatenate(parts), len(rows))  # of each sample; their mean is the figure
        share, spread = min(float(values.mean()), 1.0), float(values.var())
        size = len(rows) if spread == 0 or share in (0, 1) else len(rows) * share * (1 - share) / spread
        size = max(1.0, min(size, sum(cell.n for cell in cells)))
        return wilson(share * size, size, level)

    def _graded(self, cells: Sequence[Cell]) -> Interval:
        """Return accuracy over operators, each over its severities, each over its seeds."""
        seeds = Counter((cell.scenario, cell.severity) for cell in cells)
        severities = Counter(scenario for scenario, _ in seeds)
        return self._share(cells, [1 / (severities[c.scenario] * seeds[c.scenario, c.severity]) for c in cells])

    def _least_at_largest(self, cells: Sequence[Cell]) -> Interval:
        """Return the least accuracy over the scenarios, each at its largest budget."""
        largest = {cell.scenario: cell.severity for cell in sorted(cells, key=lambda cell: cell.severity)}
        groups = [[c for c in cells if c.scenario == s and c.severity == budget] for s, budget in largest.items()]
        level = 1 - (1 - self.confidence) / len(groups)
        return _least([self._share(group, confidence=level) for group in groups])

    def _worst_cohort(self) -> Interval | None:
        rows = [row for row in summary.cohorts(self.records, self.model) if row.n >= NAMED_COHORT]
        level = 1 - (1 - self.confidence) / max(len(rows), 1)
        return _least([wilson(round(row.accuracy * row.n), row.n, level) for row in rows]) if rows else None

    def _calibrated(self, name: str, clean: Cell) -> Interval | None:
        figure, scaled = name.removesuffix("_scaled"), name.endswith("_scaled")
        if scaled and "temperature" not in clean.metrics:
            return None
        logits, label = self._samples(clean, "logits", "label")
        p = softmax(logits.astype(np.float64) / (clean.metrics["temperature"] if scaled else 1.0), axis=1)
        if not np.isfinite(p).all():
            return None
        right = p[np.arange(len(label)), label]
        if figure == "ece":
            return _ece(p.max(axis=1), p.argmax(axis=1) == label, self.confidence)
        losses = -np.log(right) if figure == "nll" else (p**2).sum(axis=1) - 2 * right + 1
        return self._mean(losses) if np.isfinite(losses).all() else None

    def _mean(self, values: np.ndarray) -> Interval:
        resamples = max(_RESAMPLES, math.ceil(20 / (1 - self.confidence)))
        return bootstrap_ci(values, n_resamples=resamples, confidence=self.confidence)

    def _foreign(self, name: str) -> Interval | None:
        cells = self.kinds.get("ood", [])
        for figure in FIGURES:
            if not name.endswith(f"_{figure}"):
                continue
            wanted = name.removesuffix(f"_{figure}")
            pairs = [(c, s) for c in cells for s in _scores(c, figure) if wanted == f"{c.scenario}_{s}"]
            if wanted == "ood":
                pairs = [(c, summary.named_score(_scores(c, figure))) for c in cells]
            each = [self._apart(cell, f"score_{score}", figure) for cell, score in pairs]
            if each and None not in each:
                return _averaged(each)  # type: ignore[arg-type]
        return None

    def _apart(self, cell: Cell, column: str, figure: str) -> Interval | None:
        known, correct = self._samples(self.kinds["clean"][0], column, "correct")
        [foreign] = self._samples(cell, column)
        finite = np.isfinite(known).all() and np.isfinite(foreign).all()
        if not finite or min(len(known), len(foreign)) < 2:
            return None
        if figure in ("auroc", "fpr95"):
            return (auroc_interval if figure == "auroc" else _fpr95)(known, foreign, self.confidence)
        return detection_interval(figure, known, foreign, correct, self.confidence)

    def _smoothed(self, name: str) -> Interval | None:
        cells = self.kinds.get("smoothed", [])
        at = {figure: [c for c in cells if name == f"{c.scenario}_{figure}"] for figure in summary.SMOOTHED}
        if at["accuracy"]:
            return self._share(at["accuracy"])
        if at["abstained"]:
            return self._share(at["abstained"], outcomes=lambda c: self._samples(c, "prediction")[0] == ABSTAIN)
        return _averaged(
            [self._mean(np.prod(self._samples(c, "radius", "correct"), axis=0)) for c in at["mean_radius"]]
        )

    def _nearest(self, name: str) -> Interval | None:
        cells = [c for c in self.kinds.get("nearest", []) if name == f"{c.scenario}_median_norm"]
        found = []
        for cell in cells:
            norm, success = self._samples(cell, "norm", "success")
            found.append(_median(np.where(success, norm, np.inf), self.confidence))
        return _averaged(found)


_CALIBRATION = frozenset(f"{figure}{scaled}" for figure in ("ece", "nll", "brier") for scaled in ("", "_scaled"))


def _averaged(found: Sequence[Interval]) -> Interval | None:
    """Return the mean of figures: its ends are at most as far away as the means of theirs. None of nothing."""
    return Interval(*(float(np.mean(ends)) for ends in zip(*found, strict=True))) if found else None


def _least(found: Sequence[Interval]) -> Interval:
    return Interval(*(min(ends) for ends in zip(*found, strict=True)))


def _scores(cell: Cell, figure: str) -> list[str]:
    return [key.removesuffix(f"_{figure}") for key in cell.metrics if key.endswith(f"_{figure}")]


def _ece(confidence: np.ndarray, correct: np.ndarray, level: float) -> Interval:
    """Return the calibration error: a mean over samples of what each adds to the gap of its bin.

    The gap of a bin is an absolute value, and chance alone makes it too large: by nothing where it is wide, and by the
    mean size of its error where the truth is 0. The lower end allows for that.
    """
    bins = reliability(confidence, correct)
    at = np.searchsorted(bins.edges[1:-1], confidence, side="left")
    excess = confidence - correct
    gap = np.nan_to_num(bins.confidence - bins.accuracy)
    adds = np.where(gap[at] >= 0, excess, -excess)
    spread = np.bincount(at, (excess - gap[at]) ** 2, len(gap))  # of each bin, summed over its samples
    too_high = float(np.sqrt(2 / np.pi * spread).sum()) / len(at)
    doubt = float(ndtri(0.5 + level / 2) * adds.std() / math.sqrt(len(at)))
    estimate = float(adds.mean())
    return Interval(estimate, max(estimate - too_high - doubt, 0.0), min(estimate + doubt, 1.0))


def _ranks(n: int, share: float, confidence: float) -> tuple[int, int]:
    """Return the positions, of n sorted values, between which the quantile of `share` lies."""
    tail = (1 - confidence) / 2
    low, high = binom.ppf([tail, 1 - tail], n, share)
    return max(int(low) - 1, 0), min(int(high), n - 1)


def _median(values: np.ndarray, confidence: float) -> Interval:
    low, high = (float(np.sort(values)[at]) for at in _ranks(len(values), 0.5, confidence))
    return Interval(float(np.median(values)), low, high)


def _fpr95(known: np.ndarray, foreign: np.ndarray, confidence: float) -> Interval:
    """Return the share of foreign samples accepted with 95 % of the known ones: half the doubt for the threshold."""
    half = 1 - (1 - confidence) / 2
    accepted = max(1, math.ceil(_KNOWN_ACCEPTED * len(known) - 1e-9))
    ordered = np.sort(known)
    lenient, strict = (ordered[at] for at in _ranks(len(known), 1 - _KNOWN_ACCEPTED, half))
    counts = [int((foreign >= threshold).sum()) for threshold in (ordered[-accepted], strict, lenient)]
    least, most = wilson(counts[1], len(foreign), half), wilson(counts[2], len(foreign), half)
    return Interval(counts[0] / len(foreign), least.low, most.high)
