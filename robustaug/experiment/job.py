"""The main job: train or load models, measure them on one suite, compare, gate, report."""

from __future__ import annotations

import datetime
import os
import platform
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

import robustaug
from robustaug import registry
from robustaug.data.opening import open_source
from robustaug.data.source import Source
from robustaug.evaluate import left_out, summary
from robustaug.evaluate.calibrate import calibrate
from robustaug.evaluate.gates import (
    GateResult,
    Verdict,
    check_gates,
    confidence_of_each,
    overall,
    split_name,
)
from robustaug.evaluate.intervals import intervals
from robustaug.evaluate.kinds import check_suite
from robustaug.evaluate.left_out import put_together
from robustaug.evaluate.proxies import proxy_sources
from robustaug.evaluate.records import Records, nan_to_null
from robustaug.evaluate.runner import EvalData, locked, run_suite
from robustaug.experiment.folder import claim, describe_data, dump, write_quarantine
from robustaug.experiment.leave_one_out import data_of_folds
from robustaug.experiment.plan import ModelSource, Plan
from robustaug.models import checkpoints
from robustaug.models.classifier import Classifier
from robustaug.models.fingerprint import model_fingerprint
from robustaug.train.trainer import Trained, train
from robustaug.train.validation import glance

Progress = Callable[[str, int, int, str], None]
"""Called with the phase ("train standard", "evaluate"), units done, units in all, and a few words."""


class Outcome(NamedTuple):
    """What a run leaves: its folder, the figures of each model, the gates, and what it found that limits them."""

    folder: Path
    figures: dict[str, dict[str, float]]
    gates: dict[str, list[GateResult]]
    limits: list[str]

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

    Args:
        trained: models by name that were trained by the plan's recipes already; the others are trained in `folder`.

    Raises:
        ValueError: the folder holds a run of another experiment, or another process holds it.
    """
    folder = Path(folder)
    with locked(folder):
        claim(plan, folder)
        return _run(plan, folder, progress, command, trained or {})


def _run(plan: Plan, folder: Path, progress: Progress, command: str, trained: Mapping[str, Trained]) -> Outcome:
    experiment = plan.experiment
    device = pick_device(experiment.device)
    test, others = experiment.data.test, (experiment.data.validation, experiment.data.train)
    # data, its scenarios and stored models first: a mistake must not show only after hours of training
    held, known = (None if spec is None else open_source(spec) for spec in others)
    data = EvalData(open_source(test), held, known)
    data = _with_folds(plan, data)
    check_suite(plan.suite, data.test)
    proxies = {name: describe_data(source) for name, source in proxy_sources(plan.suite, data.test).items()}
    obtained = {
        name: _obtain(name, plan, folder, device, progress, trained.get(name), data.of(name).validation)
        for name in sorted(experiment.models, key=plan.recipes.__contains__)
    }
    models = {name: obtained[name][0] for name in experiment.models}
    described = {name: obtained[name][1] for name in experiment.models}
    records = Records(folder, create=True)
    limits = run_suite(
        records,
        models,
        data,
        plan.suite,
        device,
        lambda done, total, what: progress("evaluate", done, total, what),
        experiment.baseline,
    )
    if plan.folds:
        put_together(records, plan.folds, experiment.leave_one_out.column)  # type: ignore[union-attr]
        for domain, name in plan.folds.items():
            described[name]["left_out"] = domain
        described[left_out.NAME] = {"of": [*plan.folds.values()]}
    limits += write_quarantine(folder, data)
    figures = {name: summary.figures(records, name) for name in described}
    gates = judge(records, experiment.gates, figures)
    records.write_run(
        {
            "name": experiment.name,
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "command": command,
            "config": dump(plan),
            "models": described,
            "baseline": experiment.baseline or next(iter(models)),
            "data": describe_data(data.test),
            "proxies": proxies,
            "versions": {
                "robustaug": robustaug.__version__,
                "torch": torch.__version__,
                "python": platform.python_version(),
            },
            "machine": {"device": device_name(device), "threads": torch.get_num_threads(), "cpu": _processor()},
            "seed": experiment.seed,
            "limits": limits + _standing_limits(plan),
            "figures": {name: nan_to_null(found) for name, found in figures.items()},
            "gates": [g._asdict() | {"model": name} for name, results in gates.items() for g in results],
        }
    )
    return Outcome(folder, figures, gates, limits)


def _with_folds(plan: Plan, data: EvalData) -> EvalData:
    """Return the data, with those of models that must not know a domain."""
    asked, specs = plan.experiment.leave_one_out, plan.experiment.data
    if asked is None:
        return data
    assert specs.train is not None and specs.validation is not None, "checked when the plan was made"
    return replace(data, own=data_of_folds(asked.column, plan.folds, data, specs.train, specs.validation))


def judge(
    records: Records, gates: Mapping[str, Mapping[str, float]], figures: Mapping[str, Mapping[str, float]]
) -> dict[str, list[GateResult]]:
    """Hold the figures of models against their gates; all together err with a chance of `gates.ERROR_RATE` at most."""
    confidence = confidence_of_each(sum(map(len, gates.values())))
    out = {}
    for model, limits in gates.items():
        known = intervals(records, model, [split_name(gate)[1] for gate in limits], confidence)
        out[model] = check_gates(limits, figures[model], known)
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


def load_model(source: ModelSource) -> Classifier:
    """Make the model that `source` describes, with its weights, in eval mode.

    Raises:
        ValueError: the checkpoint does not say which model it belongs to and none is given.
    """
    if source.checkpoint is None:
        return registry.make(source.model, "model").eval()
    return checkpoints.load(source.checkpoint, source.model)


def _obtain(
    name: str,
    plan: Plan,
    folder: Path,
    device: torch.device,
    progress: Progress,
    trained: Trained | None,
    validation: Source | None,
) -> tuple[Classifier, dict[str, Any]]:
    source, training = plan.experiment.models[name], dict[str, Any]()
    if name in plan.recipes:
        recipe = plan.recipes[name]
        trained = trained or train(
            recipe,
            folder / "models" / name,
            device,
            lambda done, total, course: progress(f"train {name}", done, total, glance(course.latest)),
        )
        model, at = trained.model, trained.checkpoint
        checkpoint = str(at.relative_to(folder) if at.is_relative_to(folder) else at)
        known = {key: getattr(trained, key) for key in ("seconds", "start", "history", "best", "stopped")}
        training = {"training": {"recipe": str(source.train), "epochs": recipe.epochs} | known}
    else:
        model, checkpoint = load_model(source).to(device), source.checkpoint or ""
    if source.calibrate is not None:
        assert validation is not None, "checked before anything is made"
        path = folder / "models" / name / "calibration.safetensors"
        model = calibrate(model.to(device), source.calibrate, validation, path, device, plan.suite.batch_size)
        training["calibration"] = {"kind": source.calibrate, "file": str(path.relative_to(folder))}
    described = {
        "parameters": sum(p.numel() for p in model.parameters()),
        "fingerprint": model_fingerprint(model),
        "checkpoint": checkpoint,
    }
    return model, described | training


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
