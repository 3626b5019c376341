"""The models of an experiment: trained or loaded, calibrated where that is asked for, and described."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import torch

from robustaug import launch, registry
from robustaug.data.source import Source
from robustaug.evaluate.calibrate import calibrate
from robustaug.experiment.plan import ModelSource, Plan
from robustaug.models import checkpoints
from robustaug.models.classifier import Classifier
from robustaug.models.fingerprint import model_fingerprint
from robustaug.train.tracking import Tracking
from robustaug.train.trainer import Trained, train
from robustaug.train.validation import Course, glance

Progress = Callable[[str, int, int, str], None]
"""Called with the phase ("train standard", "evaluate"), units done, units in all, and a few words."""


def load_model(source: ModelSource) -> Classifier:
    """Make the model that `source` describes, with its weights, in eval mode.

    Raises:
        ValueError: the checkpoint does not say which model it belongs to and none is given.
    """
    if source.checkpoint is None:
        return registry.make(source.model, "model").eval()
    return checkpoints.load(source.checkpoint, source.model)


def train_all(
    plan: Plan, folder: Path, device: torch.device, progress: Progress, given: Collection[str]
) -> dict[str, Trained]:
    """Train by the recipes whose models are not given; each process of a group some of them, by itself.

    So weights are those that one process would find, where one that trains with others rounds otherwise.
    """
    rank, world = launch.place()
    names = [name for name in sorted(plan.recipes, key=[*plan.experiment.models].index) if name not in given]

    def found(name: str) -> Trained:
        def told(done: int, total: int, course: Course) -> None:
            progress(f"train {name}", done, total, glance(course.latest))

        with launch.alone():
            return train(plan.recipes[name], folder / "models" / name, device, told)

    own = {name: found(name) for name in names[rank::world]}
    launch.wait()
    return {name: own.get(name) or _read(plan, folder, device, name) for name in names}


def _read(plan: Plan, folder: Path, device: torch.device, name: str) -> Trained:
    """Return what another process has trained: nothing is left to do, so nothing is tracked."""
    recipe = plan.recipes[name].model_copy(update={"tracking": Tracking()})
    with launch.alone():
        return train(recipe, folder / "models" / name, device)


def obtain(
    name: str,
    plan: Plan,
    folder: Path,
    device: torch.device,
    found: Trained | Classifier,
    validation: Source | None,
) -> tuple[Classifier, dict[str, Any]]:
    """Return a model as it is measured, and what run.json says of it."""
    source = plan.experiment.models[name]
    training: dict[str, Any] = {}
    if isinstance(found, Trained):
        model, at = found.model, found.checkpoint
        checkpoint = str(at.relative_to(folder) if at.is_relative_to(folder) else at)
        known = {key: getattr(found, key) for key in ("seconds", "start", "history", "best", "stopped")}
        training = {"training": {"recipe": str(source.train), "epochs": plan.recipes[name].epochs} | known}
    else:
        model, checkpoint = found.to(device), source.checkpoint or ""
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
