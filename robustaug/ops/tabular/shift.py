"""Shift by re-sampling: the same kind of rows, another mix of them. Rows are drawn with replacement, as many as came.

Whole rows are drawn, so what a row's features say about its label stays. `weights` gives the chances themselves, for
whoever would rather weigh than draw.

Legend: B rows, K classes.
"""

from __future__ import annotations

from typing import Any

import torch
from scipy import special
from torch import Tensor

from robustaug.ops.operator import Params
from robustaug.ops.space import fixed, log_uniform, noise_key, uniform
from robustaug.ops.tabular.operator import WholeRows, measure, standardised
from robustaug.ops.tabular.table import MISSING, Table
from robustaug.registry import register
from robustaug.rng import Keys, uniform_field


class Resample(WholeRows):
    """Base of shifts: a subclass writes `chances`.

    Args:
        column: what shifts: the feature, or the label.
    """

    def __init__(self, column: Any = None, **params: Any) -> None:
        super().__init__(**params)
        self.column = column

    def sample(self, keys: Keys) -> Params:
        """Draw "place" (B,), where in the sum of chances each row is drawn; see `Operator.sample`."""
        return super().sample(keys) | {"place": keys.fold("place").uniform()[:, 0]}

    def chances(self, table: Table, **params: Tensor) -> Tensor:
        """Return (B,) float64 >= 0, how often each row is drawn, up to a factor."""
        raise NotImplementedError(f"{type(self).__name__} must define chances(table, **params)")

    def weights(self, table: Any, seed: int = 0, epoch: int = 0) -> Tensor:
        """Return each row's weight, (B,) float64 with mean 1, in place of drawing rows."""
        batch, _ = self.layout.to_batch(table)
        params = self.sample(Keys.of(seed, len(batch), epoch))
        chance = self.chances(batch, **{key: value for key, value in params.items() if key not in ("place", "active")})
        return chance / chance.mean()

    def formula(self, table: Table, place: Tensor, **params: Tensor) -> Table:
        total = self.chances(table, **params).cumsum(0)
        drawn = torch.searchsorted(total, place.to(torch.float64) * total[-1], right=True)
        return table.rows(drawn.clamp(max=len(table) - 1))

    def spec(self) -> dict[str, Any]:
        [(name, params)] = super().spec().items()
        return {name: params if self.column is None else {"column": self.column, **params}}

    def classes(self, table: Table) -> Tensor:
        """Return (B,) int64, the label column's classes from 0 on; the last column when none is named.

        Raises:
            ValueError: no such column, or missing labels.
        """
        names = (*table.numbers, *table.categories)
        column = names[-1] if self.column is None else self.column
        if column not in names:
            raise ValueError(f"{self.name}: the table has no column {column!r}; it has {list(names)}")
        if column in table.categories:
            label = table.codes[:, table.categories.index(column)]
            gone = label == MISSING
        else:
            label = table.values[:, table.numbers.index(column)]
            gone = label.isnan()
        if bool(gone.any()):
            raise ValueError(f"{self.name}: {int(gone.sum())} rows of label {column!r} are missing; drop them first")
        return label.unique(return_inverse=True)[1]


@register("tabular.covariate_shift", tags={"shift", "batchwise"})
class CovariateShift(Resample):
    """Draw rows more often where one feature is high: chances e^(strength z), z in standard deviations.

    p(x) changes, p(y | x) stays; a normal feature's mean moves by `strength` standard deviations. Source: exponential
    tilting, as in Shimodaira 2000. A missing value counts as the mean.

    Args:
        column: the number column, the first one when left out.

    Raises:
        ValueError: no such number column.
    """

    strength = uniform(
        0.3, 1.0, unit="standard deviations", identity=0.0, severity=(0.25, 0.5, 0.75, 1.0, 1.5), bounds=(-20, 20)
    )

    def chances(self, table: Table, strength: Tensor) -> Tensor:
        column = table.numbers[0] if self.column is None and table.numbers else self.column
        if column not in table.numbers:
            raise ValueError(f"{self.name}: {column!r} is no number column; there are {list(table.numbers)}")
        z = standardised(table.values.to(torch.float64), measure(table))[:, table.numbers.index(column)]
        return torch.exp(strength.to(torch.float64) * z)


@register("tabular.label_shift", tags={"shift", "batchwise"})
class LabelShift(Resample):
    """Make one class commoner: its share moves `strength` of the way to 1, the others keep their proportions.

    p(y) changes, p(x | y) stays (Lipton, Wang & Smola 2018, arXiv 1802.03916, "tweak-one shift").

    Args:
        column: the label's column, the last one when left out (numbers before categories).

    Raises:
        ValueError: no such column, or missing labels.
    """

    strength = uniform(0.1, 0.5, unit="of the way", identity=0.0, bounds=(0, 1), severity=(0.1, 0.2, 0.35, 0.5, 0.7))
    target = fixed(0.0, bounds=(0, None), unit="class, in sorted order")

    def chances(self, table: Table, strength: Tensor, target: Tensor) -> Tensor:
        label = self.classes(table)
        here = (label == target.long()).to(torch.float64)
        share = here.mean()
        if not 0 < share < 1:
            return torch.ones_like(here)  # there is no other class to take from
        wanted = share + strength.to(torch.float64) * (1 - share)
        return torch.where(here > 0, wanted / share, (1 - wanted) / (1 - share))


@register("tabular.prior_shift", tags={"shift", "batchwise"})
class PriorShift(Resample):
    """Draw new class priors from a symmetric Dirichlet of `alpha`, one draw a batch, and rows to match.

    Source: Lipton, Wang & Smola 2018, arXiv 1802.03916, "Dirichlet shift"; a smaller alpha shifts more.

    Args:
        column: the label's column, the last one when left out (numbers before categories).

    Raises:
        ValueError: no such column, or missing labels.
    """

    alpha = log_uniform(0.5, 10, bounds=(0.01, 1e6), severity=(100, 10, 3, 1, 0.3))
    priors = noise_key()

    def sample(self, keys: Keys) -> Params:
        # one draw for all rows: the priors are the table's
        shared = Keys(keys.key, torch.zeros_like(keys.index))
        return super().sample(keys) | {key: self.spaces[key].sample(shared.fold(key)) for key in ("alpha", "priors")}

    def chances(self, table: Table, alpha: Tensor, priors: Tensor) -> Tensor:
        label = self.classes(table)
        counts = torch.bincount(label).to(torch.float64)
        u = uniform_field(priors[:1], (len(counts),))[0].to(torch.float64) + 2.0**-25
        drawn = torch.from_numpy(special.gammaincinv(float(alpha[0]), u.cpu().numpy())).to(label.device)
        return (drawn.clamp(min=1e-300) / counts)[label]
