"""`robustaug compare`: two measured models, paired sample by sample."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from robustaug.evaluate.compare import Comparison
    from robustaug.evaluate.compare_figures import FigureChange

_HELP = "A run's folder, or folder:model where it holds several, such as runs/quickstart:robust."

_SHOWN = 4
"""Rows a figure in the terminal: fifteen corruptions at five severities would fill it."""


def compare(
    a: Annotated[str, typer.Argument(help=_HELP)],
    b: Annotated[str, typer.Argument(help=_HELP)],
    as_json: Annotated[bool, typer.Option("--json", help="Print the comparisons as JSON.")] = False,
) -> None:
    """Compare model B with model A on every condition that both were measured on."""
    import json

    from robustaug.evaluate.changes import Side
    from robustaug.evaluate.compare import open_model
    from robustaug.evaluate.compare_figures import compare_all, document, sentence

    first, second = Side(*open_model(a)), Side(*open_model(b))
    compared = compare_all(first, second)
    names = (first.model, second.model) if first.model != second.model else (a, b)
    words = sentence(compared, *names)
    if as_json:
        typer.echo(json.dumps(document(a, b, compared, words)))
        return
    _print_accuracies(compared.cells, *names)
    _print_figures(compared.figures, *names)
    typer.echo(words)


def _print_accuracies(rows: list[Comparison], a: str, b: str) -> None:
    from rich.console import Console
    from rich.text import Text

    from robustaug.evaluate.compare_figures import LEVEL, condition

    table = _table("change: B - A in points with its 95 % interval; p corrected for all rows (Holm)", a, b)
    for row in rows:
        style = "" if not row.p_holm < LEVEL else "green" if row.difference > 0 else "red"
        change = f"{100 * row.difference:+.1f} ({100 * row.low:+.1f} to {100 * row.high:+.1f})"
        shares = f"{row.accuracy_a:.1%}", f"{row.accuracy_b:.1%}"
        table.add_row(Text(condition(row)), *shares, Text(change, style), _p_value(row.p_holm))
    counts = {row.n for row in rows}
    table.title = f"{min(counts):,} paired samples" + (f" to {max(counts):,}" if len(counts) > 1 else "")
    Console().print(table)


def _print_figures(rows: list[FigureChange], a: str, b: str) -> None:
    """Print the greatest clear changes of each figure; `--json` has every row."""
    from rich.console import Console
    from rich.text import Text

    from robustaug.evaluate.compare_figures import condition

    clear = [row for row in rows if row.better]
    if not clear:
        return
    caption = f"the greatest of {len(clear)} clear changes among {len(rows)}; --json lists all"
    table = _table(caption, a, b)
    table.title = "other figures"
    by_figure = (sorted((r for r in clear if r.figure == f), key=_size) for f in dict.fromkeys(r.figure for r in clear))
    for row in (row for of in by_figure for row in of[:_SHOWN]):
        change = f"{row.difference:+.3f} ({row.low:+.3f} to {row.high:+.3f})"
        name = Text(f"{condition(row)}: {row.figure}")
        style = "green" if row.better == "b" else "red"
        table.add_row(name, f"{row.a:.3f}", f"{row.b:.3f}", Text(change, style), _p_value(row.p_holm))
    Console().print(table)


def _size(row: FigureChange) -> float:
    return -abs(row.difference)


def _table(caption: str, a: str, b: str) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(caption=caption)
    table.add_column("condition", ratio=1)
    table.add_column(Text(f"A: {a}"), justify="right", overflow="fold", max_width=14)
    table.add_column(Text(f"B: {b}"), justify="right", overflow="fold", max_width=14)
    table.add_column("change", justify="right", no_wrap=True)
    table.add_column("p", justify="right", no_wrap=True)
    return table


def _p_value(p: float) -> str:
    return "<0.001" if p < 0.001 else f"{p:.3f}"
