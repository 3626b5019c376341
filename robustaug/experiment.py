"""The main job from one YAML: train or load models, measure them on one suite, compare, gate, report."""

from __future__ import annotations

import datetime
import json
import os
import platform
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import torch
from pydantic import Field, model_validator

import robustaug
from robustaug import atomic, registry
from robustaug.config import ConfigError, Strict, load
from robustaug.data.opening import open_source
from robustaug.data.source import Source
from robustaug.evaluate import summary
from robustaug.evaluate.calibrate import calibrate
from robustaug.evaluate.gates import (
    GateResult,
    Limits,
    Verdict,
    check_figures,
    check_gates,
    confidence_of_each,
    overall,
    split_name,
)
from robustaug.evaluate.intervals import intervals
from robustaug.evaluate.kinds import check_suite
from robustaug.evaluate.records import Records, nan_to_null
from robustaug.evaluate.runner import EvalData, locked, run_suite
from robustaug.evaluate.suite import Suite
from robustaug.models import checkpoints
from robustaug.models.classifier import Classifier
from robustaug.models.fingerprint import model_fingerprint
from robustaug.train.recipe import Recipe, Spec, TrainData
from robustaug.train.trainer import Trained, train
from robustaug.train.validation import glance

Progress = Callable[[str, int, int, str], None]
"""Called with the phase ("train standard", "evaluate"), units done, units in all, and a few words."""


class ModelSource(Strict):
    """Where a model comes from: a recipe to train by, or a registered model with weights.

    Attributes:
        train: path of a recipe, relative to the experiment's file.
        model: `name` or `{name: parameters}`; a checkpoint written by robustaug knows its own.
        checkpoint: path of its weights.
        calibrate: fit this scaling of its logits to the validation data, and measure the calibrated model:
            "temperature", "vector", "platt" or "isotonic". It is kept as calibration.safetensors in the run's
            models/<name>, for `model.calibrated`.
    """

    train: str | None = None
    model: Spec | None = None
    checkpoint: str | None = None
    calibrate: Literal["temperature", "vector", "platt", "isotonic"] | None = None

    @model_validator(mode="after")
    def _one_way(self) -> ModelSource:
        if (self.train is None) == (self.model is None and self.checkpoint is None):
            raise ValueError("give either train (a recipe to train by) or model and/or checkpoint (a model to load)")
        return self


class ExperimentData(Strict):
    """Sources of family `data`: what to measure on, to calibrate on, and to remember or train on."""

    test: Spec
    validation: Spec | None = None
    train: Spec | None = None


class Experiment(Strict):
    """One experiment.

    Attributes:
        name: names the run folder.
        seed: added to the seed of every recipe and scenario: another one repeats the experiment with other draws.
        data: test, validation and train sources; recipes without data of their own train on these.
        models: by name, in the order in which the report shows them.
        baseline: the model that others are compared against; the first one when left out.
        suite: the path of a suite, relative to the experiment's file, or the suite itself.
        gates: limits by model, such as `robust: {min_robust_accuracy: 0.4}`; a broken one makes the exit code 1,
            one that the samples cannot decide 3.
        device: "auto", "cpu", "cuda" or "cuda:1".
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    seed: Annotated[int, Field(ge=0)] = 0
    data: ExperimentData
    models: Annotated[dict[str, ModelSource], Field(min_length=1)]
    baseline: str | None = None
    suite: str | Suite
    gates: dict[str, Limits] = {}
    device: str = "auto"

    @model_validator(mode="after")
    def _known_models(self) -> Experiment:
        for where, names in (("baseline", [self.baseline] if self.baseline else []), ("gates", [*self.gates])):
            for name in names:
                if name not in self.models:
                    raise ValueError(f"{where} names model {name!r}; the models are {[*self.models]}")
        return self


class Plan(NamedTuple):
    """An experiment with every file that it names read and checked."""

    experiment: Experiment
    suite: Suite
    recipes: dict[str, Recipe]


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


def read_plan(path: str | Path, overrides: tuple[str, ...] | list[str] = ()) -> Plan:
    """Read an experiment and all files it names; mistakes of all of them are reported together.

    Raises:
        FileNotFoundError: a file is missing.
        ConfigError: every mistake, one a line.
    """
    return resolve(load(path, Experiment, overrides), Path(path).parent)


def resolve(experiment: Experiment, folder: Path) -> Plan:
    """Read the suite and the recipes that `experiment` names, relative to `folder`; see `read_plan`."""
    mistakes: list[str] = []
    recipes: dict[str, Recipe] = {}
    suite = experiment.suite
    if isinstance(suite, str):
        suite = _collect(mistakes, folder / suite, Suite)
    mistakes += [f"data.{key}: {fault}" for key, fault in _unknown(vars(experiment.data), "source")]
    for name, source in experiment.models.items():
        if source.calibrate is not None and experiment.data.validation is None:
            mistakes.append(f"models.{name}.calibrate: needs held-out samples; set data.validation")
        mistakes += [f"models.{name}.{key}: {fault}" for key, fault in _unknown({"model": source.model}, "model")]
        if source.train is not None:
            recipe = _collect(mistakes, folder / source.train, Recipe)
            if recipe is not None:
                recipes[name] = _completed(recipe, experiment, name, mistakes)
    if isinstance(suite, Suite):
        for name, limits in experiment.gates.items():
            try:  # now, not after the hours that measuring takes
                check_figures(limits, summary.figure_names(suite))
            except ValueError as error:
                mistakes.append(f"gates.{name}: {error}")
    if mistakes or not isinstance(suite, Suite):
        raise ConfigError("\n".join(mistakes))
    return Plan(experiment, suite.reseeded(experiment.seed), recipes)


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
        _claim(plan, folder)
        return _run(plan, folder, progress, command, trained or {})


def _run(plan: Plan, folder: Path, progress: Progress, command: str, trained: Mapping[str, Trained]) -> Outcome:
    experiment = plan.experiment
    device = pick_device(experiment.device)
    test, others = experiment.data.test, (experiment.data.validation, experiment.data.train)
    # data, its scenarios and stored models first: a mistake must not show only after hours of training
    data = EvalData(open_source(test), *(None if spec is None else open_source(spec) for spec in others))
    check_suite(plan.suite, data.test)
    obtained = {
        name: _obtain(name, experiment.models[name], plan, folder, device, progress, trained.get(name), data.validation)
        for name in sorted(experiment.models, key=plan.recipes.__contains__)
    }
    models = {name: obtained[name][0] for name in experiment.models}
    described = {name: obtained[name][1] for name in experiment.models}
    records = Records(folder, create=True)
    limits = run_suite(
        records, models, data, plan.suite, device, lambda done, total, what: progress("evaluate", done, total, what)
    )
    limits += _quarantine(folder, data)
    figures = {name: summary.figures(records, name) for name in models}
    gates = judge(records, experiment.gates, figures)
    records.write_run(
        {
            "name": experiment.name,
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "command": command,
            "config": _dump(plan),
            "models": described,
            "baseline": experiment.baseline or next(iter(models)),
            "data": _describe_data(data.test),
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
    source: ModelSource,
    plan: Plan,
    folder: Path,
    device: torch.device,
    progress: Progress,
    trained: Trained | None,
    validation: Source | None,
) -> tuple[Classifier, dict[str, Any]]:
    training: dict[str, Any] = {}
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


def _claim(plan: Plan, folder: Path) -> None:
    """Write experiment.json, or refuse a folder in which another experiment ran: old records must not mix."""
    path = folder / "experiment.json"
    # gates, the baseline and protected columns judge what is on record; they may change without measuring anew
    dumped = {key: value for key, value in _dump(plan).items() if key not in ("gates", "baseline")}
    dumped["suite"] = {key: value for key, value in dumped["suite"].items() if key not in ("protected", "positive")}
    if path.exists():
        before = json.loads(path.read_text(encoding="utf-8"))
        if before != dumped:
            changed = ", ".join(_differences(before, dumped)[:3])
            raise ValueError(
                f"{folder} holds a run of another config (it differs at {changed}); "
                "set another name=..., or pass --fresh to set the old run aside"
            )
    atomic.write_text(path, json.dumps(dumped, indent=1))


def _dump(plan: Plan) -> dict[str, Any]:
    content = plan.experiment.model_dump(mode="json") | {"suite": plan.suite.model_dump(mode="json")}
    return json.loads(json.dumps(content | {"recipes": {n: r.settings() for n, r in plan.recipes.items()}}))


def _differences(a: Any, b: Any, path: str = "") -> list[str]:
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        keys = dict.fromkeys([*a, *b])
        return [d for key in keys for d in _differences(a.get(key), b.get(key), f"{path}.{key}".lstrip("."))]
    return [] if a == b else [path]


def _collect(mistakes: list[str], path: Path, schema: Any) -> Any:
    try:
        return load(path, schema)
    except (ConfigError, FileNotFoundError) as error:
        mistakes.append(str(error))
        return None


def _unknown(specs: Mapping[str, Spec | None], kind: str) -> list[tuple[str, str]]:
    """Return (key, what is wrong) for every spec that does not name a registered thing of this kind."""
    faults = []
    for key, spec in specs.items():
        if spec is None:
            continue
        try:
            registry.read_spec(spec, kind)
        except ValueError as error:
            faults.append((key, str(error)))
    return faults


def _completed(recipe: Recipe, experiment: Experiment, name: str, mistakes: list[str]) -> Recipe:
    data = experiment.data
    recipe = recipe.model_copy(update={"seed": recipe.seed + experiment.seed})
    if recipe.data is not None:
        return recipe
    if data.train is None or data.validation is None:
        mistakes.append(
            f"models.{name}: its recipe names no data, so the experiment needs data.train and data.validation"
        )
        return recipe
    return recipe.model_copy(update={"data": TrainData(train=data.train, validation=data.validation)})


def _quarantine(folder: Path, data: EvalData) -> list[str]:
    """Write quarantine.csv for each source with damaged files; return a sentence on each."""
    sentences = []
    for part in ("test", "validation", "train"):
        source: Source | None = getattr(data, part)
        if source is not None and source.quarantine.rows:
            path = folder / f"quarantine_{part}.csv"
            source.quarantine.write_csv(path)
            sentences.append(
                f"{len(source.quarantine.rows)} damaged {part} files were left out; {path.name} lists them."
            )
    return sentences


def _describe_data(source: Source) -> dict[str, Any]:
    return {
        "name": source.name,
        "classes": [*source.classes],
        "n": len(source),
        "fingerprint": source.fingerprint,
        "shape": [*source.shape],
        "quarantined": len(source.quarantine.rows),
    }


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
    if plan.recipes:
        limits.append("Each model was trained once: the intervals cover the test samples, not the chance in training.")
    return limits


def _processor() -> str:
    return f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {sys.platform}"
