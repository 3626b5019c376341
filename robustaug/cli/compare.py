"""`robustaug compare`: two measured models, paired sample by sample."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from robustaug.evaluate.compare import Comparison
    from robustaug.evaluate.compare_figures import FigureChange

_HELP = "A run's folder, or folder:model where it holds several, such as runs/quickstart:robust."


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
    """Print what differs beyond doubt; `--json` has every row."""
    from rich.console import Console
    from rich.text import Text

    from robustaug.evaluate.compare_figures import condition

    clear = [row for row in rows if row.better]
    if not clear:
        return
    table = _table(f"{len(clear)} of {len(rows)} figures differ clearly; --json lists all", a, b)
    table.title = "other figures"
    for row in clear:
        change = f"{row.difference:+.3f} ({row.low:+.3f} to {row.high:+.3f})"
        name = Text(f"{condition(row)}: {row.figure}")
        style = "green" if row.better == "b" else "red"
        table.add_row(name, f"{row.a:.3f}", f"{row.b:.3f}", Text(change, style), _p_value(row.p_holm))
    Console().print(table)


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
