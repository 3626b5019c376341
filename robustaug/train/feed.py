"""Training batches, augmented on the device: one view a step.

All of it comes from (seed, epoch, sample): an epoch can begin at any step, in any number of processes.

Legend: B samples, K classes, N samples of the source.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from robustaug.data.loader import AugmentedLoader
from robustaug.data.source import Batch, Source, read
from robustaug.evaluate.suite import make
from robustaug.ops.layout import IMAGES
from robustaug.ops.operator import Params
from robustaug.pipeline import Pipeline, build
from robustaug.rng import Keys, permutation
from robustaug.train.laps import Laps
from robustaug.train.processes import Processes
from robustaug.train.recipe import Recipe
from robustaug.train.view import View


class Feed:
    """The batches of training.

    Args:
        recipe: for seed, batch size, pipelines and mixer.
        source, unlabelled: what to read.
        groups: (N,) int64, by position in the source.
        classes: K.
    """

    def __init__(
        self,
        recipe: Recipe,
        source: Source,
        unlabelled: Source | None,
        groups: Tensor | None,
        classes: int,
        device: torch.device,
        processes: Processes,
        laps: Laps,
    ) -> None:
        self.recipe, self.source, self.unlabelled, self.groups = recipe, source, unlabelled, groups
        self.classes, self.device, self.processes, self.laps = classes, device, processes, laps
        self.views = recipe.make_loss().views
        self.augment = _Timed(_compiled(build(recipe.augment), recipe.channels_last), laps)
        self.strong = _compiled(build(recipe.strong), recipe.channels_last)
        self.mixer = None if recipe.mix is None else make(recipe.mix)

    def __len__(self) -> int:
        """Steps an epoch."""
        return -(-len(self.source) // self.recipe.batch_size)

    def epoch(self, epoch: int, first: int = 0) -> Iterator[View]:
        """Yield the views of an epoch from step `first` on; one is empty where this process has nothing to do."""
        seed, size = self.recipe.seed, self.recipe.batch_size
        order = permutation(len(self.source), seed, epoch)
        labelled = self._augmented(self.source, [*order.split(size)][first:], seed, epoch)
        others = self._unlabelled(epoch, first)
        for step, batch in enumerate(labelled, first):
            yield self._view(batch, next(others), epoch, step)

    def _augmented(self, source: Source, chunks: Sequence[Tensor], seed: int, epoch: int) -> Iterator[Batch]:
        shares = [self.processes.share(chunk.tolist()) for chunk in chunks]
        loader = AugmentedLoader(read(source, shares, self.recipe.workers), self.augment, self.device, seed)
        loader.set_epoch(epoch)
        return iter(loader)

    def _unlabelled(self, epoch: int, first: int) -> Iterator[tuple[Tensor, Tensor] | None]:
        """Yield as many samples without labels as a batch has with them, through both pipelines, without end."""
        if self.unlabelled is None:
            while True:
                yield None
        source, size, seed = self.unlabelled, self.recipe.batch_size, self.recipe.seed
        at, steps = epoch * len(self) + first, len(self) - first
        positions = torch.arange(at * size, (at + steps) * size)
        rounds = {int(r): permutation(len(source), seed, int(r)) for r in (positions // len(source)).unique()}
        order = torch.stack([rounds[int(p) // len(source)][int(p) % len(source)] for p in positions])
        for batch in self._augmented(source, order.split(size), seed, epoch):
            keys = Keys.of(seed, batch.index.cpu(), epoch).to(self.device).fold("unlabelled")
            x = as_input(batch.image)
            yield x, self._strong(x, keys)

    def _view(self, batch: Batch, unlabelled: tuple[Tensor, Tensor] | None, epoch: int, step: int) -> View:
        keys = Keys.of(self.recipe.seed, batch.index.cpu(), epoch).to(self.device)
        x, y, target = as_input(batch.image), batch.label, None
        with self.laps.of("augment"):
            strong = tuple(self._strong(x, keys.fold(number)) for number in range(self.views))
            if self.mixer is not None and len(x):
                x, target = self.mixer.apply(x, y, self.mixer.sample(keys.fold("mix")), self.classes)
        return View(
            x,
            y,
            batch.position,
            keys,
            epoch + step / len(self),
            target,
            None if self.groups is None else self.groups[batch.position.cpu()].to(self.device),
            None,
            strong,
            unlabelled,
            self.recipe.clean_share,
            self.processes.gather,
        )

    def _strong(self, x: Tensor, keys: Keys) -> Tensor:
        return self.strong.apply(x, self.strong.sample(keys.fold("strong")))


def as_input(image: Tensor) -> Tensor:
    """Return what a model takes: uint8 images (B, C, H, W) as float32 in [0, 1], anything floating as it is."""
    return image.to(torch.float32) / 255 if image.dtype == torch.uint8 else image


def _compiled(pipeline: Pipeline, channels_last: bool) -> Any:
    if pipeline.layout is not IMAGES or not pipeline.children:
        return pipeline
    return pipeline.compile(dtype=torch.float32, channels_last=channels_last)


@dataclass(frozen=True)
class _Timed:
    """A pipeline whose time counts as augmentation."""

    of: Any
    laps: Laps

    @property
    def name(self) -> str:
        return getattr(self.of, "name", "")

    def __getattr__(self, key: str) -> Any:
        return getattr(self.of, key)

    def sample(self, keys: Keys) -> Params:
        with self.laps.of("augment"):
            return self.of.sample(keys)

    def apply(self, image: Tensor, params: Params) -> Tensor:
        with self.laps.of("augment"):
            return self.of.apply(image, params)
