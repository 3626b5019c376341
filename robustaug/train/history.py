"""Figures of each epoch as a table on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from robustaug import atomic
from robustaug.train.validation import Figures


def write_history(path: Path, history: Sequence[Figures]) -> None:
    """Write one row an epoch as Parquet, whole or not at all; figures that an epoch lacks are null."""
    import pyarrow as pa
    from pyarrow import parquet

    columns = list(dict.fromkeys(key for figures in history for key in figures))
    table = pa.table({key: [figures.get(key) for figures in history] for key in columns})
    with atomic.replacing(path) as aside:
        parquet.write_table(table, aside)
