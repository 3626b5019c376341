"""What cues cost: accuracy without less accuracy with, and predictions drawn towards the class that goes with the cue.

Legend: N samples, K classes.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from robustaug.evaluate.asked import AskedCue, asked_of
from robustaug.evaluate.cohorts import metadata
from robustaug.evaluate.records import Cell, Records
from robustaug.evaluate.resamples import Resamples
from robustaug.evaluate.statistics import Interval, wilson
from robustaug.evaluate.suite import Suite

SUFFIXES = ("_gap", "_towards", "_cued_accuracy")


class Outcomes(NamedTuple):
    """Samples without and with a cue, of which some count as 1: right ones, or those predicted as the cued class.

    Attributes:
        index: (N,) of the samples.
        without, with_: (N,) in [0, 1]; NaN in one of them where cohorts are compared, of which each has one kind.
        label: (N,) int64.
    """

    index: np.ndarray
    without: np.ndarray
    with_: np.ndarray
    label: np.ndarray


def figures(records: Records, model: str) -> dict[str, float]:
    """Return of every cue `<cue>_cued_accuracy` (with the cue), `<cue>_gap` (accuracy without less with it) and, where
    a class goes with it, `<cue>_towards` (the share of samples of other classes predicted to be of it, with less
    without), and cue_gap, the greatest gap.

    Of an operator both are of the same samples. Of cohorts, which may differ in their classes, both are means over
    classes, weighed by how many samples of both cohorts a class has; classes of one cohort alone do not count, and
    without any other the figures are NaN.
    """
    out: dict[str, float] = {}
    for cue in asked_of(records).cues:
        for figure, outcomes in _outcomes(records, model, cue).items():
            without, with_ = _means(outcomes)
            if figure == "gap":
                out[f"{cue}_cued_accuracy"] = with_
            out[f"{cue}_{figure}"] = (without - with_) if figure == "gap" else (with_ - without)
    gaps = [value for name, value in out.items() if name.endswith("_gap")]
    return out | ({"cue_gap": float(np.max(gaps))} if gaps else {})


def figure_names(suite: Suite, against: bool = True) -> set[str]:
    """Return the names of `figures`."""
    cues = {name: scenario.cue for name, scenario in suite.scenarios.items() if scenario.cue is not None}
    names = {f"{name}_{figure}" for name in cues for figure in ("gap", "cued_accuracy")}
    return names | {f"{name}_towards" for name, cue in cues.items() if cue.towards} | ({"cue_gap"} if cues else set())


def intervals(records: Records, model: str, resamples: Resamples) -> dict[str, Interval]:
    """Return `figures` with their intervals; one that is NaN has none.

    Of an operator from resamples of pairs. Of cohorts from Wilson's intervals of every class and cohort, put together
    (MOVER; Zou, Huang & Zhang 2009). The greatest gap lies between the greatest of the ends, each at a level at which
    all hold.
    """
    out: dict[str, Interval] = {}
    cues = [*asked_of(records).cues]
    several = 1 - (1 - resamples.confidence) / max(len(cues), 1)
    gaps = []
    for cue in cues:
        for figure, outcomes in _outcomes(records, model, cue).items():
            without, with_ = _means(outcomes)
            if math.isnan(without + with_):
                continue
            found = _difference(outcomes, resamples, resamples.confidence)
            if figure == "gap":
                gaps.append(_difference(outcomes, resamples, several))
                out[f"{cue}_cued_accuracy"] = _with(outcomes, resamples.confidence)
                out[f"{cue}_gap"] = found
            else:
                out[f"{cue}_{figure}"] = Interval(-found.estimate, -found.high, -found.low)
    return out | ({"cue_gap": Interval(*(max(ends) for ends in zip(*gaps, strict=True)))} if gaps else {})


def _outcomes(records: Records, model: str, cue: str) -> dict[str, Outcomes]:
    """Return what counts for the gap and, where a class goes with the cue, for the shift towards it."""
    asked, clean = asked_of(records).cues[cue], records.cells(model=model, kind="clean")
    cells = records.cells(model=model, kind="cue", scenario=cue)
    if not clean or (asked.column is None and not cells):
        return {}
    before = _answers(records, clean[0])
    found = {"gap": _gap(records, asked, cells, before, None)}
    if asked.towards is not None:
        found["towards"] = _gap(records, asked, cells, before, asked.towards)
    return found


Answers = dict[str, np.ndarray]


def _answers(records: Records, cell: Cell) -> Answers:
    samples = records.samples(cell, ["index", "label", "prediction", "correct", "confidence"])
    order = np.argsort(samples["index"], kind="stable")
    samples["prediction"] = np.where(np.isfinite(samples["confidence"]), samples["prediction"], -1)
    return {key: column[order] for key, column in samples.items()}


def _counts(answers: Answers, towards: int | None) -> np.ndarray:
    return (answers["correct"] if towards is None else answers["prediction"] == towards).astype(np.float64)


def _gap(records: Records, asked: AskedCue, cells: list[Cell], clean: Answers, towards: int | None) -> Outcomes:
    if asked.column is not None:
        return _of_cohorts(records, asked, clean, towards)
    after = [_answers(records, cell) for cell in cells]
    parts = [(one["index"], _counts(one, towards)) for one in after]
    index = np.unique(np.concatenate([at for at, _ in parts]))
    # seeds count alike: of each sample the mean over those that measured it
    total, seen = (np.zeros(len(index)) for _ in range(2))
    for at, values in parts:
        rows = np.searchsorted(index, at)
        total[rows] += values
        seen[rows] += 1
    rows = np.searchsorted(clean["index"], index)
    label = clean["label"][rows]
    other = label != towards
    return Outcomes(index[other], _counts(clean, towards)[rows][other], (total / seen)[other], label[other])


def _of_cohorts(records: Records, asked: AskedCue, clean: Answers, towards: int | None) -> Outcomes:
    known = metadata(records)
    assert known is not None, "written before any cell"
    assert asked.column is not None

    def values(column: str) -> np.ndarray:
        grouping = known.columns[column]
        return np.array(grouping.names, dtype=str)[grouping.at[known.rows(clean["index"])]]

    cohort = values(asked.column)
    kept = np.isin(cohort, [str(asked.present), str(asked.absent)]) & (clean["label"] != towards)
    for column, wanted in asked.only.items():
        kept &= np.isin(values(column), wanted)
    counted, there = _counts(clean, towards)[kept], (cohort == asked.present)[kept]
    return Outcomes(
        clean["index"][kept],
        np.where(there, np.nan, counted),
        np.where(there, counted, np.nan),
        clean["label"][kept],
    )


class _Strata(NamedTuple):
    """By class how much it counts, and of samples without and with the cue how many count as 1, of how many; (K,)."""

    weight: np.ndarray
    hits: tuple[np.ndarray, np.ndarray]
    sizes: tuple[np.ndarray, np.ndarray]


def _paired(outcomes: Outcomes) -> bool:
    return len(outcomes.index) > 0 and not np.isnan(outcomes.without + outcomes.with_).any()


def _strata(outcomes: Outcomes) -> _Strata | None:
    """Return the classes that have samples of both cohorts, None where there is none."""
    k = int(outcomes.label.max(initial=-1)) + 1
    hits, sizes = [], []
    for side in (outcomes.without, outcomes.with_):
        of = ~np.isnan(side)
        hits.append(np.bincount(outcomes.label[of], side[of], k))
        sizes.append(np.bincount(outcomes.label[of], minlength=k))
    both = (sizes[0] > 0) & (sizes[1] > 0)
    if not both.any():
        return None
    weight = (sizes[0] + sizes[1])[both].astype(np.float64)
    return _Strata(weight / weight.sum(), (hits[0][both], hits[1][both]), (sizes[0][both], sizes[1][both]))


def _means(outcomes: Outcomes) -> tuple[float, float]:
    """Return the shares without and with the cue."""
    if _paired(outcomes):
        return float(outcomes.without.mean()), float(outcomes.with_.mean())
    strata = _strata(outcomes)
    if strata is None:
        return math.nan, math.nan
    without, with_ = (float(strata.weight @ (h / n)) for h, n in zip(strata.hits, strata.sizes, strict=True))
    return without, with_


def _difference(outcomes: Outcomes, resamples: Resamples, confidence: float) -> Interval:
    """Return the share without less the share with the cue."""
    without, with_ = _means(outcomes)
    if _paired(outcomes):
        drawn = resamples.mean(outcomes.index, outcomes.without, "without the cue")
        drawn = drawn - resamples.mean(outcomes.index, outcomes.with_, "with the cue")
        return resamples.interval(without - with_, drawn, confidence)
    strata = _strata(outcomes)
    assert strata is not None, "figures that are NaN have no interval"
    below, above = _reach(strata, 0, confidence), _reach(strata, 1, confidence)
    low = without - with_ - math.hypot(below[0], above[1])
    high = without - with_ + math.hypot(below[1], above[0])
    return Interval(without - with_, max(-1.0, low), min(1.0, high))


def _with(outcomes: Outcomes, confidence: float) -> Interval:
    share = _means(outcomes)[1]
    if _paired(outcomes):
        return wilson(share * len(outcomes.index), len(outcomes.index), confidence)
    strata = _strata(outcomes)
    assert strata is not None, "figures that are NaN have no interval"
    down, up = _reach(strata, 1, confidence)
    return Interval(share, max(0.0, share - down), min(1.0, share + up))


def _reach(strata: _Strata, side: int, confidence: float) -> tuple[float, float]:
    """Return how far the ends of the weighted share of one side lie below and above it."""
    each = [
        wilson(h, n, confidence) for h, n in zip(strata.hits[side].tolist(), strata.sizes[side].tolist(), strict=True)
    ]
    down = math.sqrt(sum((w * (one.estimate - one.low)) ** 2 for w, one in zip(strata.weight, each, strict=True)))
    up = math.sqrt(sum((w * (one.high - one.estimate)) ** 2 for w, one in zip(strata.weight, each, strict=True)))
    return down, up
