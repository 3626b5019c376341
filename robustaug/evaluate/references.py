"""Reference models: pairs of clean and shifted accuracy, from a table or from the run itself."""

from __future__ import annotations

import csv
import math
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from pydantic import model_validator

from robustaug.config import Strict
from robustaug.registry import did_you_mean

CLEAN = "clean_accuracy"


class References(Strict):
    """The models that a model's accuracy under shift is held against.

    Attributes:
        table: path of a CSV, one model a row: `model`, `clean_accuracy`, and accuracies under shift by the name of
            their figure, such as `corruption_accuracy` or `gaussian_noise`; shares in [0, 1], empty where unknown.
        models: whether the other models of the run count, too.
    """

    table: str | None = None
    models: bool = True

    @model_validator(mode="after")
    def _some(self) -> References:
        if self.table is None and not self.models:
            raise ValueError("give a table, or leave models as it is: there is nothing to hold a model against")
        return self


class Reference(NamedTuple):
    """One reference model: its name, and accuracies by the name of their figure."""

    name: str
    figures: dict[str, float]


def read_table(path: str | Path, known: Collection[str]) -> list[Reference]:
    """Read a table of reference models.

    Args:
        known: names of figures that a column may hold, besides `clean_accuracy`.

    Raises:
        FileNotFoundError: there is none.
        ValueError: a column that is missing or unknown, or a value that is no share, by row and column.
    """
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            rows = [*csv.reader(file)]
    except FileNotFoundError:
        raise FileNotFoundError(f"effective_robustness: there is no table {path}") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is no readable CSV: {error}") from None
    header = [name.strip() for name in (rows[0] if rows else [])]
    _check_header(path, header, known)
    out: list[Reference] = []
    for number, row in enumerate(rows[1:], start=2):
        if not any(text.strip() for text in row):
            continue
        if len(row) != len(header):
            raise ValueError(f"{path}, row {number}: {len(row)} columns, the header has {len(header)}")
        cells = dict(zip(header, (text.strip() for text in row), strict=True))
        name = cells.pop("model")
        figures = {key: _share(path, number, key, text) for key, text in cells.items() if text}
        if CLEAN not in figures:
            raise ValueError(f"{path}, row {number}: {CLEAN} is missing")
        if name in [one.name for one in out]:
            raise ValueError(f"{path}, row {number}: model {name!r} is given twice")
        out.append(Reference(name, figures))
    return out


def _check_header(path: str | Path, header: list[str], known: Collection[str]) -> None:
    for name in ("model", CLEAN):
        if name not in header:
            raise ValueError(f"{path}: the first row must name the columns, among them {name!r}; got {header}")
    shifted = [name for name in header if name not in ("model", CLEAN)]
    if not shifted:
        raise ValueError(f"{path}: no column of accuracies under shift; known are {', '.join(sorted(known))}")
    for name in shifted:
        if name not in known or shifted.count(name) > 1:
            why = "is given twice" if name in known else f"is no accuracy of this suite{did_you_mean(name, known)}"
            raise ValueError(f"{path}: column {name!r} {why}")


def _share(path: str | Path, row: int, column: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        hint = f"; write {value / 100:g} for {value:g} %" if 1 < value <= 100 else ""
        raise ValueError(f"{path}, row {row}, column {column}: must be a share in [0, 1], got {text!r}{hint}")
    return value
