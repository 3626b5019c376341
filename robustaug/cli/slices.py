"""`robustaug slices`: groups of samples on which a measured model errs more than elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from robustaug.evaluate.slices import Found

_HELP = "A run's folder, or folder:model where it holds several, such as runs/quickstart:robust."


def slices(
    run: Annotated[str, typer.Argument(help=_HELP)],
    alpha: Annotated[float, typer.Option(help="The chance of any false alarm, in (0, 1).")] = 0.05,
    as_json: Annotated[bool, typer.Option("--json", help="Print the slices as JSON.")] = False,
) -> None:
    """Name the slices of clean data, by up to three metadata values, whose error rate is higher than the rest's."""
    import json

    from robustaug.evaluate.compare import open_model
    from robustaug.evaluate.slices import of_run

    records, model = open_model(run)
    found = of_run(records, model, alpha)
    if as_json:
        plain = [{"slice": one.words} | one._asdict() for one in found.slices]
        counts = {"looked_at": found.looked_at, "possible": found.possible}
        typer.echo(json.dumps({"run": run, "model": model, "alpha": alpha, "slices": plain} | counts))
        return
    if found.slices:
        _print(found)
    typer.echo(sentence(found, model, alpha))


def sentence(found: Found, model: str, alpha: float) -> str:
    """Return the outcome in words."""
    many = f"{len(found.slices)} slice{'s' * (len(found.slices) != 1)}" if found.slices else "no slice"
    return (
        f"{model}: {many} whose error rate is higher than the rest's (hypergeometric test, Holm-corrected p <= "
        f"{alpha:g} for {found.possible:,} possible slices; {found.looked_at:,} looked at)."
    )


def _print(found: Found) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(caption="error rate with its 95 % interval; each slice says what those above it do not")
    table.add_column("slice", ratio=1)
    for heading in ("samples", "error rate", "the rest's", "p"):
        table.add_column(heading, justify="right", no_wrap=True)
    for one in found.slices:
        rate = f"{one.error_rate:.1%} ({one.low:.1%} to {one.high:.1%})"
        p_value = "<0.001" if one.p_value < 0.001 else f"{one.p_value:.3f}"
        table.add_row(Text(one.words), f"{one.n:,}", rate, f"{one.rest:.1%}", p_value)
    Console().print(table)
