"""How every figure that gates can name changes from a previous version, from the records of both.

Only what both were measured on counts: cells of the same scenario, severity and seed, and in them the same samples.

Legend: N samples, C cells.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from scipy.special import softmax

from robustaug.evaluate import paired, summary
from robustaug.evaluate.certify import ABSTAIN
from robustaug.evaluate.cohorts import metadata
from robustaug.evaluate.compare import same_samples
from robustaug.evaluate.detection import detection_draws
from robustaug.evaluate.intervals import intervals
from robustaug.evaluate.metrics import NAMED_COHORT
from robustaug.evaluate.paired import Change, Drawn, Weighed
from robustaug.evaluate.records import Cell, Records
from robustaug.evaluate.shares import even_weights, per_sample
from robustaug.trust.ood.figures import FIGURES

_Key = tuple[str, str, float, int]
_Condition = tuple[str, str, float]


_READ = {"abstained": ["prediction"], "radius": ["radius", "correct"]}
"""What is read for an outcome that is no column itself."""


class Side(NamedTuple):
    """One of the two models."""

    records: Records
    model: str


class _Both(Records):
    """The records of a run as if it had measured only some conditions."""

    def __init__(self, records: Records, conditions: set[_Condition]) -> None:
        super().__init__(records.folder)
        self._conditions = conditions

    def cells(self, **where: Any) -> list[Cell]:
        """Return the cells that match, of these conditions."""
        return [cell for cell in super().cells(**where) if _condition(cell) in self._conditions]


class Pair(NamedTuple):
    """A cell of model a and the same one of model b."""

    a: Cell
    b: Cell


def changes(a: Side, b: Side, names: Iterable[str], confidence: float) -> dict[str, Change]:
    """Return how the figures `names` of `summary.figures` change from model a to model b.

    Shares over the same samples as in `paired.share_change`; other means, calibration errors and least shares from a
    paired bootstrap; AUROC as DeLong's for correlated curves. The rest, among them whatever an attack decided the
    number of samples of, from an interval of each model's own. A figure that one of them lacks is absent, and one that
    has no interval has no doubt, as in `gates.check_gates`.

    Args:
        a, b: runs on the same test data, see `compare.check_same_data`.
        confidence: of each interval, in (0, 1).
    """
    found = Pairing(a, b, confidence)
    made = {name: found.of(name) for name in dict.fromkeys(names)}
    return {name: change for name, change in made.items() if change is not None}


class Pairing:
    """The cells that two models share, and how each figure's change comes from them."""

    def __init__(self, a: Side, b: Side, confidence: float) -> None:
        self.a, self.b, self.confidence = a, b, confidence
        self.weighed = Weighed(confidence)
        ours, theirs = ({_key(c): c for c in side.records.cells(model=side.model)} for side in (a, b))
        shared = (Pair(cell, theirs[key]) for key, cell in ours.items() if key in theirs)
        self.pairs = [pair for pair in shared if pair.a.n and pair.b.n and same_samples(a.records, b.records, pair.a)]

    def of(self, name: str) -> Change | None:
        """Return the change of one figure, None where one of the models lacks it."""
        if not all(name in figures for figures in self._figures):
            return None
        if self.pairs and all(pair.a.fingerprint == pair.b.fingerprint for pair in self.pairs):
            return paired.SAME
        for made in (self._share, self._calibrated, self._least, self._foreign):
            change = made(name)
            if change is not None:
                return change if np.isfinite(change.value) else self._apart(name)
        return self._apart(name)

    @cached_property
    def _figures(self) -> list[dict[str, float]]:
        return [summary.figures(*side) for side in (self.a, self.b)]

    def kind(self, *kinds: str) -> list[Pair]:
        """Return the pairs of these kinds that measured a number of samples fixed beforehand."""
        return [pair for pair in self.pairs if pair.a.kind in kinds and not _stopped(pair)]

    def has(self, pair: Pair, *columns: str) -> bool:
        """Whether both models' cells hold these columns; those of older versions may lack some."""
        held = self.a.records.columns(pair.a) & self.b.records.columns(pair.b)
        return held.issuperset(columns)

    def aligned(self, pair: Pair, *columns: str) -> tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]:
        """Return the indices of shared samples, (N,), and of each model the columns of these samples."""
        read = ["index", *columns]
        x, y = self.a.records.samples(pair.a, read), self.b.records.samples(pair.b, read)
        index, at_x, at_y = np.intersect1d(x["index"], y["index"], return_indices=True)
        return index, [x[c][at_x] for c in columns], [y[c][at_y] for c in columns]

    def _share(self, name: str) -> Change | None:
        """Return the change of a mean over samples: of a share, or of a loss, a size or a radius."""
        for pairs, figure, column in self._means(name):
            if pairs:
                if not all(self.has(pair, *_READ.get(column, [column])) for pair in pairs):
                    return None
                sign = -1.0 if figure == "mean_corruption_error" else 1.0
                index, a, b = self._by_sample(pairs, column)
                if not len(index) or not np.isfinite([a, b]).all():
                    return None
                if column in ("correct", "covered", "abstained"):
                    return paired.share_change(sign * (b - a), self.confidence)
                before, after = (self.weighed.mean(index, values) for values in (a, b))
                return paired.between(before, after, self.confidence)
        return None

    def _means(self, name: str) -> Iterable[tuple[list[Pair], str, str]]:
        """Yield pairs of cells, a figure and its column in the records, for each reading of the name."""
        graded = self.kind("operator")
        yield self.kind("clean") if name == "clean_accuracy" else [], name, "correct"
        yield graded if name in ("corruption_accuracy", "mean_corruption_error") else [], name, "correct"
        yield [pair for pair in graded if pair.a.scenario == name], name, "correct"
        other = self.kind("data")
        yield [pair for pair in other if pair.a.scenario == name], name, "correct"
        yield [pair for pair in self.kind("behaviour") if name == f"{pair.a.scenario}_followed"], name, "correct"
        named = summary.attack_figure
        budgeted = self.kind("attack", "certified")
        yield [pair for pair in budgeted if named(pair.a.scenario, pair.a.severity) == name], name, "correct"
        for figure, column in (("coverage", "covered"), ("set_size", "set_size"), ("nll", "nll"), ("brier", "brier")):
            yield self.kind("clean") if name == figure else [], figure, column
            yield [pair for pair in other if name == f"{pair.a.scenario}_{figure}"], figure, column
            yield [p for p in graded if name in (f"corruption_{figure}", f"{p.a.scenario}_{figure}")], figure, column
        smoothed = self.kind("smoothed")
        for figure, column in (("accuracy", "correct"), ("abstained", "abstained"), ("mean_radius", "radius")):
            yield [pair for pair in smoothed if name == f"{pair.a.scenario}_{figure}"], figure, column

    def _by_sample(self, pairs: list[Pair], column: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return sample indices (N,) and what each adds to the mean over cells of either model: (N,) and (N,)."""
        aligned = [self.aligned(pair, *_READ.get(column, [column])) for pair in pairs]
        rows = np.unique(np.concatenate([index for index, _, _ in aligned]))
        sides = ([(index, _column(column, one[side])) for index, *one in aligned] for side in (0, 1))
        before, after = (per_sample(side, _weights(pairs)) for side in sides)
        return rows, before, after

    def _calibrated(self, name: str) -> Change | None:
        """Return the change of a calibration error, or of a loss after scaling."""
        clean, graded = self.kind("clean"), self.kind("operator")
        if clean and name.endswith("_scaled") and name != "classwise_ece_scaled":
            index, a, b = self.aligned(clean[0], "logits", "label")
            cells = clean[0].a, clean[0].b
            before, after = (self._scaled(name, index, x[0], x[1], c) for x, c in zip((a, b), cells, strict=True))
            return None if before is None or after is None else paired.between(before, after, self.confidence)
        pairs = clean if name == "ece" else []
        pairs = pairs or [pair for pair in self.kind("data") if name == f"{pair.a.scenario}_ece"]
        pairs = pairs or [p for p in graded if name in ("corruption_ece", f"{p.a.scenario}_ece")]
        return self.ece(pairs) if pairs else None

    def ece(self, pairs: list[Pair]) -> Change | None:
        """Return the change of the calibration error, the mean over cells."""
        sides: list[list[Drawn]] = [[], []]
        fewest = min(min(pair.a.n, pair.b.n) for pair in pairs)
        for pair in pairs:
            index, *found = self.aligned(pair, "confidence", "correct")
            for side, (confidence, correct) in zip(sides, found, strict=True):
                if not len(index) or not np.isfinite(confidence).all():
                    return None
                side.append(self.weighed.ece(index, confidence, correct))
        before, after = (paired.weighted(side, _weights(pairs)) for side in sides)
        # where all samples are right and sure, resamples know of no doubt
        return paired.between(before, after, self.confidence, paired.least_reach(fewest, self.confidence))

    def _scaled(self, name: str, index: np.ndarray, logits: Any, label: Any, cell: Cell) -> Drawn | None:
        p = softmax(logits.astype(np.float64) / cell.metrics.get("temperature", np.nan), axis=1)
        if not np.isfinite(p).all():
            return None
        right = p[np.arange(len(label)), label]
        if name == "ece_scaled":
            return self.weighed.ece(index, p.max(axis=1), p.argmax(axis=1) == label)
        return self.weighed.mean(index, -np.log(right) if name == "nll_scaled" else (p**2).sum(axis=1) - 2 * right + 1)

    def _least(self, name: str) -> Change | None:
        """Return the change of the least of several shares: over attacks, certificates or cohorts."""
        kinds = {"worst_cohort_accuracy": "clean", "worst_cohort_shifted_accuracy": "operator"}
        if kind := kinds.get(name):
            return self.worst_cohort(self.kind(kind))
        kinds = {"robust_accuracy": "attack", "certified_accuracy": "certified"}
        if name not in kinds or any(_stopped(pair) for pair in self.pairs if pair.a.kind == kinds[name]):
            return None
        pairs = self.kind(kinds[name])
        largest = {pair.a.scenario: pair.a.severity for pair in sorted(pairs, key=lambda pair: pair.a.severity)}
        at_largest = [pair for pair in pairs if pair.a.severity == largest[pair.a.scenario]]
        return self._least_of([(pair, [*largest].index(pair.a.scenario), None) for pair in at_largest])

    def worst_cohort(self, pairs: list[Pair]) -> Change | None:
        """Return the change of the least accuracy over cohorts large enough to name, on these cells."""
        known = metadata(self.b.records)
        if known is None:
            return None
        parts, shares = [], 0
        conditions = list(dict.fromkeys((pair.a.scenario, pair.a.severity) for pair in pairs))
        for grouping in known.columns.values():
            for condition in conditions:
                parts += [
                    (pair, shares, grouping.at) for pair in pairs if (pair.a.scenario, pair.a.severity) == condition
                ]
                shares += len(grouping.names)
        return self._least_of(parts, known.rows)

    def _least_of(self, parts: list[tuple[Pair, int, np.ndarray | None]], rows: Any = None) -> Change | None:
        """Return the change of the least share.

        Args:
            parts: pairs, the number of their first share and, by row of the metadata, which after it each sample is in.
        """
        found = []
        read = {pair.a.id: self.aligned(pair, "correct") for pair in {pair.a.id: pair for pair, _, _ in parts}.values()}
        for pair, first, group in parts:
            index, [a], [b] = read[pair.a.id]
            found.append(
                (index, first + (0 if group is None else group[rows(index)]) + np.zeros(len(index), int), a, b)
            )
        if not found:
            return None
        index, at, a, b = (np.concatenate(column) for column in zip(*found, strict=True))
        samples = np.unique(np.stack([at, index]), axis=1)[0]  # seeds of a sample count once
        large = np.bincount(samples, minlength=at.max() + 1) >= (1 if rows is None else NAMED_COHORT)
        kept = large[at]
        if not kept.any():
            return None
        place, cells = np.cumsum(large) - 1, int(large.sum())
        before, after = (self.weighed.least_share(index[kept], place[at[kept]], x[kept], cells) for x in (a, b))
        smallest = int(np.bincount(samples)[np.flatnonzero(large)].min())
        floor = paired.least_reach(smallest, self.confidence)
        change = paired.between(before, after, self.confidence, floor)
        return paired.within_one(change)

    def _foreign(self, name: str) -> Change | None:
        pairs = self.kind("ood")
        for figure in FIGURES:
            if not name.endswith(f"_{figure}"):
                continue
            wanted = name.removesuffix(f"_{figure}")
            chosen: list[tuple[Pair, str]] = []
            for pair in pairs:
                every = [key.removesuffix(f"_{figure}") for key in pair.a.metrics if key.endswith(f"_{figure}")]
                both = [score for score in every if f"{score}_{figure}" in pair.b.metrics]
                chosen += [(pair, score) for score in both if wanted == f"{pair.a.scenario}_{score}"]
                if wanted == "ood" and both:
                    chosen.append((pair, summary.named_score(both)))
            made = [self.detected(pair, score, figure) for pair, score in chosen]
            if made and None not in made:
                return paired.mean_of(made)  # type: ignore[arg-type]
        return None

    def detected(self, pair: Pair, score: str, figure: str) -> Change | None:
        """Return the change of how well a score tells foreign data apart."""
        column, [clean] = f"score_{score}", self.kind("clean") or [None]
        if clean is None or not (self.has(clean, column) and self.has(pair, column)):
            return None
        _, *known = self.aligned(clean, column, "correct")
        _, *foreign = self.aligned(pair, column)
        scores = [[side[0] for side in sides] for sides in (known, foreign)]
        if any(not np.isfinite(one).all() or len(one) < 2 for side in scores for one in side):
            return None
        if figure == "auroc":
            return paired.auroc_change(*(tuple(side) for side in scores), self.confidence)  # type: ignore[arg-type]
        before, after = (
            detection_draws(figure, k, f, right, self.confidence)
            for k, f, (_, right) in zip(*scores, known, strict=True)
        )
        floor = paired.least_reach(min(len(one) for side in scores for one in side), self.confidence)
        a, b = (Drawn(float(one[0]), one[1:]) for one in (before, after))
        return paired.between(a, b, self.confidence, floor)

    @cached_property
    def _alike(self) -> list[tuple[Side, dict[str, float]]]:
        """Either side as if it had measured only what both did, whatever the seed, and its figures then."""
        ours, theirs = ({_condition(c): c for c in side.records.cells(model=side.model)} for side in (self.a, self.b))
        both = {at for at, c in ours.items() if at in theirs and same_samples(self.a.records, self.b.records, c)}
        sides = [Side(_Both(side.records, both), side.model) for side in (self.a, self.b)]
        return [(side, summary.figures(*side)) for side in sides]

    def _apart(self, name: str) -> Change | None:
        half = 1 - (1 - self.confidence) / 2
        if not all(name in figures for _, figures in self._alike):
            return None
        own = [intervals(*side, [name], half).get(name, (figures[name],) * 3) for side, figures in self._alike]
        return paired.apart(*(tuple(one) for one in own))  # type: ignore[arg-type]


def _key(cell: Cell) -> _Key:
    return cell.kind, cell.scenario, cell.severity, cell.seed


def _condition(cell: Cell) -> _Condition:
    return cell.kind, cell.scenario, cell.severity


def _stopped(pair: Pair) -> bool:
    """Whether an attack decided itself how many samples it came to."""
    return any("asked" in cell.metrics for cell in pair)


def _column(name: str, read: list[np.ndarray]) -> np.ndarray:
    if name == "abstained":
        return (read[0] == ABSTAIN).astype(np.float64)
    return np.prod(read, axis=0, dtype=np.float64)


def _weights(pairs: list[Pair]) -> np.ndarray:
    return even_weights([pair.a for pair in pairs])
