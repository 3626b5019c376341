"""The resumable runner: measures the cells that are not on record yet, one whole cell at a time."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import filelock
import torch

import robustaug
from robustaug import atomic, launch
from robustaug.attacks.driver import are_probabilities, suspicions
from robustaug.data.source import Source
from robustaug.evaluate import behaviour, shift
from robustaug.evaluate.asked import write_asked
from robustaug.evaluate.attacked import findings
from robustaug.evaluate.bench import Bench
from robustaug.evaluate.busy import Busy
from robustaug.evaluate.cohorts import write_metadata
from robustaug.evaluate.confidence import fit_where_enough, set_limits
from robustaug.evaluate.keeper import Keeper
from robustaug.evaluate.kinds import check_model, check_suite
from robustaug.evaluate.measure import logits_and_labels, measure
from robustaug.evaluate.protected import check_protected
from robustaug.evaluate.proxies import proxy_sources
from robustaug.evaluate.records import Cell, Records
from robustaug.evaluate.scores import Specs, fit_scores, ready_scores, score_limits, unfit_limits
from robustaug.evaluate.suite import Plan, Suite
from robustaug.models.classifier import Classifier, require_eval
from robustaug.models.fingerprint import model_fingerprint
from robustaug.trust.calibration import TEMPERATURE_BOUNDS, fit_temperature
from robustaug.trust.ood import Score

Progress = Callable[[int, int, str], None]
"""Called with cells done, cells in all, and what comes next."""


@dataclass(frozen=True)
class EvalData:
    """The data of an evaluation.

    Attributes:
        test: what every figure is about.
        validation: where the temperature and prediction sets are fitted; without it there are none.
        train: what scores of foreign data learn from; without it those that learn are not measured.
        own: by model, the same test data with other validation and training data, for one that must not know some.
    """

    test: Source
    validation: Source | None = None
    train: Source | None = None
    own: Mapping[str, EvalData] = field(default_factory=dict)

    def of(self, model: str) -> EvalData:
        """Return what a model is fitted on: its own where it has some."""
        return self.own.get(model, self)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the run folder, rid of what killed writes left: two processes must not write one run.

    Raises:
        ValueError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder / ".lock", blocking=False)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise ValueError(f"{folder} is in use by another robustaug process; wait for it, or set another name") from None
    with lock:
        atomic.sweep(folder)
        yield


def run_suite(
    records: Records,
    models: Mapping[str, Classifier],
    data: EvalData,
    suite: Suite,
    device: torch.device,
    progress: Progress = lambda done, total, what: None,
    baseline: str | None = None,
    busy: Busy | None = None,
) -> list[str]:
    """Measure every (model, plan) that `records` does not hold with the same fingerprint.

    Kill it at any instant and call it again: whole cells stay, the cell in hand is measured anew, and every figure
    is the same to the last bit on the same device, because all randomness comes from the cell's seed and the
    samples' indices.

    The processes of a group (see `robustaug.launch`) share the batches of a cell, and the first one alone reads and
    writes records: they are those of one process, to the last bit where the devices and the threads of each are alike.

    Args:
        models: by name, each in eval mode; of images with inputs in [0, 1]. For the masking checks of one, another is
            the surrogate: the first whose gradients can be followed.
        baseline: the model that others are held against; the first one when left out.
        busy: is told what measuring took.

    Returns:
        Sentences on what could not be measured and why, and on what is no evidence.

    Raises:
        ValueError: a model in train mode, a model or scenario for another kind of data, other data with other
            classes, or a model with another number of classes than the data.
        launch.EndedError: another process of the group ended.
    """
    check_suite(suite, data.test)
    plans = [*suite.plans()]
    proxies = proxy_sources(suite, data.test)
    limits = [] if data.validation is not None else ["No temperature was fitted: no validation data was given."]
    limits += set_limits(data.validation, suite.alpha)
    positive = check_protected(suite, data.test)
    launch.told(lambda: write_metadata(records, data.test, suite.protected, positive, suite.domains))
    launch.told(lambda: write_asked(records, suite, data.test, [*models], baseline))
    for model in models.values():
        require_eval(model)
        check_model(model, data.test)
        model.to(device)
    fingerprints = {name: model_fingerprint(model) for name, model in models.items()}
    _check_alike(fingerprints, data, suite)
    busy = busy or Busy()
    with busy.watching(models.values(), device) as meter, Keeper(records) as keeper:
        for number, (name, model) in enumerate(models.items()):
            others = [other for other in models if other != name]
            mine = data.of(name)
            base = _model_context(fingerprints[name], mine, suite, device)
            rivals = [fingerprints[other] for other in others]
            cells = [_cell(name, plan, base, _beside(plan, rivals, proxies)) for plan in plans]
            specs: Specs = suite.scores if any(plan.kind == "ood" for plan in plans) else []
            scores, missing = ready_scores(model, specs, mine.train, data.test, device)
            limits += missing
            held = launch.told(lambda cells=cells: [*map(records.holds, cells)])
            bench: Bench | None = None
            for at, (plan, cell) in enumerate(zip(plans, cells, strict=True)):
                progress(number * len(plans) + at, len(models) * len(plans), f"{name}: {plan.scenario}")
                if held[at]:
                    continue
                if bench is None:
                    bench, unfit = _bench(model, mine, suite, device, scores)
                    launch.told(lambda name=name, unfit=unfit: records.write_notes(name, unfit))
                    bench = replace(bench, others=tuple(models[other] for other in others), proxies=proxies)
                basis = keeper.columns(_basis(plan, plans, cells), plan) if plan.basis else None
                started = time.perf_counter()
                measured = measure(bench, plan, basis)
                keeper.keep(cell, measured, time.perf_counter() - started)
                busy.cells += 1
                meter.seconds()  # here, where the device is idle, and not for all cells at last
            keeper.settle()
            limits += launch.told(lambda name=name: _limits(name, records))
        limits += launch.told(lambda: [sentence for name in models for sentence in shift.limits(records, name)])
    limits += [
        f"{len(rows)} damaged files of {scenario} were left out, such as {rows[0].path}."
        for scenario, source in proxies.items()
        if (rows := source.quarantine.rows)
    ]
    progress(len(models) * len(plans), len(models) * len(plans), "done")
    return [*dict.fromkeys(limits)]


def _check_alike(fingerprints: Mapping[str, str], data: EvalData, suite: Suite) -> None:
    """Refuse processes that would not measure the same.

    Raises:
        ValueError: they were given different models, data or suites.
    """
    every = [data, *data.own.values()]
    sources = [
        source.fingerprint if source else "" for each in every for source in (each.test, each.validation, each.train)
    ]
    parts = json.dumps([dict(fingerprints), sources, suite.model_dump(mode="json")])
    if not launch.alike(hashlib.sha256(parts.encode()).digest()):
        raise ValueError(
            "the processes were given different models, data or suites; give all of them the same, or a disk that "
            "they share"
        )


def _basis(plan: Plan, plans: list[Plan], cells: list[Cell]) -> Cell:
    """Return the cell that a plan is computed from; it comes before."""
    if plan.basis == "clean":
        return cells[0]
    return cells[plans.index(plan._replace(kind=plan.basis, severity=0.0, basis=""))]


def _bench(
    model: Classifier, data: EvalData, suite: Suite, device: torch.device, scores: dict[str, Score]
) -> tuple[Bench, dict[str, str]]:
    """Return the bench, and why scores are left out of it."""
    temperature, sets = None, None
    if data.validation is not None:
        logits, labels = logits_and_labels(model, data.validation, suite.batch_size, device)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a temperature without a best value: the run's limits say so
            temperature = fit_temperature(logits, labels)
        sets = fit_where_enough(logits, labels, suite.alpha)
    able, unfit = fit_scores(scores, model, data.train, suite.batch_size, device)
    return Bench(model, data.test, device, suite.batch_size, temperature, able, suite.examples, sets=sets), unfit


def _limits(model: str, records: Records) -> list[str]:
    """Say what is no evidence, from what is stored of a model."""
    clean = records.cells(model=model, kind="clean")[0]
    found = _temperature_limits(model, clean) + _attack_limits(model, records)
    found += unfit_limits(model, records.notes(model))
    found += score_limits(model, records.cells(model=model, kind="ood"))
    return found + behaviour.limits(records.cells(model=model))


def _temperature_limits(model: str, clean: Cell) -> list[str]:
    least, greatest = TEMPERATURE_BOUNDS
    reasons = {least: "every validation sample is right", greatest: "its logits are no better than chance"}
    reason = reasons.get(clean.metrics.get("temperature", 1.0))
    return [f"The temperature of {model} has no best value: {reason}."] if reason else []


def _attack_limits(model: str, records: Records) -> list[str]:
    """Say which of a model's robust accuracies are no evidence, from what is stored."""
    attacked = records.cells(model=model, kind="attack")
    if not attacked:
        return []
    examined = [f for cell in records.cells(model=model, kind="masking") for f in findings(records.samples(cell))]
    clean = records.samples(records.cells(model=model, kind="clean")[0], ["logits"])
    logits = torch.tensor(clean["logits"])
    sentences = [f"{model}: {words}." for words in suspicions(logits)]
    if are_probabilities(logits):
        sentences.append(
            f"{model}: it returns probabilities (its rows sum to 1), which starve gradients; attacks were run on their "
            "logarithms instead."
        )
    for scenario in dict.fromkeys(cell.scenario for cell in attacked):
        cell = max((c for c in attacked if c.scenario == scenario), key=lambda c: c.metrics.get("silent", 0.0))
        if silent := cell.metrics.get("silent", 0.0):
            sentences.append(
                f"{model}: under {scenario} at {cell.severity:g}, {silent:.0f} of {cell.n} samples stood without ever "
                "having a gradient; that is no evidence of robustness."
            )
    # of probabilities it is said above, from all samples
    return sentences + [f"{model}: {finding.sentence}" for finding in examined if finding.name != "probabilities"]


def _model_context(fingerprint: str, data: EvalData, suite: Suite, device: torch.device) -> str:
    """Hash what all cells of a model depend on."""
    parts = [
        robustaug.__version__,
        torch.__version__,
        device.type,
        fingerprint,
        *(source.fingerprint if source else "" for source in (data.test, data.validation, data.train)),
        suite.batch_size,
        suite.examples,
        suite.alpha,
        sorted(suite.scores, key=json.dumps),
        any(plan.kind == "ood" for plan in suite.plans()),
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _beside(plan: Plan, others: list[str], proxies: Mapping[str, Source]) -> list[str]:
    """Hash what a cell depends on besides: the masking checks on the other models, some on data of their own."""
    if plan.kind == "data":
        return [proxies[plan.scenario].fingerprint]
    return others if plan.kind == "masking" else []


def _cell(model: str, plan: Plan, base: str, beside: list[str]) -> Cell:
    """Return the cell before it is measured."""
    parts = [base, plan.spec, plan.limit, plan.kind, *beside]
    parts += ["scored"] if plan.role == "shifted" else []  # another role changes only how cells are put together
    fingerprint = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    return Cell(model, plan.scenario, plan.kind, plan.severity, plan.seed, fingerprint)
