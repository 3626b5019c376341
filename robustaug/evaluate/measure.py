"""Measure one cell: run a model on clean, shifted, attacked or foreign data and keep what each sample did.

Legend: N samples, K classes.
"""

from __future__ import annotations

import inspect
import json
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from robustaug import registry
from robustaug.attacks.attack import Attack
from robustaug.attacks.curve import stands
from robustaug.attacks.driver import are_probabilities
from robustaug.attacks.execution import Execution
from robustaug.attacks.masking import SAMPLES, Finding, LogProbabilities, examine, threat_of, unfit
from robustaug.attacks.state import AttackResult, AttackWarning
from robustaug.data.opening import open_source
from robustaug.data.source import Batch, Source, batches
from robustaug.evaluate.certify import ABSTAIN, Smoothing, certify
from robustaug.evaluate.confidence import Confidence, calibration_figures
from robustaug.evaluate.scores import scored
from robustaug.evaluate.suite import Plan, make_attack
from robustaug.models.classifier import Classifier
from robustaug.ops.layout import IMAGES
from robustaug.ops.tabular.table import TABLES, check_in_place
from robustaug.pipeline import fitted
from robustaug.rng import Keys, subset
from robustaug.trust import ood
from robustaug.trust.calibration import Tally
from robustaug.trust.conformal import ConformalSets

Columns = dict[str, np.ndarray]
BROKE = "broke "
"""Begins the names of metrics that count what each attack of an ensemble broke."""


class Measured(NamedTuple):
    """Per-sample columns, figures, and example images of one cell.

    Attributes:
        n: samples measured.
    """

    samples: Columns
    metrics: dict[str, float]
    examples: dict[str, np.ndarray]
    n: int


@dataclass(frozen=True)
class Bench:
    """What a cell is measured with.

    Attributes:
        model: in eval mode, on `device`.
        test: the data the figures are about.
        temperature: fitted on held-out data, None where there was none.
        scores: fitted out-of-distribution scores by short name.
        examples: samples kept a cell.
        others: the other models of the run, on `device`; the first whose gradients can be followed is the surrogate of
            the masking checks.
        sets: prediction sets fitted on held-out data, None where there was none, or too little.
    """

    model: Classifier
    test: Source
    device: torch.device
    batch_size: int
    temperature: float | None
    scores: dict[str, Any]
    examples: int
    others: tuple[Classifier, ...] = ()
    sets: ConformalSets | None = None


def measure(bench: Bench, plan: Plan, basis: Columns | None = None) -> Measured:
    """Measure the cell `plan` describes.

    Args:
        basis: the columns of the cell that it is computed from, see `Plan.basis`: an out-of-distribution cell is told
            apart from the clean one, a budget is read off the run that looked for the nearest points, and a radius
            off the certificates of the smoothed model.
    """
    if plan.kind == "clean":
        return _clean(bench)
    if plan.kind == "operator":
        return _operator(bench, plan)
    if plan.basis in ("nearest", "smoothed"):
        assert basis is not None, "the run without a budget comes first"
        return _within(plan, basis) if plan.basis == "nearest" else _certified(plan, basis)
    if plan.kind == "smoothed":
        return _smoothed(bench, plan)
    if plan.kind in ("attack", "nearest"):
        return _attack(bench, plan)
    if plan.kind == "masking":
        return _masking(bench, plan)
    assert basis is not None, "the clean cell is measured before any out-of-distribution cell"
    return _ood(bench, plan, basis)


def logits_and_labels(
    model: Classifier, source: Source, batch_size: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return logits (N, K) float32 and labels (N,), on the CPU."""
    rows = [
        (torch.from_numpy(_logits(model, source.as_input(batch.image, device))), batch.label)
        for batch in batches(source, batch_size)
    ]
    logits, labels = zip(*rows, strict=True)
    return torch.cat(logits), torch.cat(labels)


def _clean(bench: Bench) -> Measured:
    rows: list[Columns] = []
    confidence = Confidence(bench.sets)
    for batch in batches(bench.test, bench.batch_size):
        x = bench.test.as_input(batch.image, bench.device)
        logits = _logits(bench.model, x)
        rows.append(_judged(batch, logits) | {"logits": logits} | scored(bench.model, bench.scores, x))
        rows[-1] |= _added(confidence, batch, logits)
    samples = _stack(rows)
    metrics = confidence.figures(samples)
    if bench.temperature is not None:
        scaled = samples["logits"].astype(np.float64) / bench.temperature
        tally = Tally(scaled.shape[1]).add(scaled, samples["label"])
        metrics["temperature"] = bench.temperature
        metrics |= {f"{key}_scaled": value for key, value in calibration_figures(tally).items()}
    return Measured(samples, metrics, {}, len(samples["index"]))


def _operator(bench: Bench, plan: Plan) -> Measured:
    operator = registry.create(plan.spec, severity=int(plan.severity))
    if operator.layout is TABLES:
        operator = fitted(operator, bench.test.fetch(range(len(bench.test)))[0].image)
    rows: list[Columns] = []
    before: list[Tensor] = []
    after: list[Tensor] = []
    confidence = Confidence(bench.sets)
    for batch in _batches(bench, plan):
        keys = Keys.of(plan.seed, batch.index).fold(plan.scenario)
        image = batch.image.to(bench.device) if isinstance(batch.image, Tensor) else batch.image
        keys = keys.to(operator.layout.device(image))
        shifted = operator.apply(image, operator.sample(keys))  # of images uint8: what a camera would store
        check_in_place(plan.spec, shifted)
        logits = _logits(bench.model, bench.test.as_input(shifted, bench.device))
        rows.append(_judged(batch, logits) | _added(confidence, batch, logits))
        if bench.test.layout is IMAGES:  # reports show pictures alone
            _keep(before, image, bench.examples)
            _keep(after, shifted, bench.examples)
    samples = _stack(rows)
    figures = confidence.figures(samples)
    return Measured(samples, figures, _examples(before=before, after=after), len(samples["index"]))


def _attack(bench: Bench, plan: Plan) -> Measured:
    """Run an attack within the plan's budget, or within its own where that is 0."""
    # made with the budget: beside another one, the budgets of its parts would be scaled
    attack = make_attack(plan.spec, plan.severity or None)
    model: nn.Module | None = None
    rows: list[Columns] = []
    before: list[Tensor] = []
    after: list[Tensor] = []
    asked = 0
    for batch in _as_attacked(attack, _batches(bench, plan)):
        x, y = bench.test.as_input(batch.image, bench.device), batch.label.to(bench.device)
        model = model or attackable(bench.model, x[: bench.batch_size])
        keys = Keys.of(plan.seed, batch.index).fold(plan.scenario).to(bench.device)
        execution = Execution(batch_size=bench.batch_size)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AttackWarning)  # the run's limits say what the attack warns of
            result = attack(model, x, y, keys=keys, execution=execution)
        rows.append(_attacked(bench, batch, result))
        tried = result.tried.cpu()
        if bench.test.layout is IMAGES:
            _keep(before, batch.image[tried], bench.examples)
            _keep(after, _bytes(result.x_adv)[result.tried], bench.examples)
        asked += len(x)
    samples = _stack(rows)
    metrics = _cost(samples)
    if plan.kind == "nearest":
        found = np.where(samples["success"], samples["norm"], np.inf)
        metrics["median_norm"] = float(np.median(found))
    else:
        metrics["accuracy"] = float(samples["correct"].mean())
    if attack.may_stop:
        metrics["asked"] = float(asked)
    changed = samples["success"] & (samples["norm"] > 0)
    parts = broke(attack, torch.from_numpy(samples["by"][changed]))
    metrics |= {f"{BROKE}{name}": float(count) for name, count in parts.items()} if len(parts) > 1 else {}
    return Measured(samples, metrics, _examples(before=before, after=after), len(samples["index"]))


def _as_attacked(attack: Attack, parts: Iterator[Batch]) -> Iterator[Batch]:
    """Batches as they come or, for an attack whose samples depend on each other, all as one."""
    names = {attack.name, *(part.name for part in getattr(attack, "parts", ()))}
    if not any("shared" in registry.lookup(name).tags for name in names):
        return parts
    every = [*parts]
    return iter([Batch(*map(torch.cat, zip(*every, strict=True)))] if every else [])


def _attacked(bench: Bench, batch: Batch, result: AttackResult) -> Columns:
    """What an attack did to the samples that it came to."""
    logits = np.concatenate([_logits(bench.model, part) for part in result.x_adv.split(bench.batch_size)])
    broken = (result.success & result.verified).cpu().numpy()
    columns = (
        _judged(batch, logits)
        | {"correct": ~broken, "success": broken, "fragile": (result.success & ~result.verified).cpu().numpy()}
        | {
            key: getattr(result, key).cpu().numpy()
            for key in ("norm", "forwards", "backwards", "verified", "silent", "by")
        }
    )
    tried = result.tried.cpu().numpy()
    return {key: column[tried] for key, column in columns.items()}


def _within(plan: Plan, nearest: Columns) -> Measured:
    """Read a budget off a run that looked for the nearest points."""
    standing = stands(nearest["norm"], nearest["success"], plan.severity)
    beyond = stands(nearest["norm"], nearest["fragile"], plan.severity)
    samples: Columns = {
        key: nearest[key] for key in ("index", "label", "norm", "forwards", "backwards", "verified", "silent")
    }
    samples |= {"correct": standing, "success": ~standing, "fragile": ~beyond}
    metrics = {"accuracy": float(standing.mean())} | _cost(samples)
    return Measured(samples, metrics, {}, len(samples["index"]))


def _smoothed(bench: Bench, plan: Plan) -> Measured:
    """Certify the smoothed model on each sample."""
    smoothing, rows = Smoothing(**plan.spec), []
    for batch in _batches(bench, plan):
        keys = Keys.of(plan.seed, batch.index).fold(plan.scenario).to(bench.device)
        found = certify(bench.model, bench.test.as_input(batch.image, bench.device), keys, smoothing, bench.batch_size)
        columns = {"index": batch.index, "label": batch.label, "correct": found.prediction == batch.label}
        rows.append({key: column.numpy() for key, column in (columns | found._asdict()).items()})
    samples = _stack(rows)
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


def _cost(samples: Columns) -> dict[str, float]:
    return {
        "fragile": float(samples["fragile"].sum()),
        "silent": float(samples["silent"].sum()),
        "forwards": float(samples["forwards"].mean()),
        "backwards": float(samples["backwards"].mean()),
    }


def broke(attack: Attack, by: Tensor) -> dict[str, int]:
    """Return how many samples each attack of an ensemble broke, in their order, by name.

    Args:
        by: of the samples that fell, as in `AttackResult`.
    """
    names = attack.numbered()
    counts = torch.bincount(by, minlength=len(names)).tolist()
    return {names[at] if at < len(names) else f"attack {at}": count for at, count in enumerate(counts)}


def _masking(bench: Bench, plan: Plan) -> Measured:
    rows = [
        (bench.test.as_input(batch.image, bench.device), batch.label, batch.index)
        for batch in batches(bench.test, bench.batch_size, subset(len(bench.test), SAMPLES, plan.seed))
    ]
    if not rows:
        raise ValueError("the source holds no readable sample; see the quarantine list")
    x, y, index = (torch.cat(part) for part in zip(*rows, strict=True))
    keys = Keys.of(plan.seed, index).fold(plan.scenario)
    threat, eps = threat_of(make_attack(plan.spec, plan.severity or None), plan.severity)
    surrogate = next((other for other in bench.others if not unfit(other, bench.model, x)), None)
    found = examine(bench.model, x, y.to(bench.device), threat, eps, keys, surrogate, bench.batch_size)
    columns: Columns = {
        "name": np.array([f.name for f in found], dtype=str),
        "message": np.array([f.message for f in found], dtype=str),
        "evidence": np.array([json.dumps(f.evidence) for f in found], dtype=str),
        "remedy": np.array([f.remedy for f in found], dtype=str),
        "before": np.array([f.before for f in found], dtype=np.float64),
        "after": np.array([f.after for f in found], dtype=np.float64),
    }
    metrics = {"findings": float(len(found)), "surrogates": float(surrogate is not None)}
    return Measured(columns, metrics, {}, len(x))


def findings(samples: Columns) -> list[Finding]:
    """Return the findings that the columns of a masking cell hold."""
    parts = (samples[key].tolist() for key in ("name", "message", "evidence", "remedy", "before", "after"))
    return [Finding(name, message, json.loads(e), *rest) for name, message, e, *rest in zip(*parts, strict=True)]


def attackable(model: Classifier, x: Tensor) -> nn.Module:
    """Return the model as attacks are run on it: a model that returns probabilities at x gets its logits back."""
    with torch.inference_mode():
        logits = model(x)
    return LogProbabilities(model) if are_probabilities(logits) else model


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
    for batch in _batches(bench, plan, foreign):
        x = foreign.as_input(batch.image, bench.device)
        rows.append({"index": batch.index.numpy()} | scored(bench.model, bench.scores, x))
        if foreign.layout is IMAGES:
            _keep(after, batch.image, bench.examples)
    samples = _stack(rows)
    metrics: dict[str, float] = {}
    for name in bench.scores:
        found = ood.detection(clean[f"score_{name}"], samples[f"score_{name}"], clean["correct"])
        metrics |= {f"{name}_{figure}": value for figure, value in found.items()}
    return Measured(samples, metrics, _examples(after=after), len(samples["index"]))


def _batches(bench: Bench, plan: Plan, source: Source | None = None) -> Iterator[Batch]:
    """Batches of the source, cut to the plan's limit by a seeded random choice kept in the source's order."""
    source = bench.test if source is None else source
    return batches(source, bench.batch_size, subset(len(source), plan.limit, plan.seed))


def _bytes(image: Tensor) -> Tensor:
    return (image * 255).round().clamp(0, 255).to(torch.uint8)


def _logits(model: Classifier, x: Any) -> np.ndarray:
    with torch.inference_mode():
        return model(x).float().cpu().numpy()


def _judged(batch: Batch, logits: np.ndarray) -> Columns:
    """What the model said of each sample: prediction, confidence and negative log-likelihood."""
    label = batch.label.numpy()
    log_p = torch.log_softmax(torch.from_numpy(logits).double(), dim=1).numpy()
    prediction = logits.argmax(axis=1)
    finite = np.isfinite(logits).all(axis=1)  # a model that answers NaN is wrong, whatever argmax says
    return {
        "index": batch.index.numpy(),
        "label": label,
        "prediction": prediction,
        "correct": (prediction == label) & finite,
        "confidence": np.exp(log_p.max(axis=1)),
        "nll": -log_p[np.arange(len(label)), label],
        "brier": ((np.exp(log_p) - np.eye(logits.shape[1])[label]) ** 2).sum(axis=1),
    }


def _added(confidence: Confidence, batch: Batch, logits: np.ndarray) -> Columns:
    return confidence.add(logits, batch.label.numpy(), batch.index.numpy())


def _stack(rows: list[Columns]) -> Columns:
    if not rows:
        raise ValueError("the source holds no readable sample; see the quarantine list")
    return {key: np.concatenate([row[key] for row in rows]) for key in rows[0]}


def _keep(kept: list[Tensor], image: Tensor, limit: int) -> None:
    missing = limit - sum(len(k) for k in kept)
    if missing > 0:
        kept.append(image[:missing].cpu())


def _examples(**parts: list[Tensor]) -> dict[str, np.ndarray]:
    return {key: torch.cat(images).numpy() for key, images in parts.items() if images}
