"""Intervals of the figures of a model, from its records: what gates are judged by.

Legend: N samples, C cells.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property

import numpy as np
from scipy.special import softmax
from scipy.stats import binom

from robustaug.evaluate import behaviour, domains, left_out, protected, shift, summary
from robustaug.evaluate.calibration_intervals import calibration_intervals, classwise_interval, ece_interval
from robustaug.evaluate.certify import ABSTAIN
from robustaug.evaluate.cohort_confidence import WORST, worst_intervals
from robustaug.evaluate.cohorts import cohort_table
from robustaug.evaluate.confidence import CALIBRATION, SELECTIVE, SETS
from robustaug.evaluate.detection import detection_interval
from robustaug.evaluate.metrics import NAMED_COHORT
from robustaug.evaluate.records import Cell, Records
from robustaug.evaluate.scores import named_score
from robustaug.evaluate.selective import aurc_interval
from robustaug.evaluate.shares import even_weights, per_sample, share_interval
from robustaug.evaluate.spectrum import Spectrum
from robustaug.evaluate.statistics import (
    Interval,
    anytime,
    auroc_interval,
    bootstrap_ci,
    wilson,
)
from robustaug.trust.fairness import COMPARED
from robustaug.trust.ood.figures import FIGURES, fpr_at_tpr

_RESAMPLES = 10_000
_KNOWN_ACCEPTED = 0.95

Outcomes = Callable[[Cell], np.ndarray]
"""Gives (N,) outcomes of a cell's samples, each 0 or 1."""


def intervals(records: Records, model: str, names: Iterable[str], confidence: float) -> dict[str, Interval]:
    """Return the figures `names` of `summary.figures` with their intervals; those that have none are absent.

    Samples stand for the data that a model will meet; seeds and severities of the same samples count as one draw each.
    Shares have Wilson's interval, its sample size that at which independent samples would vary as much (Franco et
    al. 2019, section 3); after an attack that stops itself, `statistics.anytime`. The least of several shares lies
    between the least of their ends, at a level that holds for all of them at once. For the rest: AUROC as in
    `auroc_interval`; FPR95 from the interval of the threshold and that of the share; AUPR and AURC as in
    `detection_interval`, without foreign data AURC as in `aurc_interval`; medians from order statistics; means from
    a bootstrap; gaps between groups as in `gap_intervals`; calibration errors as in `calibration_intervals`;
    those of `shift` as each family says.

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
        for kind, least in _LEAST.items():
            cells = self.kinds.get(kind, [])
            if name == least and cells:
                return self._least_at_largest(cells)
            if at := [cell for cell in cells if summary.attack_figure(cell.scenario, cell.severity) == name]:
                return self._share(at)
        if at := [cell for cell in graded if cell.scenario == name]:
            return self._graded(at)
        if name == "worst_cohort_accuracy":
            return self._worst_cohort()
        if name == "worst_cohort_shifted_accuracy" and graded:
            return self._worst_shifted()
        if name in WORST:
            return self._worst_confidence.get(name)
        if name in (left_out.KNOWN, left_out.GAP) and clean and name in clean[0].metrics:
            known, correct = self._samples(clean[0], "known", "correct")
            return left_out.interval(name, known, correct, self.confidence)
        if name.endswith((domains.WORST, domains.MEAN, domains.SHIFTED)):
            return domains.interval(self.records, self.model, name, self.confidence)
        if name.endswith(tuple(COMPARED)):
            return self._protected.get(name)
        if name in _CALIBRATION and clean:
            return self._calibrated(name, clean[0])
        if name.endswith(("_followed", "_applicable")):
            return self._behaved(name)
        if found := self._shift.of(name) or self._spectrum.interval(name, self.confidence):
            return found
        return self._confident(name) or self._foreign(name) or self._smoothed(name) or self._nearest(name)

    def _samples(self, cell: Cell, *columns: str) -> list[np.ndarray]:
        found = self.records.samples(cell, columns)
        return [found[column] for column in columns]

    def _correct(self, cell: Cell) -> np.ndarray:
        return self._samples(cell, "correct")[0]

    def _share(
        self,
        cells: Sequence[Cell],
        weights: np.ndarray | None = None,
        outcomes: Outcomes | None = None,
        confidence: float | None = None,
    ) -> Interval:
        """Return the weighted mean over cells of the share of samples whose outcome is 1."""
        level, outcomes = confidence or self.confidence, outcomes or self._correct
        scaled = np.ones(len(cells)) if weights is None else weights
        scaled = scaled / scaled.sum()
        if any("asked" in cell.metrics for cell in cells):  # the attack decided how many samples it came to
            each = [anytime(int(outcomes(cell).sum()), cell.n, level) for cell in cells]
            return Interval(*(float(scaled @ ends) for ends in zip(*each, strict=True)))
        values = self._by_sample(cells, scaled, outcomes)
        return share_interval(values, sum(cell.n for cell in cells), level)

    def _by_sample(self, cells: Sequence[Cell], weights: np.ndarray, outcomes: Outcomes) -> np.ndarray:
        """Return what each sample adds to the weighted mean over cells; the mean of all is the figure."""
        return per_sample([(self._samples(cell, "index")[0], outcomes(cell)) for cell in cells], weights)

    def _graded(self, cells: Sequence[Cell]) -> Interval:
        """Return accuracy over operators, each over its severities, each over its seeds."""
        return self._share(cells, even_weights(cells))

    def _confident(self, name: str) -> Interval | None:
        """Return a figure of prediction sets, or one of calibration under shift."""
        graded = self.kinds.get("operator", [])
        for figure in (*SETS, *CALIBRATION, *SELECTIVE):
            at = [cell for cell in graded if name in (f"corruption_{figure}", f"{cell.scenario}_{figure}")]
            at += [cell for cell in self.kinds.get("data", []) if name == f"{cell.scenario}_{figure}"]
            cells = self.kinds.get("clean", []) if name == figure else at
            if not cells or not all(figure in cell.metrics for cell in cells):
                continue
            if figure == "coverage":
                return self._share(cells, even_weights(cells), lambda cell: self._samples(cell, "covered")[0])
            if figure == "aurc":
                return _averaged([self._area(cell) for cell in cells], even_weights(cells))
            if figure == "ece":
                return _averaged([self._ece(cell) for cell in cells], even_weights(cells))
            if figure == "classwise_ece":
                sums = [self.records.sums(cell) for cell in cells]
                return _averaged([*map(self._classwise, sums)], even_weights(cells)) if all(sums) else None
            values = self._by_sample(cells, even_weights(cells), lambda cell, key=figure: self._samples(cell, key)[0])
            return self._mean(values) if np.isfinite(values).all() else None
        return None

    def _ece(self, cell: Cell) -> Interval | None:
        confidence, correct = self._samples(cell, "confidence", "correct")
        if not np.isfinite(confidence).all():
            return None
        return ece_interval(confidence, correct, n_resamples=self._resamples(2_000), confidence=self.confidence)

    def _area(self, cell: Cell) -> Interval | None:
        confidence, correct = self._samples(cell, "confidence", "correct")
        return aurc_interval(confidence, correct, self.confidence) if np.isfinite(confidence).all() else None

    def _classwise(self, sums: dict[str, np.ndarray]) -> Interval:
        return classwise_interval(sums, n_resamples=self._resamples(2_000), confidence=self.confidence)

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

    def _worst_shifted(self) -> Interval | None:
        rows = cohort_table(self.records, self.model, ["operator"], False, self.confidence).rows
        return _least([Interval(row.accuracy, row.low, row.high) for row in rows]) if rows else None

    @cached_property
    def _shift(self) -> shift.Intervals:
        return shift.Intervals(self.records, self.model, self.confidence)

    @cached_property
    def _worst_confidence(self) -> dict[str, Interval]:
        return worst_intervals(self.records, self.model, self.confidence)

    @cached_property
    def _spectrum(self) -> Spectrum:
        return Spectrum(self.records, self.model)

    @cached_property
    def _protected(self) -> dict[str, Interval]:
        return protected.intervals(self.records, self.model, self.confidence)

    def _calibrated(self, name: str, clean: Cell) -> Interval | None:
        figure, scaled = name.removesuffix("_scaled"), name.endswith("_scaled")
        if scaled and "temperature" not in clean.metrics:
            return None
        logits, label = self._samples(clean, "logits", "label")
        logits = logits.astype(np.float64) / (clean.metrics["temperature"] if scaled else 1.0)
        p = softmax(logits, axis=1)
        if not np.isfinite(p).all():
            return None
        right = p[np.arange(len(label)), label]
        if figure == "ece":
            correct, resamples = p.argmax(axis=1) == label, self._resamples(2_000)
            return ece_interval(p.max(axis=1), correct, n_resamples=resamples, confidence=self.confidence)
        if figure == "classwise_ece":
            resamples = self._resamples(2_000)
            return calibration_intervals(logits, label, n_resamples=resamples, confidence=self.confidence)[figure]
        losses = -np.log(right) if figure == "nll" else (p**2).sum(axis=1) - 2 * right + 1
        return self._mean(losses) if np.isfinite(losses).all() else None

    def _mean(self, values: np.ndarray) -> Interval:
        return bootstrap_ci(values, n_resamples=self._resamples(_RESAMPLES), confidence=self.confidence)

    def _resamples(self, usual: int) -> int:
        return max(usual, math.ceil(20 / (1 - self.confidence)))  # enough beyond each end

    def _behaved(self, name: str) -> Interval | None:
        """Return the share of samples of a test whose answers follow, the least of all, or the share it applies to."""
        cells = self.kinds.get("behaviour", [])
        found = behaviour.tested(cells)
        if name == behaviour.WORST and found:
            level = 1 - (1 - self.confidence) / len(found)
            return _least([self._share(of, even_weights(of), confidence=level) for of in found.values()])
        if of := found.get(name.removesuffix("_followed")):
            return self._share(of, even_weights(of))
        of = [cell for cell in cells if name == f"{cell.scenario}_applicable"]
        return _averaged([wilson(cell.n, cell.metrics["offered"], self.confidence) for cell in of])

    def _foreign(self, name: str) -> Interval | None:
        cells = self.kinds.get("ood", [])
        for figure in FIGURES:
            if not name.endswith(f"_{figure}"):
                continue
            wanted = name.removesuffix(f"_{figure}")
            pairs = [(c, s) for c in cells for s in _scores(c, figure) if wanted == f"{c.scenario}_{s}"]
            pairs += self._spectrum.sources(name) if figure == "fpr95" else []
            if wanted == "ood":
                pairs = [(c, named_score(_scores(c, figure))) for c in cells]
            each = [self._apart(cell, f"score_{score}", figure) for cell, score in pairs]
            if each and None not in each:
                return _averaged(each)
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


_LEAST = {"attack": "robust_accuracy", "certified": "certified_accuracy", "data": "proxy_accuracy"}
_CALIBRATION = frozenset(f"{figure}{scaled}" for figure in CALIBRATION for scaled in ("", "_scaled"))


def _averaged(found: Sequence[Interval | None], weights: np.ndarray | None = None) -> Interval | None:
    """Return the mean of figures: its ends are at most as far away as the means of theirs. None of none, or of nothing.

    Args:
        weights: of each, of sum 1; all alike when left out.
    """
    known = [one for one in found if one is not None]
    if not known or len(known) < len(found):
        return None
    return Interval(*(float(np.average(ends, weights=weights)) for ends in zip(*known, strict=True)))


def _least(found: Sequence[Interval]) -> Interval:
    return Interval(*(min(ends) for ends in zip(*found, strict=True)))


def _scores(cell: Cell, figure: str) -> list[str]:
    return [key.removesuffix(f"_{figure}") for key in cell.metrics if key.endswith(f"_{figure}")]


def _between(values: np.ndarray, share: float, confidence: float) -> tuple[float, float]:
    """Return the two values between which the quantile of `share` lies, infinite where too few say.

    The chance that x_(l), the l-th smallest of n, is above the quantile is that of fewer than l below it: binomial.
    """
    ordered = np.concatenate([[-np.inf], np.sort(values), [np.inf]])
    tail = (1 - confidence) / 2
    low, high = binom.ppf([tail, 1 - tail], len(values), share)
    return float(ordered[int(low)]), float(ordered[int(high) + 1])


def _median(norms: np.ndarray, confidence: float) -> Interval:
    low, high = _between(norms, 0.5, confidence)
    return Interval(float(np.median(norms)), 0.0 if low == -np.inf else low, high)


def _fpr95(known: np.ndarray, foreign: np.ndarray, confidence: float) -> Interval:
    """Return the share of foreign samples accepted with 95 % of the known ones: half the doubt for the threshold."""
    half = 1 - (1 - confidence) / 2
    lenient, strict = _between(known, 1 - _KNOWN_ACCEPTED, half)
    least, most = (wilson(int((foreign >= threshold).sum()), len(foreign), half) for threshold in (strict, lenient))
    return Interval(fpr_at_tpr(known, foreign, _KNOWN_ACCEPTED), least.low, most.high)
