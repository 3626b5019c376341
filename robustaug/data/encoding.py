"""Rows of a table as the numbers that models take, by what is usual in the training rows.

Legend: B rows, F number columns, G category columns, W numbers a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from robustaug.data.fingerprint import as_scales, digest
from robustaug.ops.tabular.operator import measure
from robustaug.ops.tabular.table import MISSING, Table


@dataclass(frozen=True)
class Encoding:
    """How rows become numbers; fitted once, to training rows, and used for all others.

    A number column gives two numbers: its distance from the training mean in training standard deviations, 0 where it
    is missing, and whether it is missing. A category column gives one 0 or 1 for each category of the training rows,
    one for a category that they lack, and one for a missing one.

    Attributes:
        numbers, categories: names of the columns.
        mean, spread: (F,) float64; the spread of a column that never varies is 1.
        levels: for each category column the categories of the training rows.
    """

    numbers: tuple[str, ...]
    mean: Tensor
    spread: Tensor
    categories: tuple[str, ...]
    levels: tuple[tuple[str, ...], ...]

    @classmethod
    def of(cls, training: Table) -> Encoding:
        """Fit to training rows."""
        usual = measure(training)
        levels = tuple(
            tuple(known[code] for code in present.tolist())
            for known, present in zip(training.levels, usual.present, strict=True)
        )
        spread = torch.where(usual.spread > 0, usual.spread, 1.0)
        return cls(training.numbers, usual.mean, spread, training.categories, levels)

    @property
    def names(self) -> tuple[str, ...]:
        """What each of the W numbers says."""
        out = [name for column in self.numbers for name in (column, f"{column} missing")]
        for column, known in zip(self.categories, self.levels, strict=True):
            out += [f"{column} = {level}" for level in known] + [f"{column} unseen", f"{column} missing"]
        return tuple(out)

    @property
    def digest(self) -> str:
        """What tells encodings apart; see `Source.encoding`."""
        return digest("table", self.numbers, as_scales(self.mean, self.spread), self.categories, self.levels)

    def __call__(self, table: Table) -> Tensor:
        """Return (B, W) float32, on the device of the table."""
        z = (table.values - self.mean.to(table.values)) / self.spread.to(table.values)
        gone = table.values.isnan()
        parts = [torch.stack([z.masked_fill(gone, 0.0), gone.to(z.dtype)], dim=2).flatten(1)]  # (B, 2 F)
        for at, known in enumerate(self.levels):
            parts.append(F.one_hot(_places(known, table.levels[at], table.codes[:, at]), len(known) + 2))
        return torch.cat([part.to(torch.float32) for part in parts], dim=1)


def _places(known: Sequence[str], levels: Sequence[str], codes: Tensor) -> Tensor:
    """Return (B,) the place of each category among those known; behind them unseen ones, and then missing ones."""
    if levels == known:
        return torch.where(codes == MISSING, len(known) + 1, codes)
    place = {level: at for at, level in enumerate(known)}
    # a file or an operator may have brought other levels: names count, not codes
    by_code = [place.get(level, len(known)) for level in levels]
    return torch.tensor([*by_code, len(known) + 1], device=codes.device)[torch.where(codes == MISSING, -1, codes)]
