"""Categories and columns that are not what they should be.

Legend: B rows, F number columns, G category columns.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from robustaug.ops.space import noise_key, uniform
from robustaug.ops.tabular.operator import TabularOperator, WholeRows
from robustaug.ops.tabular.table import MISSING, Table
from robustaug.registry import register
from robustaug.rng import uniform_field

_SHARES = (0.02, 0.05, 0.1, 0.2, 0.4)
UNSEEN = "unseen category"


def _share(unit: str = "of the cells", severity: Any = _SHARES) -> Any:
    return uniform(0.02, 0.2, unit=unit, identity=0.0, bounds=(0, 1), severity=severity)


@register("tabular.swap_category", tags={"category", "reference"})
class SwapCategory(TabularOperator):
    """Replace categories by another that occurs in the same column, each as likely; a tensor has none."""

    on = "categories"
    share = _share()
    cells = noise_key()

    def formula(self, table: Table, share: Tensor, cells: Tensor) -> Table:
        G = table.codes.shape[1]
        draws = uniform_field(cells, (2, G))
        hit = (draws[:, 0] < share[:, None]) & self.chosen(table, table.categories) & (table.codes != MISSING)
        codes = table.codes.clone()
        for column, known in enumerate(self.usual(table).present):
            others = len(known) - 1
            if others < 1:
                continue
            # counted on from its own place, so that it never becomes itself
            own = torch.searchsorted(known, table.codes[:, column].contiguous().clamp(min=0))
            on = 1 + torch.floor(draws[:, 1, column] * others).long()
            codes[:, column] = torch.where(hit[:, column], known[(own + on) % len(known)], codes[:, column])
        return replace(table, codes=codes)


@register("tabular.unseen_category", tags={"category"})
class UnseenCategory(TabularOperator):
    """Replace categories by one that nobody has seen, "unseen category"; a tensor has none."""

    on = "categories"
    share = _share()
    cells = noise_key()

    def formula(self, table: Table, share: Tensor, cells: Tensor) -> Table:
        hit = uniform_field(cells, (table.codes.shape[1],)) < share[:, None]
        hit = hit & self.chosen(table, table.categories)
        levels = tuple(known if UNSEEN in known else (*known, UNSEEN) for known in table.levels)
        new = torch.tensor([known.index(UNSEEN) for known in levels], dtype=torch.int64, device=hit.device)
        return replace(table, codes=torch.where(hit, new, table.codes), levels=levels)


@register("tabular.permute_columns", tags={"schema"})
class PermuteColumns(TabularOperator):
    """Write a row's numbers into each other's columns, one place further round: a delimiter too many.

    `share` is the share of rows; with fewer than two columns nothing moves.
    """

    share = _share("of the rows")
    rows = noise_key()

    def formula(self, table: Table, share: Tensor, rows: Tensor) -> Table:
        meant = self.chosen(table, table.numbers).nonzero()[:, 0]
        if len(meant) < 2:
            return table
        draws = uniform_field(rows, (2,))
        hit = draws[:, 0] < share
        by = 1 + torch.floor(draws[:, 1] * (len(meant) - 1)).long()
        source = meant[(torch.arange(len(meant), device=by.device) + by[:, None]) % len(meant)]  # (B, columns)
        values = table.values.clone()
        values[:, meant] = torch.where(hit[:, None], table.values.gather(1, source), table.values[:, meant])
        return replace(table, values=values)


@register("tabular.stale_column", tags={"schema", "batchwise"})
class StaleColumn(TabularOperator):
    """Let cells keep the value of the row before, as a feed that was not refreshed; the first row is always fresh."""

    on = "all"
    share = _share(severity=(0.1, 0.25, 0.5, 0.75, 0.95))
    cells = noise_key()

    def formula(self, table: Table, share: Tensor, cells: Tensor) -> Table:
        F, G = table.values.shape[1], table.codes.shape[1]
        meant = torch.cat([self.chosen(table, table.numbers), self.chosen(table, table.categories)])
        stale = (uniform_field(cells, (F + G,)) < share[:, None]) & meant
        stale[0] = False
        row = torch.arange(len(table), device=stale.device)[:, None]
        fresh = torch.where(stale, 0, row).cummax(dim=0).values  # the last row that was refreshed
        values, codes = table.values.gather(0, fresh[:, :F]), table.codes.gather(0, fresh[:, F:])
        return replace(table, values=values, codes=codes)


@register("tabular.permute_values", tags={"schema", "batchwise"})
class PermuteValues(TabularOperator):
    """Shuffle each column among the rows that are hit: its distribution stays, what it says about a row is gone.

    Source: the permutation behind Breiman's variable importance (2001).
    """

    on = "all"
    share = _share("of the rows", (0.1, 0.25, 0.5, 0.75, 1.0))
    cells = noise_key()

    def formula(self, table: Table, share: Tensor, cells: Tensor) -> Table:
        F, G = table.values.shape[1], table.codes.shape[1]
        meant = torch.cat([self.chosen(table, table.numbers), self.chosen(table, table.categories)])
        draws = uniform_field(cells, (2, F + G))
        hit = (draws[:, 0] < share[:, None]) & meant
        row = torch.arange(len(table), device=hit.device)[:, None]
        # those that are hit first, in order and at random; the others behind them, each at its own place
        here = torch.where(hit, row, len(table) + row).argsort(dim=0)
        there = torch.where(hit, draws[:, 1], 2.0 + row).argsort(dim=0, stable=True)
        source = torch.empty_like(here).scatter_(0, here, there)
        values, codes = table.values.gather(0, source[:, :F]), table.codes.gather(0, source[:, F:])
        return replace(table, values=values, codes=codes)


@register("tabular.duplicate_rows", tags={"schema", "batchwise"})
class DuplicateRows(WholeRows):
    """Replace a `share` of the rows by copies of others: a join that multiplied some and lost some."""

    share = _share("of the rows")
    rows = noise_key()

    def formula(self, table: Table, share: Tensor, rows: Tensor) -> Table:
        draws = uniform_field(rows, (2,))
        other = torch.floor(draws[:, 1] * len(table)).long()
        return table.rows(torch.where(draws[:, 0] < share, other, torch.arange(len(table), device=other.device)))
