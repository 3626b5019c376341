"""Training batches, augmented on the device: one view a step.

All of it comes from (seed, epoch, sample): an epoch can begin at any step, in any number of processes.

Images go through the engine; texts, rows of tables and series through their operators as they are.

Legend: B samples, K classes, N samples of the source.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from robustaug.data.loader import AugmentedLoader
from robustaug.data.source import Batch, Source, read
from robustaug.laps import Laps
from robustaug.ops.layout import IMAGES
from robustaug.ops.operator import Params, joined
from robustaug.ops.tabular.table import TABLES, Table, check_in_place
from robustaug.pipeline import Pipeline, build, fitted
from robustaug.registry import make
from robustaug.rng import Keys, endless
from robustaug.synth.mixture import Mixture
from robustaug.train.processes import Processes
from robustaug.train.recipe import Recipe
from robustaug.train.view import Unlabelled, View, beside


class Feed:
    """The batches of training.

    Args:
        recipe: for seed, batch size, pipelines and mixer.
        source, unlabelled: what to read.
        mixture: what share of `source` a batch holds; all of it is real where left out.
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
        mixture: Mixture | None = None,
    ) -> None:
        self.recipe, self.source, self.unlabelled = recipe, source, unlabelled
        self.groups = None if groups is None else groups.to(device)
        self.classes, self.device, self.processes, self.laps = classes, device, processes, laps
        self.mixture = mixture or Mixture(source, len(source))
        self.views = recipe.make_loss().views
        self.augment = _Timed(_ready(build(recipe.augment), source, recipe.channels_last), laps)
        self.strong = _ready(build(recipe.strong), source, recipe.channels_last)
        self.mixer = None if recipe.mix is None else make(recipe.mix)

    def __len__(self) -> int:
        """Steps an epoch."""
        return self.mixture.steps(self.recipe.batch_size)

    def epoch(self, epoch: int, first: int = 0) -> Iterator[View]:
        """Yield the views of an epoch from step `first` on; one is empty where this process has nothing to do."""
        chunks = self.mixture.batches(self.recipe.batch_size, self.recipe.seed, epoch)
        shares = [self.processes.share(chunk.tolist()) for chunk in chunks[first:]]
        unlabelled = self._unlabelled([len(chunk) for chunk in chunks], epoch, first)
        batches = read(self.source, shares, self.recipe.workers)
        for step, (batch, keys) in enumerate(self._augmented(batches, epoch), first):
            yield self._view(batch, keys, next(unlabelled, None), epoch, step)

    def _augmented(self, batches: Iterator[Batch], epoch: int) -> Iterator[tuple[Batch, Keys]]:
        """Yield augmented batches on the device, and keys on the processor, where asking for them waits for nothing."""
        if self.source.layout is not IMAGES:
            for batch in batches:
                keys = Keys.of(self.recipe.seed, batch.index, epoch)
                changed = self._changed(batch, keys)
                # rows may have been drawn anew
                yield changed, Keys.of(self.recipe.seed, changed.index.cpu(), epoch)
            return
        plain: deque[Keys] = deque()

        def noted() -> Iterator[Batch]:
            for batch in batches:
                plain.append(Keys.of(self.recipe.seed, batch.index, epoch))
                yield batch

        loader = AugmentedLoader(noted(), self.augment, self.device, self.recipe.seed)
        loader.set_epoch(epoch)
        for batch in loader:
            yield batch, plain.popleft()

    def _changed(self, batch: Batch, keys: Keys) -> Batch:
        """Return a batch of anything augmented, on the device."""
        samples, rest = self._placed(batch.image), [part.to(self.device) for part in batch[1:]]
        if self.recipe.augment and len(batch.label):
            samples = self.augment.apply(samples, self.augment.sample(keys))
            if isinstance(samples, Table):  # rows may have been drawn anew, and bring their labels along
                rest = [part[samples.origin.to(self.device)] for part in rest]
        return Batch(samples, *rest)

    def _placed(self, samples: Any) -> Any:
        return samples.to(self.device) if isinstance(samples, Tensor) else samples

    def _unlabelled(self, sizes: list[int], epoch: int, first: int) -> Iterator[Unlabelled]:
        """Yield the samples without labels of each step, in an order that never ends.

        Args:
            sizes: of the labelled batches, one a step.
        """
        if self.unlabelled is None or self.recipe.data is None:
            return
        source, seed = self.unlabelled, self.recipe.seed
        count = max(1, round(self.recipe.data.unlabelled_ratio * self.recipe.batch_size))
        start, stop = (epoch * len(self) + step for step in (first, len(self)))
        order = endless(len(source), start * count, stop * count, seed, "unlabelled").split(count)
        shares = []
        for chunk, size in zip(order, sizes[first:], strict=True):
            rows = self.processes.share(range(size))
            own = slice(rows[0], rows[-1] + 1) if rows else slice(0, 0)
            shares.append(chunk[beside(own, size, count)].tolist())
        for step, batch in enumerate(read(source, shares, self.recipe.workers), first):
            # a sample may come several times an epoch, so its key goes by the step too
            keys = Keys.of(seed, batch.index, epoch).fold("unlabelled").fold(step)
            changed = self._changed(batch, keys)
            x = source.as_input(changed.image, self.device)
            [strong] = self._strong(changed, x, [keys])
            yield Unlabelled(x, strong, keys.to(self.device), count / sizes[step])

    def _view(self, batch: Batch, keys: Keys, unlabelled: Unlabelled | None, epoch: int, step: int) -> View:
        x, y, target = self.source.as_input(batch.image, self.device), batch.label, None
        if self.mixer is not None and len(x):
            with self.laps.of("augment"):
                x, target = self.mixer.apply(x, y, self.mixer.sample(keys.fold("mix")), self.classes)
        # views are of what the sample has become: of a mixture, where samples are mixed
        strong = self._strong(batch, x, [keys.fold(number) for number in range(self.views)])
        return View(
            x,
            y,
            batch.position,
            keys.to(self.device),
            epoch + step / len(self),
            target,
            None if self.groups is None else self.groups[batch.position],
            strong=strong,
            unlabelled=unlabelled,
            clean_share=self.recipe.clean_share,
            everywhere=self.processes.gather,
        )

    def _strong(self, batch: Batch, x: Any, keys: Sequence[Keys]) -> tuple[Any, ...]:
        """Return views of a batch through the `strong` pipeline, one for each of `keys`: of images x in one call."""
        if not keys:
            return ()
        with self.laps.of("augment"):
            drawn = [self.strong.sample(one.fold("strong")) for one in keys]
            if self.source.layout is IMAGES:
                made = self.strong.apply(torch.cat([x] * len(keys)), joined(drawn))
                return tuple(made.unflatten(0, (len(keys), len(x))))
            return tuple(self._seen(batch, params) for params in drawn)

    def _seen(self, batch: Batch, params: Params) -> Any:
        """Return another view of anything but images, of the samples themselves: inputs have lost their columns."""
        samples = batch.image
        if self.recipe.strong and len(batch.label):
            samples = self.strong.apply(samples, params)
            check_in_place("strong", samples)
        return self.source.as_input(samples, self.device)


def _ready(pipeline: Pipeline, source: Source, channels_last: bool) -> Any:
    """Return a pipeline as it is applied: compiled for images, told what is usual in a table."""
    if not pipeline.children:
        return _Nothing()
    if pipeline.layout is not source.layout:
        raise ValueError(
            f"the recipe's pipelines hold {pipeline.layout.name} operators, the training data are of kind "
            f"{source.layout.name!r}; `robustaug ops list` shows the operators of each kind"
        )
    if pipeline.layout is not IMAGES:
        return fitted(pipeline, source.fetch(range(len(source)))[0].image) if source.layout is TABLES else pipeline
    return pipeline.compile(dtype=torch.float32, channels_last=channels_last)


class _Nothing:
    """The pipeline of no operators: uint8 images need no way to float and back."""

    name = ""

    def sample(self, keys: Keys) -> Params:
        return {}

    def apply(self, image: Tensor, params: Params) -> Tensor:
        return image


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

    def apply(self, image: Any, params: Params) -> Any:
        with self.laps.of("augment"):
            return self.of.apply(image, params)
