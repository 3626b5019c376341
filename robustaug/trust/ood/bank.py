"""Training rows kept in memory: all of them, or a random choice of a stated size."""

from __future__ import annotations

import torch
from torch import Tensor

from robustaug.rng import Keys


class Bank:
    """Keeps up to `most` of the rows that are added to it; each set of that size is equally likely.

    Each row draws a number by its place in the stream, and the rows with the least numbers stay: how the stream is
    cut into batches does not matter, and twice `most` rows are held at the most, besides the batch in hand.
    """

    def __init__(self, most: int, seed: int = 0) -> None:
        """See the class."""
        self.most, self.seed, self.seen, self.held = most, seed, 0, 0
        self._kept: list[tuple[Tensor, Tensor]] = []  # draws (R, 2), rows (R, D)

    def add(self, rows: Tensor) -> None:
        """Take in rows (R, D), of one width and dtype throughout."""
        if not len(rows):
            return
        index = torch.arange(self.seen, self.seen + len(rows))
        self._kept.append((Keys.of(self.seed, index).fold("ood.bank").bits(2), rows))
        self.seen += len(rows)
        self.held += len(rows)
        if self.held > 2 * self.most:
            self._prune()

    def rows(self) -> Tensor | None:
        """Return what is kept, in the order of the stream; None where nothing was added."""
        if not self._kept:
            return None
        self._prune()
        return self._kept[0][1]

    def _prune(self) -> None:
        draws, rows = (torch.cat(parts) for parts in zip(*self._kept, strict=True))
        if len(rows) > self.most:
            number = draws[:, 0] * (1 << 31) + (draws[:, 1] >> 1)  # 63 bits: no two rows draw the same
            stay = number.argsort(stable=True)[: self.most].sort().values
            draws, rows = draws[stay], rows[stay.to(rows.device)]
        self._kept, self.held = [(draws, rows)], len(rows)
