"""One update of the weights: attack, loss, gradients, and what is done with them.

Legend: B samples, ... the rest of a sample's shape.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.amp.grad_scaler import GradScaler
from torch.optim.swa_utils import AveragedModel

from robustaug.attacks.attack import Attack
from robustaug.attacks.driver import perturb
from robustaug.models.classifier import Classifier
from robustaug.rng import Keys, torch_seed
from robustaug.train.laps import Laps
from robustaug.train.loss import Loss, Memory
from robustaug.train.processes import Processes
from robustaug.train.recipe import Recipe
from robustaug.train.view import View

PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16}


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

    def take(self, view: View, step: int, steps: int) -> Tensor:
        """Make update number `step` of `steps`; return the sum of the losses of the view's samples, a scalar."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.optimizer.rate(step, steps)
        # dropout draws from torch's own generator: one seed a step, so that it does not matter where training resumed
        seed = int(Keys.of(self.recipe.seed, torch.tensor([step])).fold("step").fold(self.processes.rank).bits()[0, 0])
        with torch_seed(seed, self.device):
            return self._replayed(view) if self.recipe.replays > 1 else self._updated(self._attacked(view))

    def _attacked(self, view: View) -> list[list[View]]:
        """Return the view in parts that go through the model one by one, and each of them once an attack."""
        parts = view.split(self.recipe.accumulate) if len(view) else []
        if not self.attacks:
            return [[part] for part in parts]
        with self.laps.of("attack"), self._autocast():
            self.model.eval()  # batch statistics must not follow the attack's intermediate points
            return [
                [replace(part, x_adv=self._points(attack, part, number)) for number, attack in enumerate(self.attacks)]
                for part in parts
            ]

    def _points(self, attack: Attack, view: View, number: int) -> Tensor:
        keys = view.keys.fold("attack").fold(number)
        return perturb(attack, self.model, view.x, view.shown, keys, eps=self._eps(attack, view))

    def _eps(self, attack: Attack, view: View) -> float:
        share = 1.0 if self.recipe.curriculum is None else self.recipe.curriculum.share(view.epoch)
        return attack.eps * share

    def _updated(self, parts: list[list[View]]) -> Tensor:
        """Move the weights along the gradient of the mean loss."""
        with self.laps.of("update"):
            moving = self.recipe.weight_perturbation
            if moving is not None and parts and parts[0][0].epoch >= moving.from_epoch:
                with self._moved_weights(parts, moving.gamma):
                    total = self._backward(parts, self.memory)
            else:
                total = self._backward(parts, self.memory)
            if (clip := self.recipe.optimizer.clip) is not None:
                self.scaler.unscale_(self.optimizer)
                torch.nn.utils.clip_grad_norm_(self.model.parameters(), clip)
            self.scaler.step(self.optimizer)
            self.scaler.update()
            if self.average is not None and self.recipe.averaging and self.recipe.averaging.kind == "ema":
                self.average.update_parameters(self.model)
        return total

    def _backward(self, parts: list[list[View]], memory: Memory) -> Tensor:
        """Put the gradient of the mean loss over all processes into the weights; return the sum of the losses."""
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        count = self.processes.total(sum(len(views[0]) for views in parts), self.device)
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        for views in parts:
            for view in views:
                with self._autocast():
                    losses = self.loss(self.model, view, memory)
                mean = losses.sum() / (count * len(views))
                self.scaler.scale(mean).backward()
                total += losses.detach().sum().double() / len(views)
        self.processes.add_gradients(self.model)
        return total

    def _replayed(self, view: View) -> Tensor:
        """Update several times on one batch, the points moved by the updates' own gradients; see `Recipe.replays`.

        Published code carries the perturbation over to the next batch, whose samples are others; here each batch
        begins at its own random start, so that a step depends on its samples alone.
        """
        [attack] = self.attacks
        eps = torch.full((len(view),), self._eps(attack, view), dtype=torch.float64, device=self.device)
        ball = attack.threat.around(view.x, eps)
        x_adv = ball.start(view.keys.fold("attack"))
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        for _ in range(self.recipe.replays):
            x_adv = x_adv.detach().requires_grad_()
            points = replace(view, x_adv=x_adv)
            total = self._updated([[part] for part in points.split(self.recipe.accumulate)] if len(view) else [])
            if x_adv.grad is not None:
                x_adv = ball.climb(x_adv.detach(), x_adv.grad, eps)
        return total

    @contextlib.contextmanager
    def _moved_weights(self, parts: list[list[View]], gamma: float) -> Iterator[None]:
        """Move each layer's weights by gamma times its norm up the loss inside the block; see `WeightPerturbation`."""
        remembered = {key: value.clone() for key, value in self.memory.items()}  # looked at twice, learned from once
        buffers = {key: value.clone() for key, value in self.model.named_buffers()}
        self._backward(parts, remembered)
        before: list[tuple[Tensor, Tensor]] = []
        with torch.no_grad():
            for key, value in self.model.named_buffers():
                value.copy_(buffers[key])
            for weight in self.model.parameters():
                if weight.grad is None or weight.ndim < 2:  # biases and normalisation stay, as published
                    continue
                length = weight.grad.norm()
                before.append((weight, weight.clone()))  # taking the move back would round
                weight += gamma * weight.norm() / length.clamp_min(1e-20) * weight.grad
        try:
            yield
        finally:
            with torch.no_grad():
                for weight, unmoved in before:
                    weight.copy_(unmoved)

    def _autocast(self) -> torch.autocast:
        dtype = PRECISIONS.get(self.recipe.precision)
        return torch.autocast(self.device.type, dtype or torch.bfloat16, enabled=dtype is not None)
