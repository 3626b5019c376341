"""The main job: train or load models, measure them on one suite, compare, gate, report."""

from __future__ import annotations

import contextlib
import datetime
import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

import robustaug
from robustaug import launch, registry
from robustaug.data.opening import open_source
from robustaug.evaluate import left_out, summary
from robustaug.evaluate.busy import Busy
from robustaug.evaluate.changes import Side, changes
from robustaug.evaluate.gates import (
    Change,
    GateResult,
    Verdict,
    changes_of,
    check_gates,
    confidence_of_each,
    overall,
    split_name,
)
from robustaug.evaluate.intervals import intervals
from robustaug.evaluate.kinds import check_suite
from robustaug.evaluate.left_out import put_together
from robustaug.evaluate.look_alikes import write_look_alikes
from robustaug.evaluate.proxies import proxy_sources
from robustaug.evaluate.records import Records, nan_to_null
from robustaug.evaluate.runner import EvalData, locked, run_suite
from robustaug.evaluate.statistics import Interval
from robustaug.experiment import previous
from robustaug.experiment.folder import claim, describe_data, dump, write_quarantine
from robustaug.experiment.leave_one_out import data_of_folds
from robustaug.experiment.models import Progress, load_model, obtain, train_all
from robustaug.experiment.plan import Plan
from robustaug.train.trainer import Trained


class Outcome(NamedTuple):
    """What a run leaves: its folder, the figures of each model, the gates, and what it found that limits them.

    Attributes:
        busy: what measuring took, see `evaluate.busy.Busy.facts`.
    """

    folder: Path
    figures: dict[str, dict[str, float]]
    gates: dict[str, list[GateResult]]
    limits: list[str]
    busy: dict[str, Any]

    @property
    def verdict(self) -> Verdict:
        """What all gates say together."""
        return overall([result.verdict for results in self.gates.values() for result in results])


def run(
    plan: Plan,
    folder: str | Path,
    progress: Progress = lambda *_: None,
    command: str = "",
    trained: Mapping[str, Trained] | None = None,
) -> Outcome:
    """Run an experiment in `folder`, or continue the one that stands there.

    Among several processes (see `robustaug.launch`) each trains some of the models, every one by itself, and all of
    them share the batches of the suite. The first one alone writes records, which are those of one process, to the
    last bit where the devices and the threads of each are alike; all processes must see the same `folder`.

    Args:
        trained: models by name that were trained by the plan's recipes already; the others are trained in `folder`.

    Raises:
        ValueError: the folder holds a run of another experiment, or another process holds it.
        launch.EndedError: another process of this job ended.
    """
    folder, device = Path(folder), pick_device(launch.local_device(plan.experiment.device))
    with launch.joined(device) as rank, contextlib.ExitStack() as held:
        if rank == 0:
            held.enter_context(locked(folder))
            claim(plan, folder)
        launch.wait()  # until the folder is there
        return _run(plan, folder, device, progress, command, trained or {})


def _run(
    plan: Plan,
    folder: Path,
    device: torch.device,
    progress: Progress,
    command: str,
    trained: Mapping[str, Trained],
) -> Outcome:
    experiment = plan.experiment
    test, others = experiment.data.test, (experiment.data.validation, experiment.data.train)
    # data, its scenarios and stored models first: a mistake must not show only after hours of training
    held, known = (None if spec is None else open_source(spec) for spec in others)
    data = EvalData(open_source(test), held, known)
    data = _with_folds(plan, data)
    check_suite(plan.suite, data.test)
    proxies = {name: describe_data(source) for name, source in proxy_sources(plan.suite, data.test).items()}
    previous.find(experiment, data.test)
    stored = {name: load_model(source) for name, source in experiment.models.items() if name not in plan.recipes}
    trained = {**trained, **train_all(plan, folder, device, progress, [*trained])}
    obtained = {
        name: obtain(name, plan, folder, device, trained.get(name) or stored[name], data.of(name).validation)
        for name in experiment.models
    }
    models = {name: obtained[name][0] for name in experiment.models}
    described = {name: obtained[name][1] for name in experiment.models}
    records, busy = launch.told(lambda: Records(folder, create=True)), Busy()

    def measuring(done: int, total: int, what: str) -> None:
        progress("evaluate", done, total, what)

    limits = run_suite(records, models, data, plan.suite, device, measuring, experiment.baseline, busy)
    return launch.told(lambda: _written(plan, records, data, device, described, proxies, limits, busy.facts(), command))


def _written(
    plan: Plan,
    records: Records,
    data: EvalData,
    device: torch.device,
    described: dict[str, Any],
    proxies: dict[str, Any],
    limits: list[str],
    busy: dict[str, Any],
    command: str,
) -> Outcome:
    """Judge what is on record, and write what was run."""
    experiment = plan.experiment
    if plan.folds:
        put_together(records, plan.folds, experiment.leave_one_out.column)  # type: ignore[union-attr]
        for domain, name in plan.folds.items():
            described[name]["left_out"] = domain
        described[left_out.NAME] = {"of": [*plan.folds.values()]}
    limits = limits + write_quarantine(records.folder, data)
    busy = busy or records.run.get("busy") or {}  # of what was measured last
    figures = {name: summary.figures(records, name) for name in described}
    write_look_alikes(records, experiment.models, data.test)
    before = previous.find(experiment, data.test)
    said = {
        "name": experiment.name,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": command,
        "config": dump(plan),
        "models": described,
        "baseline": experiment.first(),
        "data": describe_data(data.test),
        "proxies": proxies,
        "versions": {
            "robustaug": robustaug.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        "machine": {"device": device_name(device), "threads": torch.get_num_threads(), "cpu": _processor()},
        "busy": busy,
        "seed": experiment.seed,
        "limits": limits + _standing_limits(plan),
        "figures": {name: nan_to_null(found) for name, found in figures.items()},
    }
    records.write_run(said)  # judging asks it whether other labelled data are the previous version's
    gates = judge(records, experiment.gates, figures, before)
    records.write_run(said | {"gates": [g._asdict() | {"model": name} for name, of in gates.items() for g in of]})
    previous.write_changes(records, experiment.models, before)
    return Outcome(records.folder, figures, gates, limits, busy)


def _with_folds(plan: Plan, data: EvalData) -> EvalData:
    """Return the data, with those of models that must not know a domain."""
    asked, specs = plan.experiment.leave_one_out, plan.experiment.data
    if asked is None:
        return data
    assert specs.train is not None and specs.validation is not None, "checked when the plan was made"
    return replace(data, own=data_of_folds(asked.column, plan.folds, data, specs.train, specs.validation))


def judge(
    records: Records,
    gates: Mapping[str, Mapping[str, float]],
    figures: Mapping[str, Mapping[str, float]],
    before: previous.Previous,
) -> dict[str, list[GateResult]]:
    """Hold the figures of models against their gates; all together err with a chance of `gates.ERROR_RATE` at most."""
    confidence = confidence_of_each(sum(map(len, gates.values())))
    out = {}
    for model, limits in gates.items():
        known = intervals(records, model, [split_name(gate)[1] for gate in limits], confidence)
        known |= _changes(records, model, changes_of(limits, figures[model]), confidence, before)
        measured = {name: known[name].estimate for name in known if name not in figures[model]}
        out[model] = check_gates(limits, {**figures[model], **measured}, known)
    return out


def _changes(
    records: Records, model: str, asked: Mapping[str, Change], confidence: float, before: previous.Previous
) -> dict[str, Interval]:
    """Return by how much figures drop or rise from the previous version, with paired intervals."""
    version = before.of(model, records) if asked else None
    if version is None:
        return {}
    found = changes(version, Side(records, model), [change.figure for change in asked.values()], confidence)
    out = {}
    for name, (kind, figure) in asked.items():
        if (made := found.get(figure)) is not None:
            up = Interval(made.value, made.low, made.high)
            out[name] = up if kind == "rise" else Interval(-up.estimate, -up.high, -up.low)
    return out


def pick_device(name: str) -> torch.device:
    """Return the named device; "auto" takes CUDA where there is one.

    Raises:
        ValueError: no such device on this machine.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"device must be auto, cpu, cuda or cuda:N, got {name!r}") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device {name!r} is not on this machine ({torch.cuda.device_count()} CUDA devices); use cpu")
    return device


def device_name(device: torch.device) -> str:
    """Return what a reader would call the device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _standing_limits(plan: Plan) -> list[str]:
    attacks = sorted({registry.spec_name(p.spec) for p in plan.suite.plans() if p.kind == "attack"})
    limits = ["Figures hold for this test data; shifts other than the ones listed were not measured."]
    if attacks:
        limits.append(f"Robust accuracy is an upper bound: {', '.join(attacks)} may miss weaknesses that others find.")
    if any(p.kind == "certified" for p in plan.suite.plans()):
        limits.append("Certificates are of the smoothed models; each may be wrong with the probability alpha.")
    if names := [name for name, source in plan.experiment.models.items() if source.calibrate is not None]:
        limits.append(
            f"Prediction sets of {', '.join(names)} were fitted to the samples that calibrated the model, so they may "
            "cover a little less than they say."
        )
    if any(p.limit for p in plan.suite.plans()):
        limits.append("Some scenarios measured a random part of the test data; the tables give the counts.")
    if plan.folds:
        limits.append(
            f"{left_out.NAME} has for each sample the answer of the model that never saw its domain; intervals cover "
            "the samples of these domains, not the choice of domains."
        )
    if plan.recipes:
        limits.append("Each model was trained once: the intervals cover the test samples, not the chance in training.")
    return limits


def _processor() -> str:
    return f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {sys.platform}"
