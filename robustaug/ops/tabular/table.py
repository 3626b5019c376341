"""What a table is: a pandas data frame, or a (B, F) floating tensor; a sample is a row, NaN is a missing value.

A frame's number columns become one (B, F) float64 matrix; its strings, categories and booleans become whole numbers
that stand for their values. Other columns, dates above all, are left alone and come back as they were. A column that
changes keeps its type where the new values fit: whole numbers with gaps or fractions become float64.

Legend: B rows, F number columns, G category columns.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from robustaug.ops.layout import Layout

if TYPE_CHECKING:
    import pandas as pd

MISSING = -1
"""The code of a category that is missing."""


@dataclass(frozen=True)
class Table:
    """A batch of rows as formulas see it.

    Attributes:
        values: (B, F) floating, NaN where missing.
        codes: (B, G) int64, positions in `levels`, MISSING where missing.
        numbers, categories: the columns' names.
        levels: for each category column what its codes stand for.
        origin: (B,) int64, which row of the user's table each row was.
    """

    values: Tensor
    codes: Tensor
    origin: Tensor
    numbers: tuple[Any, ...]
    categories: tuple[Any, ...] = ()
    levels: tuple[tuple[Any, ...], ...] = ()

    def __len__(self) -> int:
        return len(self.values)

    def rows(self, chosen: Tensor) -> Table:
        """Return the rows at positions `chosen`."""
        return replace(self, values=self.values[chosen], codes=self.codes[chosen], origin=self.origin[chosen])


def with_levels(table: Table, levels: tuple[tuple[Any, ...], ...]) -> Table:
    """Return the table with its codes counted in `levels`, followed by what only the table holds."""
    codes, grown = table.codes.clone(), []
    for position, (known, own) in enumerate(zip(levels, table.levels, strict=True)):
        if known == own:
            grown.append(known)
            continue
        place = {value: at for at, value in enumerate(known)}
        for value in own:
            place.setdefault(value, len(place))
        moved = torch.tensor([*(place[value] for value in own), MISSING], dtype=torch.int64, device=codes.device)
        codes[:, position] = moved[table.codes[:, position]]
        grown.append(tuple(place))
    return replace(table, codes=codes, levels=tuple(grown))


def check_table(table: Any) -> None:
    """Refuse what no operator on tables can read.

    Raises:
        TypeError: neither a data frame nor a floating tensor nor a `Table`.
        ValueError: a tensor that is not (F,) or (B, F), no column, repeated names, or infinite values.
    """
    if isinstance(table, Table):
        return
    if isinstance(table, Tensor):
        if not table.is_floating_point():
            raise TypeError(f"table must be floating, got {table.dtype}; table.float() converts it")
        if table.ndim not in (1, 2) or table.shape[-1] == 0:
            raise ValueError(f"table must have shape (F,) or (B, F) with F >= 1, got {tuple(table.shape)}")
        if bool(table.isinf().any()):
            raise ValueError("table has infinite values; a missing value is NaN")
        return
    if not _is_frame(table):
        raise TypeError(f"table must be a pandas.DataFrame or a torch.Tensor, got {type(table).__name__}")
    if not table.columns.is_unique:
        twice = table.columns[table.columns.duplicated()].tolist()
        raise ValueError(f"table has columns of the same name: {twice}; rename them")


def check_in_place(name: str, samples: Any) -> None:
    """Refuse a `Table` whose rows are no longer where they were: what belongs to them would go with others.

    Raises:
        ValueError: names the operator.
    """
    if isinstance(samples, Table) and not torch.equal(samples.origin.cpu(), torch.arange(len(samples))):
        raise ValueError(f"{name} draws rows anew, so samples cannot be followed through it; use it in `augment`")


def _is_frame(table: Any) -> bool:
    # whoever has a frame has pandas; whoever has not need not install it
    return type(table).__module__.startswith("pandas") and hasattr(table, "columns")


def _to_batch(table: Any) -> tuple[Table, Any]:
    check_table(table)
    if isinstance(table, Table):
        return replace(table, origin=torch.arange(len(table), device=table.values.device)), None
    if isinstance(table, Tensor):
        values = table if table.ndim == 2 else table[None]
        wide = values if values.dtype == torch.float64 else values.float()
        none = torch.zeros(len(values), 0, dtype=torch.int64, device=values.device)
        origin = torch.arange(len(values), device=values.device)
        return Table(wide, none, origin, tuple(range(values.shape[1]))), (table.ndim == 1, table.dtype)
    return _read_frame(table), table


def _read_frame(frame: pd.DataFrame) -> Table:
    import numpy as np
    import pandas as pd
    from pandas.api import types

    numbers = [c for c in frame if types.is_numeric_dtype(frame[c]) and not types.is_bool_dtype(frame[c])]
    labels = [c for c in frame if c not in set(numbers) and _is_category(cast("pd.Series", frame[c]))]
    values = np.empty((len(frame), len(numbers)), dtype=np.float64)
    for position, column in enumerate(numbers):
        values[:, position] = frame[column].to_numpy(dtype=np.float64, na_value=np.nan)
    if np.isinf(values).any():
        raise ValueError("table has infinite values; a missing value is NaN")
    codes, levels = np.empty((len(frame), len(labels)), dtype=np.int64), []
    for position, column in enumerate(labels):
        series = frame[column]
        if isinstance(series.dtype, pd.CategoricalDtype):
            known = series.cat.categories
            codes[:, position] = series.cat.codes
        else:
            # sorted by their text: the order of appearance would make a draw depend on the rows beside it
            known = sorted(series.dropna().unique().tolist(), key=str)
            codes[:, position] = pd.Categorical(series, categories=known).codes
        levels.append(tuple(known))
    origin = torch.arange(len(frame))
    return Table(
        torch.from_numpy(values), torch.from_numpy(codes), origin, tuple(numbers), tuple(labels), tuple(levels)
    )


def _is_category(series: pd.Series) -> bool:
    import pandas as pd
    from pandas.api import types

    if isinstance(series.dtype, pd.CategoricalDtype) or types.is_bool_dtype(series) or types.is_string_dtype(series):
        return True
    return types.is_object_dtype(series) and all(isinstance(v, (str, bool)) for v in series.dropna().unique())


def _from_batch(table: Table, form: Any) -> Any:
    if form is None:
        return table
    if isinstance(form, tuple):
        single, dtype = form
        return (table.values[0] if single else table.values).to(dtype)
    return _write_frame(table, form)


def _write_frame(table: Table, frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame like `frame` with the table's values; a column that did not change is the very same."""
    import numpy as np
    import pandas as pd
    from pandas.api import types

    before = _read_frame(frame).rows(table.origin)
    # rows that were drawn anew bring their labels and their other columns along
    frame = frame.iloc[table.origin.numpy()]
    out = frame.copy()
    for position, column in enumerate(table.numbers):
        new = table.values[:, position].numpy()
        if np.array_equal(new, before.values[:, position].numpy(), equal_nan=True):
            continue
        whole = types.is_integer_dtype(frame[column].dtype)
        if (whole and not np.isnan(new).any() and (new == np.rint(new)).all()) or types.is_float_dtype(
            frame[column].dtype
        ):
            out[column] = pd.Series(new, index=frame.index).astype(frame[column].dtype)
        else:
            out[column] = new  # whole numbers with gaps or fractions can only be float64
    for position, column in enumerate(table.categories):
        new, known = table.codes[:, position].numpy(), table.levels[position]
        place = {value: code for code, value in enumerate(known)}  # levels may have grown since
        old = np.array([*(place[value] for value in before.levels[position]), MISSING])
        if np.array_equal(new, old[before.codes[:, position].numpy()]):
            continue
        made = pd.Categorical.from_codes(new, categories=list(known))
        if isinstance(frame[column].dtype, pd.CategoricalDtype):
            out[column] = made
            continue
        plain = pd.Series(made, index=frame.index).astype(object)
        fits = types.is_string_dtype(frame[column].dtype) or not plain.isna().any()
        same = fits and {type(v) for v in plain.dropna()} <= {type(v) for v in before.levels[position]}
        out[column] = plain.astype(frame[column].dtype) if same else plain
    return out


class TableLayout(Layout):
    """Rows of numbers and of categories side by side."""

    def is_single(self, data: Any) -> bool:
        return isinstance(data, Tensor) and data.ndim == 1

    def device(self, data: Any) -> torch.device:
        if isinstance(data, Table):
            return data.values.device
        return data.device if isinstance(data, Tensor) else torch.device("cpu")

    def shape(self, batch: Any) -> tuple[int, ...]:
        return (batch.values.shape[1], batch.codes.shape[1])

    def pick(self, batch: Any, chosen: Tensor) -> Any:
        return batch.rows(chosen)

    def put(self, batch: Any, chosen: Tensor, changed: Any) -> Any:
        # either may hold levels that the other lacks: codes must count in one list
        changed = with_levels(changed, batch.levels)
        return replace(
            changed,
            values=batch.values.index_copy(0, chosen, changed.values),
            codes=batch.codes.index_copy(0, chosen, changed.codes),
            origin=batch.origin.index_copy(0, chosen, changed.origin),
        )


TABLES = TableLayout("tabular", 1, check_table, _to_batch, _from_batch)
