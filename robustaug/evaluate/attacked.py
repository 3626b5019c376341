"""Measure a model under attack: what stood, what broke it, and whether that is to be believed.

Legend: N samples, K classes.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator

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
from robustaug.data.source import Batch, batches
from robustaug.evaluate.bench import (
    Bench,
    Columns,
    Measured,
    batches_of,
    each_of,
    examples_of,
    judged,
    keep,
    logits_of_input,
    stacked,
)
from robustaug.evaluate.suite import Plan, make_attack
from robustaug.models.classifier import Classifier
from robustaug.ops.layout import IMAGES
from robustaug.rng import Keys, subset

BROKE = "broke "
"""Begins the names of metrics that count what each attack of an ensemble broke."""


def attacked(bench: Bench, plan: Plan) -> Measured:
    """Measure an attack within the plan's budget, or within its own where that is 0."""
    # made with the budget: beside another one, the budgets of its parts would be scaled
    attack = make_attack(plan.spec, plan.severity or None)
    model = _attackable_on(bench, plan)

    def look(batch: Batch) -> tuple[Columns, int, list[Tensor]]:
        x, y = bench.test.as_input(batch.image, bench.device), batch.label.to(bench.device)
        keys = Keys.of(plan.seed, batch.index).fold(plan.scenario).to(bench.device)
        execution = Execution(batch_size=bench.batch_size)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AttackWarning)  # the run's limits say what the attack warns of
            result = attack(model, x, y, keys=keys, execution=execution)
        few: list[Tensor] = []
        if bench.test.layout is IMAGES:
            shown = (batch.image[result.tried.cpu()], _bytes(result.x_adv)[result.tried])
            few = [part[: bench.examples].cpu() for part in shown]
        return _columns(bench, batch, result), len(x), few

    rows: list[Columns] = []
    before: list[Tensor] = []
    after: list[Tensor] = []
    asked = 0
    # samples that depend on each other are no work to share: every process attacks all of them as one
    seen = map(look, _as_one(batches_of(bench, plan))) if _dependent(attack) else each_of(bench, plan, look)
    for columns, size, few in seen:
        rows.append(columns)
        for kept, part in zip((before, after), few, strict=False):
            keep(kept, part, bench.examples)
        asked += size
    samples = stacked(rows)
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
    return Measured(samples, metrics, examples_of(before=before, after=after), len(samples["index"]))


def _attackable_on(bench: Bench, plan: Plan) -> nn.Module:
    """Return the model as attacks are run on it, by what it returns for the first samples of the plan."""
    first = next(batches_of(bench, plan), None)
    return bench.model if first is None else attackable(bench.model, bench.test.as_input(first.image, bench.device))


def _dependent(attack: Attack) -> bool:
    """Whether samples of the attack depend on each other."""
    names = {attack.name, *(part.name for part in getattr(attack, "parts", ()))}
    return any("shared" in registry.lookup(name).tags for name in names)


def _as_one(parts: Iterator[Batch]) -> Iterator[Batch]:
    every = [*parts]
    return iter([Batch(*map(torch.cat, zip(*every, strict=True)))] if every else [])


def _columns(bench: Bench, batch: Batch, result: AttackResult) -> Columns:
    """What an attack did to the samples that it came to."""
    logits = np.concatenate([logits_of_input(bench.model, part) for part in result.x_adv.split(bench.batch_size)])
    broken = (result.success & result.verified).cpu().numpy()
    columns = (
        judged(batch, logits)
        | {"correct": ~broken, "success": broken, "fragile": (result.success & ~result.verified).cpu().numpy()}
        | {
            key: getattr(result, key).cpu().numpy()
            for key in ("norm", "forwards", "backwards", "verified", "silent", "by")
        }
    )
    tried = result.tried.cpu().numpy()
    return {key: column[tried] for key, column in columns.items()}


def within(plan: Plan, nearest: Columns) -> Measured:
    """Read a budget off a run that looked for the nearest points."""
    standing = stands(nearest["norm"], nearest["success"], plan.severity)
    beyond = stands(nearest["norm"], nearest["fragile"], plan.severity)
    samples: Columns = {
        key: nearest[key] for key in ("index", "label", "norm", "forwards", "backwards", "verified", "silent")
    }
    samples |= {"correct": standing, "success": ~standing, "fragile": ~beyond}
    metrics = {"accuracy": float(standing.mean())} | _cost(samples)
    return Measured(samples, metrics, {}, len(samples["index"]))


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


def masking(bench: Bench, plan: Plan) -> Measured:
    """Look for signs that the model hides its gradients, one row a finding."""
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


def _bytes(image: Tensor) -> Tensor:
    return (image * 255).round().clamp(0, 255).to(torch.uint8)
