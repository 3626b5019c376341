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
from robustaug.data.source import Batch, Source, batches
from robustaug.evaluate.attacked import attacked, masking, within
from robustaug.evaluate.behaviour import behave
from robustaug.evaluate.bench import (
    Bench,
    Columns,
    Measured,
    batches_of,
    examples_of,
    judged,
    keep,
    logits_of_input,
    shifted_batches,
    stacked,
)
from robustaug.evaluate.certify import ABSTAIN, Smoothing, certify
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
    """Measure the cell `plan` describes.

    Args:
        basis: the columns of the cell that it is computed from, see `Plan.basis`: an out-of-distribution cell is told
            apart from the clean one, a behaviour held against its answers, a budget is read off the run that looked for
            the nearest points, and a radius off the certificates of the smoothed model.
    """
    if plan.kind == "clean":
        return _clean(bench)
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
    rows = [
        (torch.from_numpy(logits_of_input(model, source.as_input(batch.image, device))), batch.label)
        for batch in batches(source, batch_size)
    ]
    logits, labels = zip(*rows, strict=True)
    return torch.cat(logits), torch.cat(labels)


def _clean(bench: Bench) -> Measured:
    rows: list[Columns] = []
    confidence = Confidence(bench.sets)
    for batch in batches(bench.test, bench.batch_size):
        x = bench.test.as_input(batch.image, bench.device)
        logits = logits_of_input(bench.model, x)
        rows.append(judged(batch, logits) | {"logits": logits} | scored(bench.model, bench.scores, x))
        rows[-1] |= _added(confidence, batch, logits)
    samples = stacked(rows)
    metrics = confidence.figures(samples)
    if bench.temperature is not None:
        scaled = samples["logits"].astype(np.float64) / bench.temperature
        tally = Tally(scaled.shape[1]).add(scaled, samples["label"])
        metrics["temperature"] = bench.temperature
        metrics |= {f"{key}_scaled": value for key, value in calibration_figures(tally).items()}
    return Measured(samples, metrics, {}, len(samples["index"]))


def _operator(bench: Bench, plan: Plan) -> Measured:
    rows: list[Columns] = []
    before: list[Tensor] = []
    after: list[Tensor] = []
    confidence = Confidence(bench.sets)
    for batch, image, shifted in shifted_batches(bench, plan, plan.spec):
        x = bench.test.as_input(shifted, bench.device)
        logits = logits_of_input(bench.model, x)
        rows.append(judged(batch, logits) | _added(confidence, batch, logits))
        if plan.role == "shifted":
            rows[-1] |= scored(bench.model, bench.scores, x)
        if bench.test.layout is IMAGES:  # reports show pictures alone
            keep(before, image, bench.examples)
            keep(after, shifted, bench.examples)
    samples = stacked(rows)
    figures, pictures = confidence.figures(samples), examples_of(before=before, after=after)
    return Measured(samples, figures, pictures, len(samples["index"]), confidence.sums)


def _proxy(bench: Bench, plan: Plan) -> Measured:
    source = bench.proxies[plan.scenario]
    rows: list[Columns] = []
    after: list[Tensor] = []
    confidence = Confidence(bench.sets)
    for batch in batches_of(bench, plan, source):
        x = source.as_input(batch.image, bench.device)
        logits = logits_of_input(bench.model, x)
        rows.append(judged(batch, logits) | _added(confidence, batch, logits))
        if plan.role == "shifted":
            rows[-1] |= scored(bench.model, bench.scores, x)
        if source.layout is IMAGES:
            keep(after, batch.image, bench.examples)
    samples = stacked(rows)
    figures, pictures = confidence.figures(samples), examples_of(after=after)
    return Measured(samples, figures, pictures, len(samples["index"]), confidence.sums)


def _smoothed(bench: Bench, plan: Plan) -> Measured:
    """Certify the smoothed model on each sample."""
    smoothing, rows = Smoothing(**plan.spec), []
    for batch in batches_of(bench, plan):
        keys = Keys.of(plan.seed, batch.index).fold(plan.scenario).to(bench.device)
        found = certify(bench.model, bench.test.as_input(batch.image, bench.device), keys, smoothing, bench.batch_size)
        columns = {"index": batch.index, "label": batch.label, "correct": found.prediction == batch.label}
        rows.append({key: column.numpy() for key, column in (columns | found._asdict()).items()})
    samples = stacked(rows)
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
    rows: list[Columns] = []
    after: list[Tensor] = []
    for batch in batches_of(bench, plan, foreign):
        x = foreign.as_input(batch.image, bench.device)
        rows.append({"index": batch.index.numpy()} | scored(bench.model, bench.scores, x))
        if foreign.layout is IMAGES:
            keep(after, batch.image, bench.examples)
    samples = stacked(rows)
    metrics: dict[str, float] = {}
    for name in bench.scores:
        found = ood.detection(clean[f"score_{name}"], samples[f"score_{name}"], clean["correct"])
        metrics |= {f"{name}_{figure}": value for figure, value in found.items()}
    return Measured(samples, metrics, examples_of(after=after), len(samples["index"]))


def _added(confidence: Confidence, batch: Batch, logits: np.ndarray) -> Columns:
    return confidence.add(logits, batch.label.numpy(), batch.index.numpy())
