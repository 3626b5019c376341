"""The one trainer: augment, attack, step; validate, remember the best, resume exactly.

A run folder holds `last.safetensors` (weights, optimiser state and progress, after each epoch), `best.safetensors`
(weights of the best epoch) and `history.json`. All randomness comes from (seed, epoch, sample index), so a run
that was killed repeats its unfinished epoch and ends with the same weights.

Legend: B samples, K classes.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

import robustaug
from robustaug import atomic, registry
from robustaug.attacks.driver import perturb
from robustaug.data.source import Batch, Source, batches
from robustaug.evaluate.suite import make, spec_name
from robustaug.models import checkpoints
from robustaug.models.classifier import Classifier
from robustaug.pipeline import Pipeline, build
from robustaug.rng import Keys, permutation, subset, torch_seed
from robustaug.train import resume
from robustaug.train.recipe import Recipe

Progress = Callable[[int, int, dict[str, float]], None]
"""Called after each step with steps done, steps in all, and the latest epoch's figures."""


class Trained(NamedTuple):
    """What training returns: the best epoch's model in eval mode, where it is stored, and what happened."""

    model: Classifier
    checkpoint: Path
    history: list[dict[str, float]]
    seconds: float


@dataclass
class _Times:
    """Seconds spent in one epoch, by what took them."""

    data: float = 0.0
    augment: float = 0.0
    attack: float = 0.0
    update: float = 0.0


def train(
    recipe: Recipe,
    folder: str | Path,
    device: torch.device,
    progress: Progress = lambda done, total, figures: None,
) -> Trained:
    """Train by `recipe`, or continue the unfinished training in `folder`.

    Raises:
        ValueError: the folder holds training by another recipe or on other data, labels or shapes that do not fit
            the model, a batch larger than the data, or a loss that is not finite.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if recipe.data is None:
        raise ValueError(f"recipe {recipe.name!r} names no data; add data.train=... and data.validation=...")
    source, validation = make(recipe.data.train), make(recipe.data.validation)
    _check_data(recipe, source, validation)
    model = initial_model(recipe).to(device)
    if recipe.checkpoint is not None:
        checkpoints.load_into(recipe.checkpoint, model)
    _check_classes(model, source)
    optimizer = _optimizer(recipe, model)
    identity = _identity(recipe, source, validation, device)
    state = resume.read(folder / "last.safetensors", model, optimizer, identity)
    steps = math.ceil(len(source) / recipe.batch_size)
    run = _Run(recipe, model, optimizer, build(recipe.augment), source, device, steps, progress)

    for epoch in range(state.epochs, recipe.epochs):
        started = time.perf_counter()
        loss, times = run.epoch(epoch, state.history)
        figures = {"epoch": float(epoch), "loss": loss} | _validate(recipe, model, validation, device)
        figures |= {"seconds": time.perf_counter() - started}
        figures |= {f"seconds_{key}": value for key, value in vars(times).items()}
        state = state.after(figures)
        if state.is_best(figures):
            checkpoints.save(folder / "best.safetensors", model, _metadata(recipe, source, figures))
        # last is written after best: a kill between the two repeats the epoch and rewrites the same best
        resume.write(folder / "last.safetensors", model, optimizer, state, identity)
        atomic.write_text(folder / "history.json", json.dumps(state.history, indent=1))

    checkpoints.load_into(folder / "best.safetensors", model)
    return Trained(model.eval(), folder / "best.safetensors", state.history, sum(h["seconds"] for h in state.history))


def initial_model(recipe: Recipe) -> Classifier:
    """Make the recipe's model with weights drawn from the recipe's seed, whoever draws them."""
    name = spec_name(recipe.model)
    params = dict((recipe.model[name] or {}) if isinstance(recipe.model, dict) else {})
    if "seed" in inspect.signature(registry.lookup(name).factory).parameters:
        params.setdefault("seed", recipe.seed)
    with torch_seed(recipe.seed):
        return registry.create(name, **params)


@dataclass(frozen=True)
class _Run:
    recipe: Recipe
    model: Classifier
    optimizer: torch.optim.Optimizer
    pipeline: Pipeline
    source: Source
    device: torch.device
    steps: int
    progress: Progress

    def epoch(self, epoch: int, history: list[dict[str, float]]) -> tuple[float, _Times]:
        """Run one epoch; return its mean loss and where its time went."""
        recipe, times = self.recipe, _Times()
        attack = None if recipe.attack is None else make(recipe.attack)
        order = permutation(len(self.source), recipe.seed, epoch)
        total = torch.zeros((), device=self.device)
        seen = 0
        mark = time.perf_counter()
        for step, batch in enumerate(batches(self.source, recipe.batch_size, order)):
            keys = Keys.of(recipe.seed, batch.index, epoch).to(self.device)
            x, y = _on(self.device, batch)
            mark = _lap(times, "data", mark)
            x = self.pipeline.transform(x, self.pipeline.sample(keys.fold("augment")))
            mark = _lap(times, "augment", mark)
            x_adv = None
            if attack is not None:
                self.model.eval()  # batch statistics must not follow the attack's intermediate points
                x_adv = perturb(attack, self.model, x, y, keys.fold("attack"))
            mark = _lap(times, "attack", mark)
            loss = self._step(epoch * self.steps + step, x, x_adv, y)
            total += loss * len(y)
            seen += len(y)
            mark = _lap(times, "update", mark)
            self.progress(epoch * self.steps + step + 1, recipe.epochs * self.steps, history[-1] if history else {})
        mean = float(total) / max(seen, 1)
        if not math.isfinite(mean):
            raise ValueError(f"the loss became {mean} in epoch {epoch}; lower optimizer.lr, or set optimizer.clip: 1.0")
        return mean, times

    def _step(self, step: int, x: Tensor, x_adv: Tensor | None, y: Tensor) -> Tensor:
        recipe = self.recipe
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.optimizer.rate(step, recipe.epochs * self.steps)
        self.model.train()
        smoothing = recipe.label_smoothing
        if x_adv is None:
            loss = F.cross_entropy(self.model(x), y, label_smoothing=smoothing)
        else:
            loss = F.cross_entropy(self.model(x_adv), y, label_smoothing=smoothing)
            if recipe.clean_share:
                clean = F.cross_entropy(self.model(x), y, label_smoothing=smoothing)
                loss = recipe.clean_share * clean + (1 - recipe.clean_share) * loss
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if recipe.optimizer.clip is not None:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), recipe.optimizer.clip)
        self.optimizer.step()
        return loss.detach()


def _validate(recipe: Recipe, model: Classifier, source: Source, device: torch.device) -> dict[str, float]:
    """Accuracy on all validation samples and, with an attack, robust accuracy on `validation_limit` of them."""
    model.eval()
    correct = seen = 0
    for batch in batches(source, recipe.batch_size):
        with torch.inference_mode():
            x, y = _on(device, batch)
            correct += int((model(x).argmax(1) == y).sum())
        seen += len(y)
    figures = {"val_accuracy": correct / seen}
    spec = recipe.validation_attack or recipe.attack
    if spec is None:
        return figures
    attack = make(spec)
    stood = seen = 0
    for batch in batches(source, recipe.batch_size, subset(len(source), recipe.validation_limit, recipe.seed)):
        keys = Keys.of(recipe.seed, batch.index).fold("validation").to(device)
        result = attack(model, *_on(device, batch), keys=keys)
        stood += int((~result.success & result.tried).sum())
        seen += int(result.tried.sum())
    return figures | {"val_robust_accuracy": stood / seen}


def _on(device: torch.device, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return images as float32 in [0, 1] and labels, on the device."""
    return batch.image.to(device).to(torch.float32) / 255, batch.label.to(device)


def _check_data(recipe: Recipe, source: Source, validation: Source) -> None:
    if recipe.batch_size > len(source):
        raise ValueError(f"batch_size is {recipe.batch_size} but the training data has only {len(source)} samples")
    if source.classes != validation.classes:
        raise ValueError(
            f"training and validation data name different classes: {source.classes[:5]} and {validation.classes[:5]}"
        )
    if source.shape != validation.shape:
        raise ValueError(f"training images have shape {source.shape}, validation images {validation.shape}")


def _check_classes(model: Classifier, source: Source) -> None:
    classes = model.num_classes
    if classes is not None and classes < len(source.classes):
        raise ValueError(
            f"the model has {classes} outputs, the data {len(source.classes)} classes; set the model's `classes`"
        )


def _optimizer(recipe: Recipe, model: Classifier) -> torch.optim.Optimizer:
    settings = recipe.optimizer
    if settings.name == "adamw":
        return torch.optim.AdamW(model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)
    return torch.optim.SGD(
        model.parameters(),
        lr=settings.lr,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        nesterov=settings.momentum > 0,
    )


def _identity(recipe: Recipe, source: Source, validation: Source, device: torch.device) -> str:
    """Hash what the weights depend on: training continues only where all of it is the same."""
    start = None if recipe.checkpoint is None else atomic.sha256_file(recipe.checkpoint)
    parts = [recipe.model_dump(mode="json"), source.fingerprint, validation.fingerprint, start, device.type]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _metadata(recipe: Recipe, source: Source, figures: dict[str, float]) -> dict[str, Any]:
    return {
        "model": recipe.model,
        "recipe": recipe.model_dump(mode="json"),
        "data": source.fingerprint,
        "classes": source.classes,
        "figures": figures,
        "robustaug": robustaug.__version__,
        "torch": torch.__version__,
    }


def _lap(times: _Times, part: str, since: float) -> float:
    now = time.perf_counter()
    setattr(times, part, getattr(times, part) + now - since)
    return now
