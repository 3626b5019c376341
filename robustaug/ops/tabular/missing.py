"""Missing values, by the three mechanisms of Rubin 1976: NaN in numbers, no category in categories.

Legend: B rows, F number columns, G category columns.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from robustaug.ops.space import fixed, noise_key, uniform
from robustaug.ops.tabular.operator import TabularOperator, standardised
from robustaug.ops.tabular.table import MISSING, Table
from robustaug.registry import register
from robustaug.rng import uniform_field

_SHARES = (0.05, 0.1, 0.2, 0.35, 0.5)


def _share() -> Any:
    return uniform(0.05, 0.2, unit="of the cells", identity=0.0, bounds=(0, 1), severity=_SHARES)


class _Missing(TabularOperator):
    """What the three mechanisms share: where cells vanish once their chances are known."""

    on = "all"

    def without(self, table: Table, chance: Tensor, cells: Tensor) -> Table:
        """Return the table without the cells whose draw lies below `chance` (B, F + G)."""
        F, G = table.values.shape[1], table.codes.shape[1]
        meant = torch.cat([self.chosen(table, table.numbers), self.chosen(table, table.categories)])
        gone = (uniform_field(cells, (F + G,)) < chance) & meant
        values = table.values.masked_fill(gone[:, :F], torch.nan)
        return replace(table, values=values, codes=table.codes.masked_fill(gone[:, F:], MISSING))


def logistic_chance(z: Tensor, share: Tensor, steepness: Tensor) -> Tensor:
    """Return the chance of vanishing where z is how unusual a value is: a logistic curve with mean about `share`.

    The shift makes the mean right for z from N(0, 1), by the usual approximation of the logistic-normal mean
    (MacKay 1992): sigmoid(b / sqrt(1 + pi s^2 / 8)) = share.
    """
    slope = steepness[:, None].to(z.dtype)
    level = torch.logit(share.to(z.dtype).clamp(1e-9, 1 - 1e-9))[:, None]
    chance = torch.sigmoid(level * torch.sqrt(1 + math.pi * slope**2 / 8) + slope * z)
    return torch.where(share[:, None] <= 0, 0.0, torch.where(share[:, None] >= 1, 1.0, chance))


@register("tabular.missing_completely_at_random", tags={"missing"})
class MissingCompletelyAtRandom(_Missing):
    """Lose each cell with chance `share`, whatever it and the others hold."""

    share = _share()
    cells = noise_key()

    def formula(self, table: Table, share: Tensor, cells: Tensor) -> Table:
        return self.without(table, share[:, None], cells)


@register("tabular.missing_at_random", tags={"missing", "reference"})
class MissingAtRandom(_Missing):
    """Lose cells more often where another column, which stays, is high: as when the old are not asked.

    Args:
        driver: the number column that decides, the first one when left out.
        columns: as everywhere; the driver itself never vanishes.

    Raises:
        ValueError: no number column, or no such driver.
    """

    share = _share()
    steepness = fixed(2.0, unit="per standard deviation", bounds=(-100, 100))
    cells = noise_key()

    def __init__(self, columns: Any = None, driver: Any = None, **params: Any) -> None:
        super().__init__(columns, **params)
        self.driver = driver

    def formula(self, table: Table, share: Tensor, steepness: Tensor, cells: Tensor) -> Table:
        driver = table.numbers[0] if self.driver is None and table.numbers else self.driver
        if driver not in table.numbers:
            raise ValueError(f"{self.name}: driver {driver!r} is no number column; there are {list(table.numbers)}")
        at = table.numbers.index(driver)
        z = standardised(table.values, self.usual(table))[:, at : at + 1]
        F, G = table.values.shape[1], table.codes.shape[1]
        chance = logistic_chance(z, share, steepness).expand(-1, F + G).clone()
        chance[:, at] = 0
        return self.without(table, chance, cells)

    def spec(self) -> dict[str, Any]:
        [(name, params)] = super().spec().items()
        return {name: params if self.driver is None else {"driver": self.driver, **params}}


@register("tabular.missing_not_at_random", tags={"missing", "reference"})
class MissingNotAtRandom(_Missing):
    """Lose numbers more often the higher they are themselves: as incomes that are not told.

    A category has no height: it vanishes with chance `share`.
    """

    share = _share()
    steepness = fixed(2.0, unit="per standard deviation", bounds=(-100, 100))
    cells = noise_key()

    def formula(self, table: Table, share: Tensor, steepness: Tensor, cells: Tensor) -> Table:
        z = standardised(table.values, self.usual(table))
        level = share[:, None].to(z.dtype).expand(-1, table.codes.shape[1])
        return self.without(table, torch.cat([logistic_chance(z, share, steepness), level], dim=1), cells)
