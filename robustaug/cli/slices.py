"""`robustaug slices`: groups of samples on which a measured model errs more than elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from robustaug.evaluate.look_alikes import Found as LookAlikes
    from robustaug.evaluate.look_alikes import LookAlike
    from robustaug.evaluate.slices import Found, Slice

_HELP = "A run's folder, or folder:model where it holds several, such as runs/quickstart:robust."


def slices(
    run: Annotated[str, typer.Argument(help=_HELP)],
    alpha: Annotated[float, typer.Option(help="The chance of any false alarm, in (0, 1).")] = 0.05,
    as_json: Annotated[bool, typer.Option("--json", help="Print the slices as JSON.")] = False,
) -> None:
    """Name the slices of clean data whose error rate is higher than the rest's.

    By up to three metadata values; and groups of samples that look alike to the model itself, found on one half of the
    data when the run was measured and tested on the other.
    """
    import json

    from robustaug.evaluate.compare import open_model
    from robustaug.evaluate.look_alikes import read_look_alikes
    from robustaug.evaluate.slices import of_run

    records, model = open_model(run)
    found = of_run(records, model, alpha)
    alike = read_look_alikes(records).get(model)
    if as_json:
        plain = [{"slice": one.words} | one._asdict() for one in found.slices]
        counts = {"looked_at": found.looked_at, "possible": found.possible}
        groups = None if alike is None else [group._asdict() for group in alike.groups]
        content = {"run": run, "model": model, "alpha": alpha, "slices": plain, "look_alikes": groups}
        typer.echo(json.dumps(content | counts))
        return
    if found.slices:
        _print([(one.words, one) for one in found.slices], "each slice says what those above it do not")
    typer.echo(sentence(found, model, alpha))
    if alike is not None and alike.groups:
        _print([(one.words, one) for one in alike.groups], "on the half that no cluster had seen")
    typer.echo(alike_sentence(alike, model))


def sentence(found: Found, model: str, alpha: float) -> str:
    """Return the outcome in words."""
    many = f"{len(found.slices)} slice{'s' * (len(found.slices) != 1)}" if found.slices else "no slice"
    return (
        f"{model}: {many} whose error rate is higher than the rest's (hypergeometric test, Holm-corrected p <= "
        f"{alpha:g} for {found.possible:,} possible slices; {found.looked_at:,} looked at)."
    )


def alike_sentence(found: LookAlikes | None, model: str) -> str:
    """Return in words what was found in the model's own features."""
    if found is None:
        return f"{model}: no features on record; a run of a model that shows some looks for groups in them."
    many = f"{len(found.groups)} group{'s' * (len(found.groups) != 1)}" if found.groups else "no group"
    return (
        f"{model}: {many} of samples that look alike to it whose error rate is higher than the rest's (Holm-corrected "
        f"p <= 0.05 for {found.tested} tested)."
    )


def _print(rows: Sequence[tuple[str, Slice | LookAlike]], note: str) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(caption=f"error rate with its 95 % interval; {note}")
    table.add_column("slice", ratio=1)
    for heading in ("samples", "error rate", "the rest's", "p"):
        table.add_column(heading, justify="right", no_wrap=True)
    for words, one in rows:
        rate = f"{one.error_rate:.1%} ({one.low:.1%} to {one.high:.1%})"
        p_value = "<0.001" if one.p_value < 0.001 else f"{one.p_value:.3f}"
        table.add_row(Text(words), f"{one.n:,}", rate, f"{one.rest:.1%}", p_value)
    Console().print(table)
