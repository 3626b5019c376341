"""Cues that should not matter: what to put on samples, or which cohorts differ in it already.

Legend: N samples.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from pydantic import field_validator, model_validator
from torch import Tensor

from robustaug.config import Strict
from robustaug.data.source import Source
from robustaug.pipeline import Pipeline, build
from robustaug.registry import did_you_mean

Operators = str | dict[str, dict[str, Any] | None]


class Cue(Strict):
    """One cue, such as a watermark or a background, and the samples with and without it.

    Either an operator puts it on every sample, which is compared with itself as it was; or, where the data hold both
    kinds already, a metadata column tells them apart and, class by class, cohorts are compared. Both give the gap,
    accuracy without less accuracy with the cue: what a model loses to something that has nothing to do with the task.

    Attributes:
        operator: registered operators that put it there, one or a list in turn; give them fixed parameters to put the
            same cue on all, as ranges are drawn once a sample.
        column: a metadata column of the test data, instead of an operator.
        present, absent: its values with and without the cue.
        towards: the class that goes with the cue; then it is measured, too, how many more samples of other classes are
            predicted to be of it.
        only: samples to look at, by metadata column (class among them), such as `{class: ["3", "8"]}`.
    """

    operator: Operators | list[Operators] | None = None
    column: str | None = None
    present: str | None = None
    absent: str | None = None
    towards: str | None = None
    only: dict[str, list[str]] = {}

    @field_validator("operator")
    @classmethod
    def _buildable(cls, operator: Any) -> Any:
        if operator is not None:
            pipeline_of(operator)
        return operator

    @field_validator("present", "absent", "towards", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value  # class 8 of digits

    @field_validator("only", mode="before")
    @classmethod
    def _as_texts(cls, only: Any) -> Any:
        if not isinstance(only, dict):
            return only
        return {key: [str(v) for v in (value if isinstance(value, list) else [value])] for key, value in only.items()}

    @model_validator(mode="after")
    def _one_way(self) -> Cue:
        cohorts = (self.column, self.present, self.absent)
        if (self.operator is None) != all(cohorts) or (self.operator is not None and any(cohorts)):
            raise ValueError(
                "give either operator, which puts the cue on samples, or all of column, present and absent, which tell "
                "cohorts apart"
            )
        if self.column and self.present == self.absent:
            raise ValueError(f"present and absent must be two values of {self.column!r}, got {self.present!r} twice")
        return self


def pipeline_of(operator: Any) -> Pipeline:
    """Make what puts the cue on samples; see `pipeline.build`."""
    return build(operator if isinstance(operator, list) else [operator], "operator")


def chosen(cue: Cue, source: Source) -> Tensor:
    """Return (N,) int64 ascending, the positions in the source of the samples that a cue is put on.

    Raises:
        ValueError: as `check_cue`.
    """
    kept = np.ones(len(source), dtype=bool)
    for column, values in cue.only.items():
        kept &= np.isin(_column(source, column), values)
    if not kept.any():
        raise ValueError(f"cue: no sample of {source.name} is among only: {cue.only}")
    return torch.from_numpy(np.flatnonzero(kept))


def check_cue(cue: Cue, source: Source) -> None:
    """Refuse a class, column or value that the source lacks, and an operator for another kind of data.

    Raises:
        ValueError: names it and what there is.
    """
    if cue.towards is not None and cue.towards not in source.classes:
        raise ValueError(f"cue: no class {cue.towards!r}{did_you_mean(cue.towards, source.classes)}")
    asked = {column: [*values] for column, values in cue.only.items()}
    if cue.column is not None:
        asked.setdefault(cue.column, []).extend([str(cue.present), str(cue.absent)])
    for column, values in asked.items():
        known = sorted(set(_column(source, column)))
        for value in values:
            if value not in known:
                raise ValueError(
                    f"cue: no sample has {column} = {value!r}{did_you_mean(value, known)}; there are {known[:8]}"
                )
    chosen(cue, source)
    if cue.operator is not None and (kind := pipeline_of(cue.operator).layout.name) != source.layout.name:
        raise ValueError(
            f"cue: its operator is for data of kind {kind!r}, {source.name} holds {source.layout.name!r}; leave it out"
        )


def _column(source: Source, column: str) -> np.ndarray:
    if column not in source.cohorts:
        raise ValueError(
            f"cue: {source.name} has no metadata column {column!r}{did_you_mean(column, source.cohorts)}; it has "
            f"{[*source.cohorts]}"
        )
    return source.cohorts[column]
