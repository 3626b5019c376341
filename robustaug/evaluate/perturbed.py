"""Measure cells whose samples go through an operator frame by frame, or carry a cue.

Legend: B samples.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from robustaug.data.shared import shared
from robustaug.data.source import Batch
from robustaug.evaluate.bench import (
    Bench,
    Columns,
    Measured,
    each_of,
    examples_of,
    held,
    judged,
    keep,
    logits_of_input,
    ready,
    stacked,
)
from robustaug.evaluate.cues import Cue, chosen, pipeline_of
from robustaug.evaluate.sequences import Answer, Sequence, answer, flipped, top5_distance
from robustaug.evaluate.suite import Plan
from robustaug.ops.layout import IMAGES
from robustaug.ops.tabular.table import check_in_place
from robustaug.rng import subset


def sequence(bench: Bench, plan: Plan) -> Measured:
    """Follow each sample through its frames and count how often the answer changes.

    Columns: label, flips (changes of the prediction, of frames - 1 at most), steady (no change at all) and, where there
    are more than five classes, distance (the sum of `top5_distance`). Examples: the first and the last frame.
    """
    settings = Sequence(**plan.spec)
    operator = ready(bench, settings.make())
    pictured = bench.test.layout is IMAGES

    def look(batch: Batch) -> tuple[Columns, list[Tensor]]:
        image, keys = held(bench, plan, batch, operator)
        flips = np.zeros(len(batch.label), dtype=np.int64)
        distance = np.zeros(len(batch.label), dtype=np.int64)
        before: Answer | None = None
        few: list[Tensor] = []
        for frame, params in enumerate(settings.drawn(operator, keys)):
            shown = image if params is None else operator.apply(image, params)  # uint8: what a camera would store
            check_in_place(operator.name, shown)
            now = answer(logits_of_input(bench.model, bench.test.as_input(shown, bench.device)))
            if before is not None:
                flips += flipped(before, now)
                distance += top5_distance(before, now) if now.top.shape[1] else 0
            if before is None or settings.compares == "previous":
                before = now
            if pictured and frame in (0, settings.frames - 1):
                few.append(shown[: bench.examples].cpu())
        assert before is not None, "a sequence has two frames or more"
        known = {"index": batch.index.numpy(), "label": batch.label.numpy(), "flips": flips, "steady": flips == 0}
        return known | ({"distance": distance} if before.top.shape[1] else {}), few

    rows: list[Columns] = []
    first: list[Tensor] = []
    last: list[Tensor] = []
    for columns, few in each_of(bench, plan, look):
        rows.append(columns)
        for kept, part in zip((first, last), few, strict=False):
            keep(kept, part, bench.examples)
    samples = stacked(rows)
    steps = settings.frames - 1
    figures = {"flip_probability": float(samples["flips"].mean()) / steps, "steps": float(steps)}
    if "distance" in samples:
        figures["top5_distance"] = float(samples["distance"].mean()) / steps
    return Measured(samples, figures, examples_of(before=first, after=last), len(samples["index"]))


def cued(bench: Bench, plan: Plan) -> Measured:
    """Put a cue on the samples that are to carry it and see what is predicted."""
    cue = Cue(**plan.spec)
    operator = ready(bench, pipeline_of(cue.operator))
    at = chosen(cue, bench.test)
    pictured = bench.test.layout is IMAGES

    def look(batch: Batch) -> tuple[Columns, list[Tensor]]:
        image, keys = held(bench, plan, batch, operator)
        shown = operator.apply(image, operator.sample(keys))
        check_in_place(plan.scenario, shown)
        few = [part[: bench.examples].cpu() for part in (image, shown)] if pictured else []
        return judged(batch, logits_of_input(bench.model, bench.test.as_input(shown, bench.device))), few

    rows: list[Columns] = []
    before: list[Tensor] = []
    after: list[Tensor] = []
    for columns, few in shared(bench.test, bench.batch_size, look, at[subset(len(at), plan.limit, plan.seed)]):
        rows.append(columns)
        for kept, part in zip((before, after), few, strict=False):
            keep(kept, part, bench.examples)
    samples = stacked(rows)
    figures = {"accuracy": float(samples["correct"].mean())}
    return Measured(samples, figures, examples_of(before=before, after=after), len(samples["index"]))
