"""One update of the weights: attack, loss, gradients, and what is done with them.

Legend: B samples, ... the rest of a sample's shape.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.amp.grad_scaler import GradScaler
from torch.optim.swa_utils import AveragedModel

from robustaug.attacks.attack import Attack
from robustaug.attacks.driver import perturb
from robustaug.laps import Laps
from robustaug.models.classifier import Classifier
from robustaug.rng import Keys, torch_seed
from robustaug.train.loss import Loss, Memory
from robustaug.train.processes import Processes, moving
from robustaug.train.recipe import Recipe
from robustaug.train.view import View, pieces

PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Taken(NamedTuple):
    """What a step came to in all processes: the sum of its samples' losses, a float64 scalar, and their number."""

    loss: Tensor
    samples: int


@dataclass(frozen=True)
class Stepper:
    """What takes the steps of a training."""

    recipe: Recipe
    model: Classifier
    loss: Loss
    memory: Memory
    attacks: list[Attack]
    optimizer: torch.optim.Optimizer
    scaler: GradScaler
    average: AveragedModel | None
    device: torch.device
    processes: Processes
    laps: Laps

    def take(self, view: View, step: int, steps: int) -> Taken:
        """Make update number `step` of `steps` with this process's samples and those of the others."""
        counts = self.processes.each(len(view))
        if not any(counts):  # all samples of the batch are damaged
            return Taken(torch.zeros((), dtype=torch.float64, device=self.device), 0)
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.optimizer.rate(step, steps)
        with self.seeded("step", step):
            if self.recipe.replays > 1:
                return Taken(self._replayed(view, counts), sum(counts))
            return Taken(self._updated(self._attacked(self._parts(view, counts)), sum(counts)), sum(counts))

    def seeded(self, what: str, number: int) -> AbstractContextManager[None]:
        """Seed torch's own generators in the block, which dropout draws from: resumed training draws the same."""
        key = Keys.of(self.recipe.seed, torch.tensor([number])).fold(what).fold(self.processes.rank)
        return torch_seed(int(key.bits()[0, 0]), self.device)

    def _parts(self, view: View, counts: list[int]) -> list[View]:
        """Return the view in parts that go through the model one by one, as many as in every other process."""
        parts = view.split(self.recipe.accumulate)
        most = max(pieces(count, self.recipe.accumulate) for count in counts)
        return parts + [view.blanked() for _ in range(most - len(parts))]

    def _attacked(self, parts: list[View]) -> list[list[View]]:
        """Return each part once an attack."""
        if not self.attacks:
            return [[part] for part in parts]
        with self.laps.of("attack"), self._autocast():
            self.model.eval()  # batch statistics must not follow the attack's intermediate points
            return [[self._at(attack, part, number) for number, attack in enumerate(self.attacks)] for part in parts]

    def _at(self, attack: Attack, view: View, number: int) -> View:
        """Return the view with an attack's points."""
        if view.blank:
            return replace(view, x_adv=view.x)
        keys, eps = view.keys.fold("attack").fold(number), self._eps(attack, view)
        return replace(view, x_adv=perturb(attack, self.model, view.x, view.shown, keys, eps=eps), eps=eps)

    def _eps(self, attack: Attack, view: View) -> float:
        share = 1.0 if self.recipe.curriculum is None else self.recipe.curriculum.share(view.epoch)
        return attack.eps * share

    def _updated(self, parts: list[list[View]], count: int) -> Tensor:
        """Move the weights along the gradient of the mean loss of `count` samples; return the sum of their losses."""
        with self.laps.of("update"):
            moving = self.recipe.weight_perturbation
            if moving is not None and parts[0][0].epoch >= moving.from_epoch:
                with self._moved_weights(parts, moving.gamma, count):
                    total = self._backward(parts, self.memory, count)
            else:
                total = self._backward(parts, self.memory, count)
            if (clip := self.recipe.optimizer.clip) is not None:
                self.scaler.unscale_(self.optimizer)
                torch.nn.utils.clip_grad_norm_(self.model.parameters(), clip)
            self.scaler.step(self.optimizer)
            self.scaler.update()
            if self.average is not None and self.recipe.averaging and self.recipe.averaging.kind == "ema":
                self.average.update_parameters(self.model)
        return total

    def _backward(self, parts: list[list[View]], memory: Memory, count: int) -> Tensor:
        """Put the gradient of the mean loss over all processes into the weights; return the sum of the losses."""
        statistics = self.processes.statistics(self.model)
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        for views in parts:
            for view in views:
                if view.blank:
                    self._pass_over(view, memory)
                    continue
                with self._autocast():
                    losses = self.loss(self.model, view, memory)
                mean = losses.sum() / (count * len(views))
                self.scaler.scale(mean).backward()
                total += losses.detach().sum().double() / len(views)
        own = sum(len(views[0]) for views in parts if not views[0].blank)
        return self.processes.add_up(self.model, statistics, own / count, total)

    def _pass_over(self, view: View, memory: Memory) -> None:
        """Send a blank view through the model: a loss may talk to the other processes, and wait for what this one says.

        Statistics of batches do not follow its zeros. How many passes they count stays equal in all processes.
        """
        before = [(buffer, buffer.clone()) for buffer in moving(self.model)]
        with self._autocast():  # with gradients: a loss may differentiate inside
            self.loss(self.model, view, memory)
        with torch.no_grad():
            for buffer, value in before:
                buffer.copy_(value)

    def _replayed(self, view: View, counts: list[int]) -> Tensor:
        """Update several times on one batch, the points moved by the updates' own gradients; see `Recipe.replays`.

        Published code carries the perturbation over to the next batch, whose samples are others; here each batch
        begins at its own random start, so that a step depends on its samples alone.
        """
        [attack] = self.attacks
        view = replace(view, eps=self._eps(attack, view))
        eps = torch.full((len(view),), view.eps, dtype=torch.float64, device=self.device)
        ball = attack.threat.around(view.x, eps)
        x_adv = ball.start(view.keys.fold("attack"))
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        for _ in range(self.recipe.replays):
            x_adv = x_adv.detach().requires_grad_()
            parts = self._parts(replace(view, x_adv=x_adv), counts)
            total = self._updated([[part] for part in parts], sum(counts))
            if x_adv.grad is not None:
                # no number at all where the scale that fp16 tries first is too large
                x_adv = ball.climb(x_adv.detach(), x_adv.grad.nan_to_num(), eps)
        return total

    @contextlib.contextmanager
    def _moved_weights(self, parts: list[list[View]], gamma: float, count: int) -> Iterator[None]:
        """Move each layer's weights by gamma times its norm up the loss inside the block; see `WeightPerturbation`."""
        remembered = {key: value.clone() for key, value in self.memory.items()}  # looked at twice, learned from once
        buffers = {key: value.clone() for key, value in self.model.named_buffers()}
        self._backward(parts, remembered, count)
        before: list[tuple[Tensor, Tensor]] = []
        with torch.no_grad():
            for key, value in self.model.named_buffers():
                value.copy_(buffers[key])
            for weight in self.model.parameters():
                if weight.grad is None or weight.ndim < 2:  # biases and normalisation stay, as published
                    continue
                length = weight.grad.norm()
                before.append((weight, weight.clone()))  # taking the move back would round
                move = gamma * weight.norm() / length.clamp_min(1e-20) * weight.grad
                weight += torch.where(length.isfinite(), move, 0.0)  # the scale that fp16 tries first may be too large
        try:
            yield
        finally:
            with torch.no_grad():
                for weight, unmoved in before:
                    weight.copy_(unmoved)

    def _autocast(self) -> torch.autocast:
        dtype = PRECISIONS.get(self.recipe.precision)
        return torch.autocast(self.device.type, dtype or torch.bfloat16, enabled=dtype is not None)
