"""Numbers written down wrongly. A missing value stays missing.

`share` is the share of cells that are hit, each row and column on its own; for a fault of a whole column name it in
`columns` and set share to 1.

Legend: B rows, F number columns.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from robustaug.ops.space import choice, fixed, integer, noise_key, uniform
from robustaug.ops.tabular.operator import TabularOperator
from robustaug.ops.tabular.table import Table
from robustaug.registry import register
from robustaug.rng import normal_field, uniform_field

_SHARES = (0.02, 0.05, 0.1, 0.2, 0.4)


def _share(**declared: Any) -> Any:
    return uniform(0.02, 0.2, unit="of the cells", identity=0.0, bounds=(0, 1), **{"severity": _SHARES, **declared})


class _Cells(TabularOperator):
    """What operators on single numbers share."""

    def at(self, table: Table, share: Tensor, cells: Tensor, changed: Tensor) -> Table:
        """Return the table with `changed` (B, F) in the cells that are hit."""
        hit = uniform_field(cells, (table.values.shape[1],)) < share[:, None]
        hit = hit & self.chosen(table, table.numbers)
        return replace(table, values=torch.where(hit, changed.to(table.values.dtype), table.values))


@register("tabular.unit_error", tags={"measurement"})
class UnitError(_Cells):
    """Write numbers in another unit: multiply by a factor such as 1000 (kilo), 2.54 (inches) or 0.4536 (pounds)."""

    share = _share()
    factor = choice([1000, 0.001, 100, 0.01, 2.54, 1 / 2.54, 0.4536, 1 / 0.4536, 60, 1 / 60], unit="×")
    cells = noise_key()

    def formula(self, table: Table, share: Tensor, factor: Tensor, cells: Tensor) -> Table:
        return self.at(table, share, cells, table.values * factor[:, None])


@register("tabular.scale_error", tags={"measurement", "reference"})
class ScaleError(_Cells):
    """Measure with a device out of calibration: (x - mean) gain + mean + offset, offset in standard deviations."""

    share = _share()
    gain = uniform(0.8, 1.25, unit="×", bounds=(0, None))
    offset = uniform(-0.5, 0.5, unit="standard deviations")
    cells = noise_key()

    def formula(self, table: Table, share: Tensor, gain: Tensor, offset: Tensor, cells: Tensor) -> Table:
        usual = self.usual(table)
        changed = (table.values - usual.mean) * gain[:, None] + usual.mean + offset[:, None] * usual.spread
        return self.at(table, share, cells, changed)


@register("tabular.sign_error", tags={"measurement"})
class SignError(_Cells):
    """Lose or gain a minus sign."""

    share = _share()
    cells = noise_key()

    def formula(self, table: Table, share: Tensor, cells: Tensor) -> Table:
        return self.at(table, share, cells, -table.values)


@register("tabular.rounding", tags={"measurement"})
class Rounding(_Cells):
    """Round numbers to `digits` significant decimal digits, as people do who answer from memory."""

    share = fixed(1.0, unit="of the cells", identity=0.0, bounds=(0, 1))
    digits = integer(1, 2, unit="digits", bounds=(1, 15), severity=(4, 3, 2, 2, 1))
    cells = noise_key()

    def formula(self, table: Table, share: Tensor, digits: Tensor, cells: Tensor) -> Table:
        values = table.values.to(torch.float64)
        size = torch.where(values == 0, 1.0, values.abs()).nan_to_num(1.0)
        step = 10.0 ** (torch.floor(torch.log10(size)) - (digits[:, None] - 1))
        return self.at(table, share, cells, torch.round(values / step) * step)


@register("tabular.outliers", tags={"measurement", "reference"})
class Outliers(_Cells):
    """Throw numbers `distance` standard deviations off, up or down."""

    share = _share()
    distance = uniform(4, 10, unit="standard deviations", bounds=(0, None))
    cells = noise_key()

    def formula(self, table: Table, share: Tensor, distance: Tensor, cells: Tensor) -> Table:
        # the same draw that says whether a cell is hit says which way, by its finer digits
        side = torch.where((uniform_field(cells, (table.values.shape[1],)) * 2**20) % 2 < 1, -1.0, 1.0)
        return self.at(table, share, cells, table.values + side * distance[:, None] * self.usual(table).spread)


@register("tabular.noise", tags={"measurement", "reference"})
class Noise(_Cells):
    """Add Gaussian noise of `sigma` standard deviations of the column."""

    sigma = uniform(
        0.02, 0.2, unit="standard deviations", identity=0.0, bounds=(0, None), severity=(0.05, 0.1, 0.2, 0.4, 0.8)
    )
    draws = noise_key()

    def formula(self, table: Table, sigma: Tensor, draws: Tensor) -> Table:
        noise = normal_field(draws, (table.values.shape[1],)) * sigma[:, None] * self.usual(table).spread
        return self.at(table, torch.ones_like(sigma), draws, table.values + noise)
