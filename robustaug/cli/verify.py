"""`robustaug verify`: check again what somebody says breaks a model."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from robustaug.attacks.witness import Checked, Witnesses


def verify(
    file: Annotated[Path, typer.Argument(help="Witnesses, as `robustaug attack --out` writes them.")],
    checkpoint: Annotated[
        str | None, typer.Option(help="Weights: .safetensors, or .pt read with weights_only.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="A registered model; a robustaug checkpoint knows its own.")] = None,
    data: Annotated[
        str | None, typer.Option(help="The data they were made from; without it, the clean samples are believed.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Check every witness of a file again, without running an attack; exit with 1 if one does not hold."""
    from robustaug.attacks import witness
    from robustaug.cli.subjects import model_of
    from robustaug.config import parse_yaml
    from robustaug.data import open_source
    from robustaug.experiment import pick_device

    witnesses = witness.read(file)
    network = model_of(model, checkpoint, pick_device(device))
    source = None if data is None else open_source(parse_yaml(data, "--data"))
    checked = witness.check(witnesses, network, source)
    if as_json:
        _print_json(witnesses, checked)
    else:
        _print(witnesses, checked)
    if not checked.holds.all():
        raise typer.Exit(1)


def _print_json(witnesses: Witnesses, checked: Checked) -> None:
    import json

    content = {
        "witnesses": len(witnesses),
        "hold": int(checked.holds.sum()),
        "faults": {reason: int(rows.sum()) for reason, rows in checked.faults.items()},
        "wrong_before": checked.wrong_before,
        "notes": checked.notes,
        "claim": witnesses.claim._asdict(),
    }
    typer.echo(json.dumps(content))


def _print(witnesses: Witnesses, checked: Checked) -> None:
    import json

    from rich.console import Console
    from rich.markup import escape

    console = Console(highlight=False, soft_wrap=True)
    claim, total, hold = witnesses.claim, len(witnesses), int(checked.holds.sum())
    # as JSON: somebody else's text, which must not steer the terminal
    console.print(f"claim: {total:,} of {claim.attacked:,} samples broken by {escape(json.dumps(claim.attack))}")
    if total:
        low, high = float(witnesses.low.min()), float(witnesses.high.max())
        box = f"values in [{low:.4g}, {high:.4g}]"
        most, own = float(witnesses.eps.max()), " but the attack's own parameters" if witnesses.params else ""
        limit = f"eps at most {most:.4g}" if math.isfinite(most) else f"no limit{own}"
        console.print(escape(f"threat: {claim.norm}, {limit}, {box}"))
    colour = "green" if hold == total else "bold red"
    console.print(f"[{colour}]{hold:,} of {total:,} witnesses hold[/]", end="")
    console.print(f"; the model errs on {checked.wrong_before:,} of them before anything is changed")
    for reason, rows in checked.faults.items():
        console.print(f"  {int(rows.sum()):,}: {reason}")
    for note in checked.notes:
        console.print(f"[yellow]note[/] {note}")
