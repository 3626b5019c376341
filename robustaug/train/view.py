"""What a loss sees of one batch.

Legend: B samples, ... the rest of a sample's shape, K classes, U samples without labels, N samples of the source.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from robustaug.data.source import Source
from robustaug.rng import Keys


class Facts(NamedTuple):
    """What is known before the first step: what a loss may lay its memory out by.

    Attributes:
        source: the training data.
        labels: (N,) int64, by position in the source.
        classes: K, outputs of the model.
        groups: (N,) int64 in [0, number of groups), by position; None where the recipe names no `data.groups`.
        group_names: what the groups are called.
        epochs, steps: how long training goes on; steps are those of one epoch.
        device: where memory belongs.
    """

    source: Source
    labels: Tensor
    classes: int
    groups: Tensor | None
    group_names: tuple[str, ...]
    epochs: int
    steps: int
    device: torch.device


class Unlabelled(NamedTuple):
    """Samples without labels that come with a batch, or with a part of one.

    Attributes:
        x: augmented, as `View.x`: (U, ...), or a list of U texts.
        strong: (U, ...), the same through the recipe's `strong` pipeline.
        keys: one a sample, of this step.
        ratio: how many come with each labelled sample in the whole batch, over all parts and processes.
    """

    x: Any
    strong: Any
    keys: Keys
    ratio: float

    def take(self, rows: slice) -> Unlabelled:
        """Return some of the samples."""
        return Unlabelled(self.x[rows], self.strong[rows], self.keys[rows], self.ratio)

    def blanked(self) -> Unlabelled:
        """Return two samples of zeros; see `View.blanked`."""
        return Unlabelled(_blank(self.x), _blank(self.strong), _blank_keys(self.keys), self.ratio)

    def share(self, losses: Tensor, labelled: int) -> Tensor:
        """Return what to add to the loss of each labelled sample of this part, a scalar.

        The mean over the labelled samples then holds the mean of the losses (U,) of the unlabelled ones, however the
        batch is cut into parts and among processes.
        """
        return losses.sum() / (self.ratio * labelled)


@dataclass(frozen=True)
class View:
    """One batch, or a part of one, on the device.

    Attributes:
        x: augmented samples as models take them: (B, ...) float32, images in [0, 1]; or a list of B texts.
        y: (B,) int64.
        position: (B,) int64 in [0, N), where the samples stand in the training source: rows of a loss's memory.
        keys: one a sample, of this epoch.
        epoch: from 0; whole epochs done, and the share of this one, as a float.
        target: (B, K) float32, shares of each class where samples were mixed or softened.
        group: (B,) int64 where the recipe names groups.
        x_adv: (B, ...) where the recipe has an attack: its points for x.
        eps: the budget that they keep, as far as a curriculum has come.
        strong: further views of the same samples, (B, ...) each, through the recipe's `strong` pipeline.
        unlabelled: samples without labels, where the recipe has some.
        clean_share: weight in [0, 1] of x beside x_adv, for losses of one prediction.
    """

    x: Any
    y: Tensor
    position: Tensor
    keys: Keys
    epoch: float = 0.0
    target: Tensor | None = None
    group: Tensor | None = None
    x_adv: Tensor | None = None
    eps: float = 0.0
    strong: tuple[Any, ...] = ()
    unlabelled: Unlabelled | None = None
    clean_share: float = 0.0
    everywhere: Callable[[Tensor], Tensor] = lambda rows: rows
    """Put together the rows of every process: what memory is updated from, the same everywhere."""
    blank: bool = False
    """Stands for no samples; see `blanked`."""

    def __len__(self) -> int:
        return len(self.y)

    @property
    def shown(self) -> Tensor:
        """The class that each sample shows most of, (B,) int64: what attacks lead away from."""
        return self.y if self.target is None else self.target.argmax(1)

    def soft(self, classes: int) -> Tensor:
        """Return the labels as shares of each class, (B, classes) float32; rows sum to 1."""
        return F.one_hot(self.y, classes).to(torch.float32) if self.target is None else self.target

    def split(self, parts: int) -> list[View]:
        """Return `pieces(len(self), parts)` views of consecutive samples, none empty."""
        if not len(self):
            return []
        size = -(-len(self) // parts)
        return [self if size >= len(self) else self._rows(slice(i, i + size)) for i in range(0, len(self), size)]

    def blanked(self) -> View:
        """Return a view of two samples of zeros, or two empty texts, that stand for none.

        A process that has no samples where others have some sends it through the model, since a loss may talk to the
        other processes; what comes of it does not count. Two, as batch normalisation needs more than one.
        """

        parts = {f.name: getattr(self, f.name) for f in fields(self)}
        by_sample = {key: _blank(value) for key, value in parts.items() if isinstance(value, Tensor | list)}
        return replace(
            self,
            **by_sample,
            keys=_blank_keys(self.keys),
            strong=tuple(map(_blank, self.strong)),
            unlabelled=None if self.unlabelled is None else self.unlabelled.blanked(),
            everywhere=lambda rows: self.everywhere(rows[:0]),
            blank=True,
        )

    def _rows(self, rows: slice) -> View:
        parts = {f.name: getattr(self, f.name) for f in fields(self)}
        by_sample = {key: value[rows] for key, value in parts.items() if isinstance(value, Tensor | Keys | list)}
        unlabelled = None
        if self.unlabelled is not None:
            unlabelled = self.unlabelled.take(beside(rows, len(self), len(self.unlabelled.x)))
        return replace(self, **by_sample, strong=tuple(one[rows] for one in self.strong), unlabelled=unlabelled)


def beside(rows: slice, labelled: int, unlabelled: int) -> slice:
    """Return which of `unlabelled` samples go with these rows of `labelled` ones: a cut at the same shares."""
    return slice(
        *(round(min(edge, labelled) * unlabelled / max(labelled, 1)) for edge in (rows.start, rows.stop)),
    )


def pieces(count: int, parts: int) -> int:
    """Return how many views a batch of `count` samples is split into: at most `parts`."""
    return -(-count // -(-count // parts)) if count else 0


def _blank(rows: Any) -> Any:
    return ["", ""] if isinstance(rows, list) else rows.new_zeros(2, *rows.shape[1:])


def _blank_keys(keys: Keys) -> Keys:
    return Keys(keys.key, keys.index.new_zeros(2))
