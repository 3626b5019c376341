"""Damaged samples, listed: never silently dropped, never fatal one by one."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from os import PathLike
from typing import NamedTuple

from robustaug import atomic


class Damaged(NamedTuple):
    """One sample that cannot be read: its index in the root source, where it is, and why."""

    index: int
    path: str
    reason: str


class Quarantine:
    """The damaged samples met so far, each once; a source shares it with its subsets."""

    def __init__(self) -> None:
        self._rows: dict[int, Damaged] = {}

    @property
    def rows(self) -> list[Damaged]:
        """What was found, by ascending index."""
        return [self._rows[index] for index in sorted(self._rows)]

    def add(self, damaged: Iterable[Damaged]) -> None:
        """Add samples; one that is there already is not listed twice."""
        self._rows.update((row.index, row) for row in damaged)

    def write_csv(self, path: str | PathLike[str]) -> None:
        """Write index, path and reason of each row, whole or not at all."""
        text = io.StringIO()
        csv.writer(text).writerows([Damaged._fields, *self.rows])
        # file names need not be valid UTF-8
        atomic.write_text(path, text.getvalue().encode("utf-8", "backslashreplace").decode("utf-8"))
