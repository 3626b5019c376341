"""What a loss sees of one batch.

Legend: B samples, ... the rest of a sample's shape, K classes, U samples without labels, N samples of the source.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

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


@dataclass(frozen=True)
class View:
    """One batch, or a part of one, on the device.

    Attributes:
        x: (B, ...) float32 in [0, 1], augmented.
        y: (B,) int64.
        position: (B,) int64 in [0, N), where the samples stand in the training source: rows of a loss's memory.
        keys: one a sample, of this epoch.
        epoch: from 0; whole epochs done, and the share of this one, as a float.
        target: (B, K) float32, shares of each class where samples were mixed or softened.
        group: (B,) int64 where the recipe names groups.
        x_adv: (B, ...) where the recipe has an attack: its points for x.
        strong: further views of the same samples, (B, ...) each, through the recipe's `strong` pipeline.
        unlabelled: (U, ...) float32 in [0, 1], samples without labels, and the same through `strong`.
        clean_share: weight in [0, 1] of x beside x_adv, for losses of one prediction.
    """

    x: Tensor
    y: Tensor
    position: Tensor
    keys: Keys
    epoch: float = 0.0
    target: Tensor | None = None
    group: Tensor | None = None
    x_adv: Tensor | None = None
    strong: tuple[Tensor, ...] = ()
    unlabelled: tuple[Tensor, Tensor] | None = None
    clean_share: float = 0.0
    everywhere: Callable[[Tensor], Tensor] = lambda rows: rows
    """Put together the rows of every process: what memory is updated from, the same everywhere."""

    def __len__(self) -> int:
        return len(self.y)

    def soft(self, classes: int) -> Tensor:
        """Return the labels as shares of each class, (B, classes) float32; rows sum to 1."""
        return F.one_hot(self.y, classes).to(torch.float32) if self.target is None else self.target

    def split(self, parts: int) -> list[View]:
        """Return at most `parts` views of consecutive samples, none empty."""
        size = -(-len(self) // parts)
        return [self if size >= len(self) else self._rows(slice(i, i + size)) for i in range(0, len(self), size)]

    def _rows(self, rows: slice) -> View:
        by_sample = {
            f.name: value[rows] for f in fields(self) if isinstance(value := getattr(self, f.name), Tensor | Keys)
        }
        unlabelled = None
        if self.unlabelled is not None:  # as many parts as the labelled samples are cut into
            share = len(self.unlabelled[0]) / len(self)
            cut = slice(round(rows.start * share), round(min(rows.stop, len(self)) * share))
            unlabelled = (self.unlabelled[0][cut], self.unlabelled[1][cut])
        return replace(self, **by_sample, strong=tuple(one[rows] for one in self.strong), unlabelled=unlabelled)
