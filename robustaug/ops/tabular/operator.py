"""Base of operators on tables: which columns, and what they look like as a whole.

Legend: B rows, F number columns, G category columns.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from robustaug.ops.operator import Operator, Params
from robustaug.ops.tabular.table import MISSING, TABLES, Table, with_levels
from robustaug.registry import did_you_mean


class Reference(NamedTuple):
    """What is usual in a table.

    Attributes:
        mean, spread: (F,) float64, over the rows that are there; a column that never varies has spread 0.
        present: for each category column the codes that occur.
        columns, levels: of the table, as in `Table`.
    """

    mean: Tensor
    spread: Tensor
    present: tuple[Tensor, ...]
    columns: tuple[tuple[Any, ...], tuple[Any, ...]]
    levels: tuple[tuple[Any, ...], ...]


class TabularOperator(Operator):
    """Base of operators on tables. `formula` sees a `Table` and one tensor of B values a parameter.

    Args:
        columns: names (positions, for a tensor) to work on; all that can be when left out.
        p: chance in [0, 1] that a row is changed.
        severity: 1 to 5.

    An operator tagged "reference" measures what is usual: in the table given to `fit`, or else in the batch itself.
    One tagged "batchwise" moves values between rows, so a row's result depends on its batch.
    """

    layout = TABLES
    name: ClassVar[str] = ""
    on: ClassVar[str] = "numbers"
    """Which columns can be worked on: "numbers" or "categories", or "all"."""

    def __init__(
        self, columns: Sequence[Any] | None = None, *, p: float = 1.0, severity: int | None = None, **params: Any
    ):
        super().__init__(p=p, severity=severity, **params)
        if columns is not None and (isinstance(columns, str) or not isinstance(columns, Sequence) or not columns):
            raise ValueError(f"{self.name}: columns must be a list of at least one name, got {columns!r}")
        self.columns = None if columns is None else [*columns]
        self.reference: Reference | None = None

    def fit(self, table: Any) -> Any:
        """Return this operator with what is usual measured in `table`; a row then no longer depends on its batch.

        Raises:
            TypeError, ValueError: not a table; see `check_table`.
        """
        batch, _ = self.layout.to_batch(table)
        fitted = copy.copy(self)
        fitted.reference = measure(batch)
        return fitted

    def usual(self, table: Table) -> Reference:
        """Return the fitted reference, or that of the batch."""
        return measure(table) if self.reference is None else self.reference

    def transform(self, batch: Any, params: Params) -> Any:
        """`apply` without the layouts; see `Operator.transform`.

        Raises:
            ValueError: the reference was fitted to a table of other columns.
        """
        if self.reference is not None:
            if self.reference.columns != (batch.numbers, batch.categories):
                raise ValueError(
                    f"{self.name} was fitted to a table with the columns {self.reference.columns}, "
                    f"got {(batch.numbers, batch.categories)}; fit it again"
                )
            batch = with_levels(batch, self.reference.levels)
        return super().transform(batch, params)

    def chosen(self, table: Table, names: Sequence[Any]) -> Tensor:
        """Return (len(names),) bool: which of these columns are meant.

        Raises:
            ValueError: a column that the table lacks, or that is of another kind.
        """
        if self.columns is None:
            return torch.ones(len(names), dtype=torch.bool, device=table.values.device)
        eligible = {"numbers": table.numbers, "categories": table.categories}.get(
            self.on, (*table.numbers, *table.categories)
        )
        for column in self.columns:
            if column not in eligible:
                kind = {"numbers": "number ", "categories": "category "}.get(self.on, "")
                near = did_you_mean(str(column), [str(c) for c in eligible])
                raise ValueError(
                    f"{self.name}: the table has no {kind}column {column!r}{near}; it has {list(eligible)}"
                )
        return torch.tensor([name in self.columns for name in names], dtype=torch.bool, device=table.values.device)

    def formula(self, table: Table, **params: Tensor) -> Table:
        """The definition: B rows and one (B, ...) tensor a parameter in, B rows out."""
        raise NotImplementedError(f"{type(self).__name__} must define formula(table, **params)")

    def spec(self) -> dict[str, Any]:
        [(name, params)] = super().spec().items()
        return {name: params if self.columns is None else {"columns": self.columns, **params}}


class WholeRows(TabularOperator):
    """Base of operators that move rows as wholes, so that there are no columns to choose."""

    name: ClassVar[str] = ""
    on = "all"

    def __init__(self, **params: Any) -> None:
        if "columns" in params:
            raise TypeError(f"{self.name} moves whole rows, so it has no parameter 'columns'")
        super().__init__(None, **params)


def mean_and_spread(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of every column of (B, F), NaN left out, both (F,) float64.

    The spread of a column that never varies is 0, and so is the mean of one that holds nothing.
    """
    values = values.to(torch.float64)
    there = ~values.isnan()
    count = there.sum(0).clamp(min=1)
    mean = values.nan_to_num(0.0).sum(0) / count
    spread = ((values - mean).nan_to_num(0.0).square().sum(0) / count).sqrt()
    # not by the spread itself: the mean of 0.1, 0.1 and 0.1 is rounded to another number
    first = values.gather(0, there.int().argmax(0, keepdim=True)) if len(values) else values
    return mean, torch.where(((values != first) & there).any(0), spread, 0.0)


def measure(table: Table) -> Reference:
    """Return what is usual in a table."""
    mean, spread = mean_and_spread(table.values)
    present = tuple(column[column != MISSING].unique() for column in table.codes.unbind(1))
    return Reference(mean, spread, present, (table.numbers, table.categories), table.levels)


def standardised(values: Tensor, usual: Reference) -> Tensor:
    """Return (B, F), distances from the mean in standard deviations; 0 where missing or where nothing varies."""
    flat = usual.spread <= 0
    return torch.where(flat, 0.0, (values - usual.mean) / torch.where(flat, 1.0, usual.spread)).nan_to_num(0.0)
