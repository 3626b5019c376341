"""How an epoch is judged: accuracy on held-back samples, clean and under attack."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from robustaug.attacks.attack import Attack
from robustaug.attacks.text.attack import TextAttack
from robustaug.attacks.text.driver import TextAttackResult
from robustaug.data.source import Batch, Source, read
from robustaug.models.classifier import Classifier
from robustaug.rng import Keys, subset
from robustaug.train.figures import ACCURACIES
from robustaug.train.processes import Processes
from robustaug.train.recipe import Recipe

Figures = dict[str, float]
"""What is known of an epoch; see `Validation.__call__` and `trainer`."""


class Course(NamedTuple):
    """How training stands.

    Attributes:
        start: figures of the checkpoint that training began at, if any.
        history: figures of each finished epoch.
        best: the position in `history` of the epoch that is kept; None where there is none, or the start is kept.
    """

    start: Figures
    history: list[Figures]
    best: int | None

    @property
    def latest(self) -> Figures:
        """The newest figures; empty where nothing is known yet."""
        return self.history[-1] if self.history else self.start

    @property
    def points(self) -> dict[int, Figures]:
        """Figures by how many epochs were done before them: 0 for the start's."""
        later = {int(one["epoch"]) + 1: {k: v for k, v in one.items() if k != "epoch"} for one in self.history}
        return ({0: self.start} if self.start else {}) | later


@dataclass(frozen=True)
class Validation:
    """What judges epochs.

    Attributes:
        recipe: for seed, batch size and how many samples are attacked.
        source: held back from training.
        attacks: the judges, all of which a sample must withstand; empty where nothing is attacked.
        single_step: the training's own attack where it takes one step and the judge takes more: a model that learns to
            withstand one step only gives itself away by the difference.
        groups: (N,) int64 in [0, number of groups), by position in the source; None where there are none.
    """

    recipe: Recipe
    source: Source
    attacks: list[Attack | TextAttack]
    single_step: Attack | None
    device: torch.device
    processes: Processes
    groups: Tensor | None = None

    def __call__(self, model: Classifier) -> Figures:
        """Return "val_accuracy" and, where there are attacks, "val_robust_accuracy" and "val_single_step_accuracy".

        Where there are groups, also "val_worst_group_accuracy", the lowest of theirs.
        """
        model.eval()
        figures = self._accuracy(model)
        if self.attacks:
            figures["val_robust_accuracy"] = self._robust_accuracy(model, self.attacks)
        if self.single_step is not None:
            figures["val_single_step_accuracy"] = self._robust_accuracy(model, [self.single_step])
        return figures

    def _accuracy(self, model: Classifier) -> Figures:
        groups = torch.zeros(len(self.source), dtype=torch.int64) if self.groups is None else self.groups
        correct, seen = torch.zeros(2, int(groups.max()) + 1, dtype=torch.float64)
        for batch in self._batches(torch.arange(len(self.source))):
            with torch.inference_mode():
                x, y = self.source.as_input(batch.image, self.device), batch.label.to(self.device)
                right = (model(x).argmax(1) == y).cpu()
            correct.index_add_(0, groups[batch.position], right.double())
            seen.index_add_(0, groups[batch.position], torch.ones_like(right, dtype=torch.float64))
        figures = {"val_accuracy": self._share(float(correct.sum()), float(seen.sum()))}
        if self.groups is not None:
            by_group = zip(correct.tolist(), seen.tolist(), strict=True)
            figures["val_worst_group_accuracy"] = min(self._share(part, whole) for part, whole in by_group)
        return figures

    def _robust_accuracy(self, model: Classifier, attacks: Sequence[Attack | TextAttack]) -> float:
        stood = seen = 0
        for batch in self._batches(subset(len(self.source), self.recipe.validation_limit, self.recipe.seed)):
            keys = Keys.of(self.recipe.seed, batch.index).fold("validation").to(self.device)
            x, y = self.source.as_input(batch.image, self.device), batch.label.to(self.device)
            results = [attack(model, x, y, keys=keys) for attack in attacks]
            # an attack on texts comes to all of them
            came = [torch.ones_like(r.success) if isinstance(r, TextAttackResult) else r.tried for r in results]
            tried = torch.stack(came).all(0)
            fell = torch.stack([result.success for result in results]).any(0)
            stood += int((~fell & tried).sum())
            seen += int(tried.sum())
        return self._share(stood, seen)

    def _batches(self, positions: Tensor) -> Iterator[Batch]:
        chunks = [self.processes.share(chunk.tolist()) for chunk in positions.split(self.recipe.batch_size)]
        return (batch for batch in read(self.source, chunks, self.recipe.workers) if len(batch.label))

    def _share(self, part: float, whole: float) -> float:
        return self.processes.total(part) / max(self.processes.total(whole), 1)


@dataclass(frozen=True)
class Verdict:
    """How the newest epoch stands among those before it.

    Attributes:
        best: it is the one to keep so far.
        stop: why training ends here; empty where it goes on.
    """

    best: bool
    stop: str


OVERFITTING = "catastrophic overfitting"
"""How the alarm's words begin."""

ROBUST_FALL = 0.1
"""How far robust accuracy must fall below its best, and the gap to one step widen, for the alarm: well above the noise
of a few hundred attacked samples (two standard errors of 512 are 0.04)."""


def judge(recipe: Recipe, history: list[Figures], start: Figures) -> Verdict:
    """Judge the newest epoch of `history`.

    Args:
        history: figures of each epoch, from the first.
        start: figures of the checkpoint that training began at; empty where it began afresh.
    """
    kept = best_epoch(recipe, history, start)
    best = kept == len(history) - 1
    if alarm := overfits_one_step(history):
        place = "the checkpoint it began at" if kept is None else f"epoch {kept + 1}"
        remedy = "use attack.nfgsm, loss.grad_align or an attack of more steps"
        return Verdict(best, f"{alarm}; stopped and rolled back to {place}; {remedy}")
    if recipe.patience is not None and not best:
        since = len(history) if kept is None else len(history) - 1 - kept
        if since >= recipe.patience:
            return Verdict(best, f"no better epoch in {since}: stopped early (patience {recipe.patience})")
    return Verdict(best, "")


def best_epoch(recipe: Recipe, history: list[Figures], start: Figures) -> int | None:
    """Return the position of the epoch to keep, the first of equals; None where the guard lets none through.

    An epoch at which the alarm of `overfits_one_step` sounds is never kept.
    """

    def worth(figures: Figures) -> tuple[float, ...]:
        return merit(figures, recipe.select)

    candidates = [
        position
        for position, one in enumerate(history)
        if allowed(recipe, one, start) and not overfits_one_step(history[: position + 1])
    ]
    best = max(candidates, key=lambda position: worth(history[position]), default=None)
    if best is not None and recipe.guard is not None and worth(history[best]) <= worth(start):
        return None
    return best


def merit(figures: Figures, select: str = "robust") -> tuple[float, ...]:
    """What makes an epoch better: robust accuracy where it is measured, then accuracy; see `Recipe.select`."""
    usual = figures.get("val_robust_accuracy", 0.0), figures["val_accuracy"]
    return (figures["val_worst_group_accuracy"], *usual) if select == "worst_group" else usual


def allowed(recipe: Recipe, figures: Figures, start: Figures) -> bool:
    """Whether clean accuracy stands as the recipe's guard asks."""
    return recipe.guard is None or figures["val_accuracy"] >= start["val_accuracy"] - recipe.guard.clean_drop


def glance(figures: Figures) -> str:
    """Return an epoch's accuracies in a few words, empty before the first epoch ends."""
    return ", ".join(f"{word} {figures[key]:.1%}" for key, word in ACCURACIES.items() if key in figures)


def overfits_one_step(history: list[Figures]) -> str:
    """Return the alarm where one-step accuracy rises while that under more steps falls; empty otherwise.

    Catastrophic overfitting of one-step training: Wong et al. 2020, arXiv:2001.03994, section 5.4; Andriushchenko &
    Flammarion 2020, arXiv:2007.02617.
    """
    newest = history[-1]
    if "val_single_step_accuracy" not in newest:
        return ""
    best = max(history, key=merit)

    def gap(one: Figures) -> float:
        return one["val_single_step_accuracy"] - one["val_robust_accuracy"]

    fell = best["val_robust_accuracy"] - newest["val_robust_accuracy"]
    rose = newest["val_single_step_accuracy"] - best["val_single_step_accuracy"]
    if fell < ROBUST_FALL or rose < 0 or gap(newest) - gap(best) < ROBUST_FALL:
        return ""
    return (
        f"{OVERFITTING} in epoch {newest['epoch'] + 1:.0f}: under several steps "
        f"{newest['val_robust_accuracy']:.1%} stand, {best['val_robust_accuracy']:.1%} before, but under one step "
        f"{newest['val_single_step_accuracy']:.1%}"
    )
