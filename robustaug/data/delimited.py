"""Text tables, .csv and .tsv, read cell by cell as they stand; what is wrong in one is named by its row and column."""

from __future__ import annotations

import codecs
from pathlib import Path
from typing import Any

_TABS = (".tsv", ".tab")
_MARKS = {codecs.BOM_UTF16_LE: "UTF-16", codecs.BOM_UTF16_BE: "UTF-16"}
_SHOWN = 60


def place(row: int, column: str, what: str = "column") -> str:
    """Return how a cell is named in every message: rows count from 1, without the header.

    >>> place(0, "label")
    "row 1: column 'label'"
    """
    return f"row {row + 1}: {what} {column!r}"


def read_delimited(table: Path) -> Any:
    """Return the table with every column as text; a .tsv is cut at tabulators, and its quotes are characters.

    Raises:
        ValueError: a row of another length than the header, a cell that is no UTF-8, or no table at all.
    """
    import pyarrow as pa
    import pyarrow.csv as pa_csv

    wrong: list[Any] = []

    def refuse(row: Any) -> str:
        wrong.append(row)
        return "error"

    tabs = table.suffix.lower() in _TABS
    settings = {"delimiter": "\t", "quote_char": False} if tabs else {"newlines_in_values": True}
    form = pa_csv.ParseOptions(**settings, invalid_row_handler=refuse)
    in_turn = pa_csv.ReadOptions(use_threads=False)  # only so are rows numbered
    names: list[str] = []
    try:
        with pa_csv.open_csv(table, parse_options=pa_csv.ParseOptions(**settings, invalid_row_handler=_skip)) as reader:
            names = reader.schema.names
        as_text = pa_csv.ConvertOptions(column_types={name: pa.string() for name in names})
        return pa_csv.read_csv(table, read_options=in_turn, parse_options=form, convert_options=as_text)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        if wrong:
            raise ValueError(f"{table}: {_length(wrong[0], names)}") from None
        if said := _encoding(table, form, names):
            raise ValueError(f"{table}: {said}; store the file as UTF-8") from None
        raise ValueError(f"{table}: not a readable table: {error}") from None


def _skip(row: Any) -> str:
    return "skip"


def _length(row: Any, names: list[str]) -> str:
    """Say which column a row of another length lacks, or after which it goes on."""
    text = row.text if len(row.text) <= _SHOWN else f"{row.text[:_SHOWN]}..."
    at = row.number - 2  # rows are numbered from 1, the header among them
    if row.actual_columns < row.expected_columns:
        where, fault = place(at, names[row.actual_columns]), "has no cell"
    else:
        where, fault = place(at, names[-1]), "is the last, and more cells follow; quote one that holds the delimiter"
    return f"{where} {fault}: {row.actual_columns} cells for {row.expected_columns} columns, {text!r}"


def _encoding(table: Path, form: Any, names: list[str]) -> str:
    """Say which cell is no UTF-8; empty where that is not what is wrong."""
    import pyarrow as pa
    import pyarrow.csv as pa_csv

    with table.open("rb") as file:
        head = file.read(2)
        rest = file.readline()
    if head in _MARKS:
        return f"is {_MARKS[head]} text"
    if not names:
        return "" if _is_utf8(head + rest) else "the header is no UTF-8"
    raw = pa_csv.ConvertOptions(column_types={name: pa.binary() for name in names}, check_utf8=False)
    try:
        found = pa_csv.read_csv(table, parse_options=form, convert_options=raw)
    except (pa.ArrowException, OSError):
        return ""
    wrong = [(row, name, cell) for name in names for row, cell in _undecoded(found[name])]
    if not wrong:
        return ""
    row, name, cell = min(wrong, key=lambda one: one[0])
    return f"{place(row, name)} is no UTF-8: {cell[:_SHOWN]!r}"


def _undecoded(cells: Any) -> list[tuple[int, bytes]]:
    """Return the first cell that is no UTF-8, with its row; nothing where all are."""
    at = next((at for at, cell in enumerate(cells) if not _is_utf8(cell.as_py() or b"")), None)
    return [] if at is None else [(at, cells[at].as_py())]


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True
