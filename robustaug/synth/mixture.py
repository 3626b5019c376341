"""Real and synthetic samples in one source, and the batches that hold a share of each.

Legend: N real samples, M synthetic ones.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor

from robustaug.data.fingerprint import digest
from robustaug.data.images import Images, Shape
from robustaug.data.quarantine import Quarantine
from robustaug.data.source import Source
from robustaug.rng import permutation


@dataclass(frozen=True)
class Mixture:
    """What training reads: real samples, and beside them a share of synthetic ones.

    Attributes:
        source: positions [0, N) are real, [N, N + M) synthetic; see `joined`.
        real: N.
        ratio: share of synthetic samples in a batch, in [0, 1).
    """

    source: Source
    real: int
    ratio: float = 0.0

    def steps(self, batch_size: int) -> int:
        """Return the batches of an epoch, which is one pass over the real samples."""
        return -(-self.real // (batch_size - self.made(batch_size)))

    def made(self, batch_size: int) -> int:
        """Return how many samples of a whole batch are synthetic."""
        return round(self.ratio * batch_size)

    def batches(self, batch_size: int, seed: int, epoch: int) -> list[Tensor]:
        """Return the positions of each batch of an epoch; they depend on seed and epoch alone.

        No batch holds a sample twice. Synthetic ones come in rounds of whole batches, each in an order of its own, over
        all epochs; they are spread evenly through a batch, so that a part of it holds its share of them. A last batch
        that is not whole holds fewer of both.

        Raises:
            ValueError: fewer synthetic samples than a batch holds.
        """
        made = self.made(batch_size)
        real = permutation(self.real, seed, epoch).split(batch_size - made)
        if not made:
            return [*real]
        rows = self._synthetic(made, epoch * len(real), len(real), seed)
        shares = [round(made * len(part) / (batch_size - made)) for part in real]
        return [_spread(part, others[:share]) for part, others, share in zip(real, rows, shares, strict=True)]

    def _synthetic(self, made: int, first: int, count: int, seed: int) -> list[Tensor]:
        """Return the synthetic samples of batches `first` to `first + count` of training, `made` each."""
        synthetic = len(self.source) - self.real
        if (a_round := synthetic // made) == 0:
            raise ValueError(f"a batch holds {made} synthetic samples but there are {synthetic}; make more of them")
        rounds = range(first // a_round, (first + count - 1) // a_round + 1)
        orders = {at: self.real + permutation(synthetic, seed, at, "synthetic") for at in rounds}
        batches = (divmod(number, a_round) for number in range(first, first + count))
        return [orders[at][place * made : (place + 1) * made] for at, place in batches]


def joined(real: Source, synthetic: Source) -> Source:
    """Return both sources as one, the real samples first.

    Real samples keep their indices, by which random draws go; those of synthetic ones follow after the last index of
    the real root source, so no two samples share a draw. A metadata column that synthetic samples lack reads
    "synthetic" there, and the new column "synthetic" reads "no" or "yes".
    """
    n, m = len(real), len(synthetic)
    both = copy.copy(real)
    both.name = f"{real.name} and {synthetic.name}"
    both.images = _Joined(cast(Images, real.images), cast(Images, synthetic.images))
    both.labels = torch.cat([real.labels, synthetic.labels])
    both.sample_index = torch.cat([real.sample_index, synthetic.sample_index + len(real.images)])
    lacking = np.full(m, "synthetic")
    both.cohorts = {
        column: np.concatenate([values, synthetic.cohorts.get(column, lacking)])
        for column, values in real.cohorts.items()
    } | {"synthetic": np.repeat(["no", "yes"], [n, m])}
    both.fingerprint = digest(real.fingerprint, synthetic.fingerprint)
    both.quarantine = Quarantine()
    return both


class _Joined:
    """The pictures of two sources, those of the second after those of the first."""

    def __init__(self, first: Images, second: Images) -> None:
        self.first, self.second = first, second

    @property
    def shape(self) -> Shape:
        return self.first.shape

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    def gather(self, rows: Tensor) -> tuple[Tensor, dict[int, str]]:
        pixels = torch.empty((len(rows), *self.shape), dtype=torch.uint8)
        reasons: dict[int, str] = {}
        for images, offset, places in (
            (self.first, 0, (rows < len(self.first)).nonzero()[:, 0]),
            (self.second, len(self.first), (rows >= len(self.first)).nonzero()[:, 0]),
        ):
            pixels[places], faults = images.gather(rows[places] - offset)
            reasons |= {int(places[at]): reason for at, reason in faults.items()}
        return pixels, reasons

    def path(self, row: int) -> str:
        return self.first.path(row) if row < len(self.first) else self.second.path(row - len(self.first))


def _spread(rows: Tensor, others: Tensor) -> Tensor:
    """Return both in one order, each evenly through it."""
    places = [(torch.arange(len(part)) + 0.5) / max(len(part), 1) for part in (rows, others)]
    return torch.cat([rows, others])[torch.cat(places).argsort(stable=True)]
