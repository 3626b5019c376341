"""Measure one cell: run a model on clean, shifted, attacked or foreign data and keep what each sample did.

Legend: N samples, K classes.
"""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robustaug import registry
from robustaug.data.opening import open_source
from robustaug.data.shared import shared
from robustaug.data.source import Batch, Source
from robustaug.evaluate.attacked import attacked, masking, within
from robustaug.evaluate.behaviour import behave
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
from robustaug.evaluate.certify import ABSTAIN, Smoothing, certify
from robustaug.evaluate.clusters import embedded
from robustaug.evaluate.confidence import Confidence, calibration_figures
from robustaug.evaluate.perturbed import cued, sequence
from robustaug.evaluate.scores import scored
from robustaug.evaluate.suite import Plan
from robustaug.models.classifier import Classifier
from robustaug.ops.layout import IMAGES
from robustaug.rng import Keys
from robustaug.trust import ood
from robustaug.trust.calibration import Tally


def measure(bench: Bench, plan: Plan, basis: Columns | None = None) -> Measured:
    """Measure the cell `plan` describes; the processes of a group share the work, and each gets the whole.

    Args:
        basis: the columns of the cell that it is computed from, see `Plan.basis`: an out-of-distribution cell is told
            apart from the clean one, a behaviour held against its answers, a budget is read off the run that looked for
            the nearest points, and a radius off the certificates of the smoothed model.
    """
    if plan.kind == "clean":
        return _clean(bench, plan)
    if plan.kind == "operator":
        return _operator(bench, plan)
    if plan.kind == "data":
        return _proxy(bench, plan)
    if plan.basis in ("nearest", "smoothed"):
        assert basis is not None, "the run without a budget comes first"
        return within(plan, basis) if plan.basis == "nearest" else _certified(plan, basis)
    if plan.kind == "smoothed":
        return _smoothed(bench, plan)
    if plan.kind in ("attack", "nearest"):
        return attacked(bench, plan)
    if plan.kind == "masking":
        return masking(bench, plan)
    if plan.kind in ("sequence", "cue"):
        return (sequence if plan.kind == "sequence" else cued)(bench, plan)
    assert basis is not None, "the clean cell is measured before any that is computed from it"
    if plan.kind == "behaviour":
        return behave(bench, plan, basis)
    return _ood(bench, plan, basis)


def logits_and_labels(
    model: Classifier, source: Source, batch_size: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return logits (N, K) float32 and labels (N,), on the CPU."""

    def look(batch: Batch) -> tuple[np.ndarray, Tensor]:
        return logits_of_input(model, source.as_input(batch.image, device)), batch.label

    logits, labels = zip(*shared(source, batch_size, look), strict=True)
    return torch.from_numpy(np.concatenate(logits)), torch.cat(labels)


def _clean(bench: Bench, plan: Plan) -> Measured:
    def look(batch: Batch) -> Columns:
        x = bench.test.as_input(batch.image, bench.device)
        seen, scores = scored(bench.model, bench.scores, x, ["features"])
        logits = seen.logits.numpy()
        return judged(batch, logits) | {"logits": logits} | scores | embedded(seen.features)

    confidence = Confidence(bench.sets)
    rows = [row | _added(confidence, row, row["logits"]) for row in each_of(bench, plan, look)]
    samples = stacked(rows)
    metrics = confidence.figures(samples)
    if bench.temperature is not None:
        scaled = samples["logits"].astype(np.float64) / bench.temperature
        tally = Tally(scaled.shape[1]).add(scaled, samples["label"])
        metrics["temperature"] = bench.temperature
        metrics |= {f"{key}_scaled": value for key, value in calibration_figures(tally).items()}
    return Measured(samples, metrics, {}, len(samples["index"]))


def _operator(bench: Bench, plan: Plan) -> Measured:
    shift = shift_of(bench, plan, plan.spec)
    pictured = bench.test.layout is IMAGES  # reports show pictures alone
    told_apart = bench.scores if plan.role == "shifted" else {}

    def look(batch: Batch) -> tuple[Columns, np.ndarray, list[Tensor]]:
        image, shifted = shift(batch)
        seen, scores = scored(bench.model, told_apart, bench.test.as_input(shifted, bench.device))
        logits = seen.logits.numpy()
        few = [part[: bench.examples].cpu() for part in (image, shifted)] if pictured else []
        return judged(batch, logits) | scores, logits, few

    rows: list[Columns] = []
    before: list[Tensor] = []
    after: list[Tensor] = []
    confidence = Confidence(bench.sets)
    for columns, logits, few in each_of(bench, plan, look):
        rows.append(columns | _added(confidence, columns, logits))
        for kept, part in zip((before, after), few, strict=False):
            keep(kept, part, bench.examples)
    samples = stacked(rows)
    figures, pictures = confidence.figures(samples), examples_of(before=before, after=after)
    return Measured(samples, figures, pictures, len(samples["index"]), confidence.sums)


def _proxy(bench: Bench, plan: Plan) -> Measured:
    source = bench.proxies[plan.scenario]
    told_apart = bench.scores if plan.role == "shifted" else {}

    def look(batch: Batch) -> tuple[Columns, np.ndarray, list[Tensor]]:
        seen, scores = scored(bench.model, told_apart, source.as_input(batch.image, bench.device))
        logits = seen.logits.numpy()
        few = [batch.image[: bench.examples]] if source.layout is IMAGES else []
        return judged(batch, logits) | scores, logits, few

    rows: list[Columns] = []
    after: list[Tensor] = []
    confidence = Confidence(bench.sets)
    for columns, logits, few in each_of(bench, plan, look, source):
        rows.append(columns | _added(confidence, columns, logits))
        for part in few:
            keep(after, part, bench.examples)
    samples = stacked(rows)
    figures, pictures = confidence.figures(samples), examples_of(after=after)
    return Measured(samples, figures, pictures, len(samples["index"]), confidence.sums)


def _smoothed(bench: Bench, plan: Plan) -> Measured:
    """Certify the smoothed model on each sample."""
    smoothing = Smoothing(**plan.spec)

    def look(batch: Batch) -> Columns:
        keys = Keys.of(plan.seed, batch.index).fold(plan.scenario).to(bench.device)
        found = certify(bench.model, bench.test.as_input(batch.image, bench.device), keys, smoothing, bench.batch_size)
        columns = {"index": batch.index, "label": batch.label, "correct": found.prediction == batch.label}
        return {key: column.numpy() for key, column in (columns | found._asdict()).items()}

    samples = stacked([*each_of(bench, plan, look)])
    metrics = {
        "accuracy": float(samples["correct"].mean()),
        "abstained": float((samples["prediction"] == ABSTAIN).mean()),
        "mean_radius": float((samples["radius"] * samples["correct"]).mean()),
        "forwards": float(smoothing.n0 + smoothing.n),
        "largest_radius": smoothing.largest_radius(),
    }
    return Measured(samples, metrics | smoothing.model_dump(), {}, len(samples["index"]))


def _certified(plan: Plan, smoothed: Columns) -> Measured:
    """Read a radius off the certificates: right, and certified to stay so within it."""
    stands = smoothed["correct"] & (smoothed["radius"] >= plan.severity)
    samples = smoothed | {"correct": stands}
    return Measured(samples, {"accuracy": float(stands.mean())}, {}, len(stands))


def _shaped_as(shape: tuple[int, ...], spec: Any) -> dict[str, Any]:
    """Return the spec of a source with the test data's size and channels, where it takes them and names none."""
    name = registry.spec_name(spec)
    given = (spec[name] or {}) if isinstance(spec, dict) else {}
    wanted: dict[str, Any] = {}
    if len(shape) == 3:
        channels, height, width = shape
        wanted = {"channels": channels} | ({"size": height} if height == width else {})
    taken = inspect.signature(registry.lookup(name).factory).parameters
    return {name: {key: value for key, value in wanted.items() if key in taken} | given}


def _ood(bench: Bench, plan: Plan, clean: Columns) -> Measured:
    foreign = open_source(_shaped_as(bench.test.shape, plan.spec))
    if foreign.layout is not bench.test.layout or foreign.shape != bench.test.shape:
        raise ValueError(
            f"scenario {plan.scenario!r}: its samples have shape {foreign.shape}, the test data {bench.test.shape}, of "
            f"kind {foreign.layout.name} and {bench.test.layout.name}; set the source's size and channels to match"
        )

    def look(batch: Batch) -> tuple[Columns, list[Tensor]]:
        _, scores = scored(bench.model, bench.scores, foreign.as_input(batch.image, bench.device))
        few = [batch.image[: bench.examples]] if foreign.layout is IMAGES else []
        return {"index": batch.index.numpy()} | scores, few

    rows: list[Columns] = []
    after: list[Tensor] = []
    for columns, few in each_of(bench, plan, look, foreign):
        rows.append(columns)
        for part in few:
            keep(after, part, bench.examples)
    samples = stacked(rows)
    metrics: dict[str, float] = {}
    for name in bench.scores:
        found = ood.detection(clean[f"score_{name}"], samples[f"score_{name}"], clean["correct"])
        metrics |= {f"{name}_{figure}": value for figure, value in found.items()}
    return Measured(samples, metrics, examples_of(after=after), len(samples["index"]))


def _added(confidence: Confidence, columns: Columns, logits: np.ndarray) -> Columns:
    return confidence.add(logits, columns["label"], columns["index"])
