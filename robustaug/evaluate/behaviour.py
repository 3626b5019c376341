"""Behavioural tests: whether answers stay, or change as they should, where an operator changes what samples say.

Source: Ribeiro, Wu, Guestrin and Singh 2020, "Beyond accuracy: behavioral testing of NLP models with CheckList",
arXiv:2005.04118, section 2.2: invariance and directional expectation tests.

What is expected is the claim of whoever writes the suite. "same" and "changed" hold an answer against the model's own
to the sample as it was, so they ask nothing of labels; a mapping such as {pos: neg} says, for samples of the one class,
that the answer must be the other. A sample is tested where the operator changes it and the expectation speaks of its
class; all others are not applicable and count neither way. Which are tested does not depend on the model.

Legend: B samples of a batch, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from robustaug.data.source import Batch
from robustaug.evaluate.bench import (
    Bench,
    Columns,
    Measured,
    each_of,
    examples_of,
    judged,
    keep,
    logits_of_input,
    shift_of,
    stacked,
)
from robustaug.evaluate.records import Cell
from robustaug.evaluate.suite import Plan
from robustaug.ops.layout import IMAGES
from robustaug.ops.tabular.table import Table, with_levels
from robustaug.ops.text.texts import TEXTS
from robustaug.rng import subset

WORST = "worst_behaviour_followed"
"""The figure of the test that is followed least."""

_NONE = -1  # no answer, or none that is expected


def behave(bench: Bench, plan: Plan, clean: Columns) -> Measured:
    """Apply the operator and hold the answers against the expectation.

    The columns are those of the samples tested: "correct" is whether the answer follows, "before" the answer to the
    sample as it was. Of texts the first of `bench.examples` samples, drawn among those that do not follow, are kept in
    "text" and "changed_text", which are empty elsewhere.

    Args:
        clean: the columns of the clean cell: the answers to the samples as they are.
    """
    source, expects = bench.test, plan.spec["expects"]
    wanted = _wanted(expects, source.classes)
    answers = _Answers(clean)
    shift = shift_of(bench, plan, plan.spec["operator"])

    def look(batch: Batch) -> _Seen:
        original, changed = shift(batch)
        tested = altered(original, changed)
        if wanted is not None:
            tested &= wanted[batch.label] != _NONE
        chosen = tested.nonzero()[:, 0]
        original, changed = (source.layout.pick(samples, chosen) for samples in (original, changed))
        part = Batch(changed, *(column[chosen] for column in batch[1:]))
        logits = np.zeros((0, len(source.classes)), dtype=np.float32)
        if len(chosen):
            logits = logits_of_input(bench.model, source.as_input(changed, bench.device))
        columns = judged(part, logits)
        columns["before"] = answers.to(columns["index"])
        now = np.where(np.isfinite(logits).all(axis=1), columns["prediction"], _NONE)
        expected = None if wanted is None else wanted[part.label].numpy()
        columns["correct"] = _follows(expects, columns["before"], now, expected)
        wrong = np.flatnonzero(~columns["correct"])
        texts = [*zip(original, changed, strict=True)] if source.layout is TEXTS else []
        few: list[Tensor] = []
        if source.layout is IMAGES and len(wrong):
            few = [samples[wrong[: bench.examples]].cpu() for samples in (original, changed)]
        return _Seen(len(batch.label), columns, texts, few)

    rows: list[Columns] = []
    texts: list[tuple[str, str]] = []
    before: list[Tensor] = []
    after: list[Tensor] = []
    offered = 0
    for seen in each_of(bench, plan, look):
        offered += seen.offered
        rows.append(seen.columns)
        texts += seen.texts
        for kept, part in zip((before, after), seen.few, strict=False):
            keep(kept, part, bench.examples)
    samples = stacked(rows)
    samples |= _shown(samples["correct"], texts, bench.examples, plan.seed) if source.layout is TEXTS else {}
    n = len(samples["index"])
    metrics = {
        "followed": float(samples["correct"].mean()) if n else float("nan"),
        "applicable": n / offered,
        "offered": float(offered),
    }
    return Measured(samples, metrics, examples_of(before=before, after=after), n)


def altered(before: Any, after: Any) -> Tensor:
    """Return which samples an operator changed, (B,) bool on the CPU; a gap that stays a gap is no change.

    Args:
        before, after: batches of one layout: B texts, a `Table` of B rows, or a tensor (B, ...).
    """
    if isinstance(before, list):
        return torch.tensor([one != other for one, other in zip(before, after, strict=True)], dtype=torch.bool)
    if isinstance(before, Table):
        codes = with_levels(after, before.levels).codes
        return _differ(before.values, after.values) | _differ(before.codes, codes)
    return _differ(before, after)


def _differ(before: Tensor, after: Tensor) -> Tensor:
    differ = (before != after) & ~(before.isnan() & after.isnan())
    return differ.flatten(1).any(1).cpu()


def _wanted(expects: Any, classes: Sequence[str]) -> Tensor | None:
    """Return the answer expected of samples of each class, (K,) int64, `_NONE` where none is; None for no mapping."""
    if not isinstance(expects, Mapping):
        return None
    return torch.tensor([classes.index(expects[name]) if name in expects else _NONE for name in classes])


def _follows(expects: Any, before: np.ndarray, now: np.ndarray, expected: np.ndarray | None) -> np.ndarray:
    """Return (B,) bool; a model that answers NaN has no answer, and follows nothing."""
    if expected is not None:
        return now == expected
    answered = (before != _NONE) & (now != _NONE)
    return answered & ((now == before) if expects == "same" else (now != before))


class _Seen(NamedTuple):
    """What became of a batch: samples in it, columns of those tested, texts and pictures before and after."""

    offered: int
    columns: Columns
    texts: list[tuple[str, str]]
    few: list[Tensor]


class _Answers:
    """The model's answers to the samples as they are, by index."""

    def __init__(self, clean: Columns) -> None:
        order = np.argsort(clean["index"], kind="stable")
        finite = np.isfinite(clean["logits"]).all(axis=1)
        self.index, self.answer = clean["index"][order], np.where(finite, clean["prediction"], _NONE)[order]

    def to(self, index: np.ndarray) -> np.ndarray:
        """Return the answers (B,) int64, `_NONE` where there was none."""
        return self.answer[np.searchsorted(self.index, index)]


def _shown(follows: np.ndarray, texts: list[tuple[str, str]], limit: int, seed: int) -> Columns:
    wrong = np.flatnonzero(~follows)
    shown = {*wrong[subset(len(wrong), limit, seed).numpy()].tolist()}
    pairs = [pair if at in shown else ("", "") for at, pair in enumerate(texts)]
    return {key: np.array([pair[i] for pair in pairs], dtype=object) for i, key in enumerate(("text", "changed_text"))}


def tested(cells: Sequence[Cell]) -> dict[str, list[Cell]]:
    """Return the behavioural cells that tested any sample, by test."""
    found: dict[str, list[Cell]] = {}
    for cell in cells:
        if cell.kind == "behaviour" and cell.n:
            found.setdefault(cell.scenario, []).append(cell)
    return found


def figures(cells: Sequence[Cell]) -> dict[str, float]:
    """Return `<test>_followed`, `<test>_applicable` and `WORST`.

    What is followed is the mean over severities, each over its seeds, of those cells that tested any sample, NaN where
    none did; what a test applies to, the mean over all of its cells.
    """
    found = tested(cells)
    followed = {name: _over_severities(of) for name, of in found.items()}
    applicable: dict[str, list[float]] = {}
    for cell in cells:
        if cell.kind == "behaviour":
            applicable.setdefault(cell.scenario, []).append(cell.metrics["applicable"])
    out = {f"{name}_applicable": float(np.mean(shares)) for name, shares in applicable.items()}
    out |= {f"{name}_followed": followed.get(name, float("nan")) for name in applicable}
    return out | ({WORST: min(followed.values())} if followed else {})


def _over_severities(cells: Sequence[Cell]) -> float:
    graded: dict[float, list[float]] = {}
    for cell in cells:
        graded.setdefault(cell.severity, []).append(cell.metrics["followed"])
    return float(np.mean([np.mean(values) for values in graded.values()]))


def figure_names(plan: Plan) -> set[str]:
    """Return the names of the figures of one test."""
    return {f"{plan.scenario}_followed", f"{plan.scenario}_applicable"}


def limits(cells: Sequence[Cell]) -> list[str]:
    """Say which tests tested nothing."""
    empty = {cell.scenario: cell.severity for cell in cells if cell.kind == "behaviour" and not cell.n}
    return [
        f"Behaviour {name!r} was not tested at severity {severity:g}: its operator changes no sample that it is about."
        for name, severity in empty.items()
    ]
