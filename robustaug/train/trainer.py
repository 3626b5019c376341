"""The one trainer: augment, attack, step; validate, remember the best, resume exactly.

A run folder holds `best/model.safetensors` and `last/model.safetensors` (weights, with recipe, data, versions and
figures in the header), `last/state.safetensors` (everything that the next step needs), `history.parquet` and, where
there are synthetic samples, `synthetic_gate.json`; of a recipe with snapshots `snapshots/1/model.safetensors` and so
on, and `ensemble/model.safetensors`. All randomness comes from (seed, epoch, sample), so training that
was killed goes on from its last state and ends with the same weights.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.amp.grad_scaler import GradScaler

import robustaug
from robustaug import atomic, launch
from robustaug.data.opening import open_source
from robustaug.data.source import Source
from robustaug.laps import Laps
from robustaug.models import checkpoints
from robustaug.models.classifier import Classifier
from robustaug.models.fingerprint import model_fingerprint
from robustaug.models.nested import seeded
from robustaug.models.text_classifier import TextClassifier
from robustaug.synth.gate import Verdict
from robustaug.train.averaging import averaged, model_in, renew_statistics
from robustaug.train.checks import check_fit, check_groups
from robustaug.train.feed import Feed
from robustaug.train.figures import lap_figures
from robustaug.train.history import write_history
from robustaug.train.processes import Processes
from robustaug.train.recipe import Recipe
from robustaug.train.snapshots import ensemble_of, ensembled, snapshot_at
from robustaug.train.state import State
from robustaug.train.step import PRECISIONS, Stepper
from robustaug.train.synthetic import mixed
from robustaug.train.tracking import Tracker, Tracking
from robustaug.train.validation import Course, Figures, Validation, best_epoch, judge
from robustaug.train.view import Facts

Progress = Callable[[int, int, Course], None]
"""Called with steps done, steps in all, and how training stands: at the start, after each step, or, for an epoch's last
one, when the epoch is judged."""


LOOKED_AT_EVERY = 50
"""Steps on a GPU after which the loss is looked at: one that is no number must not go on for an epoch."""


class Trained(NamedTuple):
    """What training returns.

    Attributes:
        model: the best epoch's, in eval mode; the ensemble where the recipe asks for snapshots.
        checkpoint: where it is stored.
        best: figures of the best epoch; those of `start` where the guard let none through; those of the ensemble, and
            "snapshots", how many, where it is one.
        start: figures of the checkpoint that training began at, if any.
        history: figures of each epoch.
        seconds: that its epochs took, kills and what was repeated after them left out.
        stopped: why it ended before its time; empty otherwise.
    """

    model: Classifier
    checkpoint: Path
    best: Figures
    start: Figures
    history: list[Figures]
    seconds: float
    stopped: str


def train(
    recipe: Recipe,
    folder: str | Path,
    device: torch.device,
    progress: Progress = lambda done, total, course: None,
) -> Trained:
    """Train by `recipe`, or continue the unfinished training in `folder`.

    Among several processes (see `robustaug.launch`) each trains on its share of every batch; the first one writes, and
    all of them must see the same `folder`.

    Raises:
        ValueError: the folder holds training by another recipe or on other data, labels or shapes that do not fit
            the model, a batch larger than the data, an attack's eps beyond the box, or a loss that is not finite.
        ImportError: `tracking` asks for a package that is not installed.
        launch.EndedError: another process of this training ended.
    """
    with launch.joined(device):
        return _train(recipe, Path(folder), device, progress)


def _train(recipe: Recipe, folder: Path, device: torch.device, progress: Progress) -> Trained:
    run = _prepare(recipe, folder, device, progress)
    state = run.state
    if run.stepper.processes.first:
        atomic.sweep(folder)
    state.read(folder / "last" / "state.safetensors", run.identity)
    _check_alike(run)
    if recipe.checkpoint is not None and not state.start:
        state.start = run.validation(run.model)
        if recipe.guard is not None:
            run.keep("best", run.model, state.start)  # until an epoch is better
        run.save()
    with run.tracker:
        run.tell()
        while state.epoch < recipe.epochs and not state.stopped:
            run.epoch()
            run.tell()
        model = run.model if state.average is None else model_in(state.average)
        checkpoint = folder / "best" / "model.safetensors"
        launch.wait()  # until it is written
        if recipe.snapshots and not state.stopped:
            model, checkpoint, best = run.ensemble()
        else:
            best = checkpoints.load_into(checkpoint, model)["figures"]
        run.tracker.finish(best | {"epoch": best.get("epoch", -1.0) + 1}, state.stopped)
    seconds = sum(figures["seconds"] for figures in state.history)
    return Trained(model.eval(), checkpoint, best, state.start, state.history, seconds, state.stopped)


def initial_model(recipe: Recipe) -> Classifier:
    """Make the recipe's model with weights drawn from the recipe's seed, whoever draws them."""
    return seeded(recipe.model, recipe.seed)


def _prepare(recipe: Recipe, folder: Path, device: torch.device, progress: Progress) -> _Run:
    """Make and check everything that training needs."""
    if recipe.data is None:
        raise ValueError(f"recipe {recipe.name!r} names no data; add data.train=... and data.validation=...")
    source, held_back = open_source(recipe.data.train), open_source(recipe.data.validation)
    unlabelled = None if recipe.data.unlabelled is None else open_source(recipe.data.unlabelled)
    model = initial_model(recipe).to(device)
    check_fit(recipe, model, source, held_back, unlabelled)
    model.encoding = source.encoding
    if recipe.snapshots:
        seeded(ensemble_of(recipe), recipe.seed)  # models that make no ensemble are refused now, not after training
    if isinstance(model, TextClassifier):
        model.meet(source.fetch(range(len(source)))[0].image)
    if recipe.checkpoint is not None:
        checkpoints.load_into(recipe.checkpoint, model)
    if recipe.channels_last:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if recipe.compile:
        model.module.compile()
    processes, laps, loss = Processes.of_group(), Laps(device), recipe.make_loss()
    judged_groups, judged_names = _groups(held_back, recipe.data.groups)
    check_groups(recipe, _groups(source, recipe.data.groups)[1], judged_names)
    mixture, admitted = mixed(recipe.data.synthetic, source, held_back, folder, processes.first)
    source = mixture.source
    tracking = recipe.tracking if processes.first else Tracking()
    tracker = tracking.tracker(recipe.name, recipe.settings(), folder)
    classes = model.num_classes or len(source.classes)
    groups, names = _groups(source, recipe.data.groups)
    feed = Feed(recipe, source, unlabelled, groups, classes, device, processes, laps, mixture)
    facts = Facts(source, source.labels, classes, groups, names, recipe.epochs, len(feed), device)
    optimizer = recipe.optimizer.make(model)
    average = None if recipe.averaging is None else averaged(model, recipe.averaging)
    scaler = GradScaler(device.type, enabled=PRECISIONS.get(recipe.precision) is torch.float16)
    memory = loss.memory(facts)
    attacks = recipe.make_attacks()
    validation = Validation(recipe, held_back, *recipe.judges(), device, processes, judged_groups)
    stepper = Stepper(recipe, model, loss, memory, attacks, optimizer, scaler, average, device, processes, laps)
    state = State(model, optimizer, scaler, average, memory)
    identity = _identity(recipe, [source, held_back, *([unlabelled] if unlabelled else [])], device)
    return _Run(recipe, folder, source, feed, stepper, validation, state, identity, progress, tracker, admitted)


@dataclass(frozen=True)
class _Run:
    recipe: Recipe
    folder: Path
    source: Source
    feed: Feed
    stepper: Stepper
    validation: Validation
    state: State
    identity: str
    progress: Progress
    tracker: Tracker
    admitted: Verdict | None

    @property
    def model(self) -> Classifier:
        return self.stepper.model

    @property
    def course(self) -> Course:
        """How training stands."""
        start, history = self.state.start, self.state.history
        return Course(start, history, best_epoch(self.recipe, history, start))

    def tell(self) -> None:
        """Tell whoever looks on how training stands."""
        steps, course = len(self.feed), self.course
        self.tracker.update(course.points)
        self.progress(self.state.epoch * steps + self.state.step, self.recipe.epochs * steps, course)

    def epoch(self) -> None:
        """Run the epoch that the state has come to, or the rest of it, and judge it."""
        recipe, state, laps = self.recipe, self.state, self.stepper.laps
        started, before = time.perf_counter() - state.seconds, laps.seconds()
        self._steps(started)
        judged = self._judged()
        figures = {"epoch": float(state.epoch), "loss": state.loss / max(state.seen, 1)} | self.validation(judged)
        figures |= {"lr": self.stepper.optimizer.param_groups[0]["lr"], "seconds": time.perf_counter() - started}
        figures |= lap_figures(before, laps.seconds())
        state.history.append(figures)
        verdict = judge(recipe, state.history, state.start)
        if verdict.best:
            self.keep("best", judged, figures)
        self.keep("last", judged, figures)
        if place := snapshot_at(recipe, state.epoch):
            self.keep(place, judged, figures)
        state.epoch, state.step, state.loss, state.seen, state.seconds = state.epoch + 1, 0, 0.0, 0, 0.0
        state.stopped = verdict.stop
        # the state is written last: a kill before it repeats the steps since, and writes the same files again
        self.save()

    def _steps(self, started: float) -> None:
        state, steps = self.state, len(self.feed)
        total = torch.tensor(state.loss, dtype=torch.float64, device=self.stepper.device)
        course = self.course
        saved = time.monotonic()
        for view in self._timed(self.feed.epoch(state.epoch, state.step)):
            taken = self.stepper.take(view, state.epoch * steps + state.step, self.recipe.epochs * steps)
            total += taken.loss
            state.step, state.seen = state.step + 1, state.seen + taken.samples
            due = self.stepper.processes.agreed(time.monotonic() - saved > self.recipe.save_every_s)
            saving = due or state.step == steps
            # looking at a number waits for the device
            if saving or total.device.type == "cpu" or state.step % LOOKED_AT_EVERY == 0:
                state.loss = float(total)
                self._check_finite(weights=saving)
            if due and state.step < steps:
                state.seconds = time.perf_counter() - started
                self.save()
                saved = time.monotonic()
            if state.step < steps:  # the last one is told of with the epoch's figures
                self.progress(state.epoch * steps + state.step, self.recipe.epochs * steps, course)

    def _timed(self, views: Iterator[Any]) -> Iterator[Any]:
        while True:
            with self.stepper.laps.of("data"):
                view = next(views, None)
            if view is None:
                return
            yield view

    def _check_finite(self, weights: bool) -> None:
        state = self.state
        what = None if math.isfinite(state.loss) else f"the loss became {state.loss}"
        if weights and not all(bool(value.isfinite().all()) for value in self.model.parameters()):
            what = what or "weights became infinite or NaN"
        if what:
            raise ValueError(
                f"{what} by step {state.step} of epoch {state.epoch + 1}; lower optimizer.lr, or set "
                f"optimizer.clip: 1.0, and train with --fresh; {self.folder} keeps what was there before"
            )

    def _judged(self) -> Classifier:
        """Return the weights that stand for this epoch: the average's where there is one."""
        average, settings = self.state.average, self.recipe.averaging
        if average is None or settings is None:
            return self.model
        if settings.kind == "swa":
            if self.state.epoch < settings.from_epoch:
                return self.model
            average.update_parameters(self.model)
            with self.stepper.seeded("statistics", self.state.epoch):
                inputs = (view.x for view in self.feed.epoch(self.state.epoch))
                renew_statistics(average, inputs, self.stepper.processes)
        return model_in(average)

    def ensemble(self) -> tuple[Classifier, Path, Figures]:
        """Judge and store the ensemble of all snapshots."""
        model = ensembled(self.recipe, self.folder, self.stepper.device, self.source.encoding)
        last = {"epoch": float(self.recipe.epochs - 1), "snapshots": float(self.recipe.optimizer.cycles)}
        figures = self.validation(model) | last
        self.keep("ensemble", model, figures, ensemble_of(self.recipe))
        launch.wait()  # until it is written
        return model, self.folder / "ensemble" / "model.safetensors", figures

    def keep(self, which: str, model: Classifier, figures: Figures, spec: Any = None) -> None:
        """Store weights as `which`, such as "best"; of the recipe's model, or of `spec`."""
        if self.stepper.processes.first:
            metadata = self._metadata(figures) | ({} if spec is None else {"model": spec})
            checkpoints.save(self.folder / which / "model.safetensors", model, metadata)

    def save(self) -> None:
        """Store the history, then the state, which is what training goes on from."""
        if self.stepper.processes.first:
            write_history(self.folder / "history.parquet", self.state.history)
            self.state.write(self.folder / "last" / "state.safetensors", self.identity)

    def _metadata(self, figures: Figures) -> dict[str, Any]:
        gate = {} if self.admitted is None else {"synthetic_gate": self.admitted.content()}
        return gate | {
            "model": self.recipe.model,
            "recipe": self.recipe.settings(),
            "data": self.source.fingerprint,
            "encoding": self.source.encoding,
            "classes": self.source.classes,
            "figures": figures,
            "robustaug": robustaug.__version__,
            "torch": torch.__version__,
        }


def _check_alike(run: _Run) -> None:
    """Refuse processes that would not train one model."""
    state = run.state
    at = f"{run.identity} {model_fingerprint(state.model)} {state.epoch} {state.step}"
    if not launch.alike(hashlib.sha256(at.encode()).digest()):
        raise ValueError(
            f"the processes were given different recipes, data or weights, or do not all see {run.folder}; give all of "
            "them the same, on a disk that they share"
        )


def _groups(source: Source, columns: list[str]) -> tuple[Tensor | None, tuple[str, ...]]:
    """Return (N,) group numbers and the groups' names; none where no column is named."""
    if not columns:
        return None, ()
    unknown = [column for column in columns if column not in source.cohorts]
    if unknown:
        raise ValueError(f"data.groups names {unknown[0]!r}; {source.name} has columns {[*source.cohorts]}")
    rows = np.array(
        [" / ".join(values) for values in zip(*(source.cohorts[column] for column in columns), strict=True)]
    )
    names, numbers = np.unique(rows, return_inverse=True)
    return torch.from_numpy(numbers.astype(np.int64)), tuple(map(str, names))


def _identity(recipe: Recipe, sources: list[Source], device: torch.device) -> str:
    """Hash what the weights depend on: training continues only where all of it is the same."""
    files = [path for path in (recipe.checkpoint, *recipe.make_loss().files()) if path is not None]
    parts = [recipe.settings(), [s.fingerprint for s in sources], [atomic.sha256_file(f) for f in files], device.type]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
