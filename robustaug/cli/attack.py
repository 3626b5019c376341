"""`robustaug attack`: run one attack on one model."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from robustaug.evaluate.assault import Assault


def attack(
    spec: Annotated[str, typer.Argument(metavar="ATTACK", help="attack.pgd, or '{attack.pgd: {steps: 50}}'.")],
    data: Annotated[
        str, typer.Option(help="What to attack on: data.digits, or '{data.imagefolder: {path: test.zip}}'.")
    ],
    checkpoint: Annotated[
        str | None, typer.Option(help="Weights: .safetensors, or .pt read with weights_only.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="A registered model; a robustaug checkpoint knows its own.")] = None,
    eps: Annotated[str | None, typer.Option(help="The budget, such as 8/255; the attack's own when left out.")] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="At most so many samples, a random choice by the seed.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of all random numbers.")] = 0,
    batch_size: Annotated[int, typer.Option(min=1, help="Samples a pass of the model.")] = 256,
    precision: Annotated[str, typer.Option(help="full, bf16 or fp16: of the search, not of what it finds.")] = "full",
    budget: Annotated[int | None, typer.Option(min=1, help="At most so many forward passes a sample.")] = None,
    checks: Annotated[bool, typer.Option("--checks/--no-checks", help="Look for masked gradients as well.")] = True,
    surrogate: Annotated[
        str | None, typer.Option(help="Weights of another model: do points that mislead it break this one?")
    ] = None,
    surrogate_model: Annotated[
        str | None, typer.Option(help="What --surrogate holds; a robustaug checkpoint knows its own.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Where the witnesses go, for `robustaug verify`: .safetensors.")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(help="A file that is kept while the attack runs; given again, it goes on from there.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Attack a model and say what its accuracy under attack is worth; under torchrun, with all processes."""
    from robustaug import launch
    from robustaug.attacks import witness
    from robustaug.attacks.execution import Execution
    from robustaug.cli import progress
    from robustaug.cli.subjects import model_of
    from robustaug.config import parse_yaml
    from robustaug.data import open_source
    from robustaug.evaluate.assault import assault
    from robustaug.evaluate.kinds import check_model
    from robustaug.evaluate.suite import make_attack
    from robustaug.experiment import pick_device

    if out is not None and out.suffix != ".safetensors":
        raise ValueError(f"--out must end in .safetensors, got {out.name!r}")
    made = make_attack(parse_yaml(spec, "ATTACK"), None if eps is None else parse_yaml(eps, "--eps"))
    where = pick_device(launch.local_device(device))
    network, source = model_of(model, checkpoint, where), open_source(parse_yaml(data, "--data"))
    check_model(network, source)
    named = surrogate is not None or surrogate_model is not None
    other = model_of(surrogate_model, surrogate, where) if named else None
    with launch.joined(where) as rank, progress.attacking(quiet=as_json or rank > 0) as show:
        execution = Execution(
            batch_size=batch_size, precision=precision, budget=budget, progress=show, checkpoint=resume
        )
        found = assault(made, network, source, where, limit, seed, execution, checks, other)
    if rank > 0:
        return
    if out is not None:
        witness.write(out, found.witnesses)
    if as_json:
        _print_json(found, made.spec(), out)
    else:
        _print(found, repr(made), source.name, out)


def _breakdown(found: Assault) -> Table:
    """Return what each attack of an ensemble broke, and the accuracy that it and those before it leave."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table("attack", "broke", "accuracy left", box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    standing = round(found.clean.estimate * found.tried)
    table.add_row("[dim]none[/]", "", f"{standing / found.tried:.1%}")
    for name, count in found.broke.items():
        standing -= count
        table.add_row(escape(name), f"{count:,}" if count else "[dim]0[/]", f"{standing / found.tried:.1%}")
    return table


def _print_json(found: Assault, spec: dict[str, Any], out: Path | None) -> None:
    import json

    from robustaug.cli.outcome import finite

    content = {"attack": spec, "witnesses": None if out is None else str(out)}
    content |= {key: value for key, value in found._asdict().items() if key not in ("witnesses", "findings")}
    content |= {key: value._asdict() for key, value in (("clean", found.clean), ("robust", found.robust))}
    content["findings"] = None if found.findings is None else [finding._asdict() for finding in found.findings]
    typer.echo(json.dumps(finite(content)))


def _print(found: Assault, attack: str, data: str, out: Path | None) -> None:
    from rich.console import Console
    from rich.markup import escape

    console = Console(highlight=False, soft_wrap=True)
    low, high = found.robust.low, found.robust.high
    some = "" if found.tried == found.samples else f"{found.tried:,} of "
    console.print(f"{escape(attack)} on {some}{found.samples:,} samples of {escape(data)}")
    if some:
        console.print("it stopped there, as its tolerance allows; all figures are about the samples it tried")
    if len(found.broke) > 1:
        console.print(_breakdown(found))
    console.print(
        f"accuracy {found.clean.estimate:.1%} -> [bold]{found.robust.estimate:.1%}[/] under attack "
        f"(95 % interval {low:.1%} to {high:.1%})"
    )
    if math.isfinite(found.distance):
        console.print(f"median distance of what broke: {found.distance:.4g}")
    console.print(
        f"{found.forwards:,.1f} forward and {found.backwards:,.1f} backward passes a sample, {found.seconds:.1f} s"
    )
    if found.fragile:
        console.print(f"[yellow]note[/] {found.fragile:,} successes did not hold when checked again; they do not count")
    if found.silent:
        console.print(
            f"[yellow]note[/] {found.silent:,} samples stood without ever having a gradient: no evidence of robustness"
        )
    for finding in found.findings or []:
        console.print(f"[yellow]masking[/] the model: {escape(finding.sentence)}")
    if found.findings == []:
        console.print("no sign of masked gradients on a few samples")
    if found.findings is None:
        console.print("masked gradients were not looked for (--no-checks)")
    if out is not None:
        console.print(f"{len(found.witnesses):,} witnesses: {escape(str(out))}")
