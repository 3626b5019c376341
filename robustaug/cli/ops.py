"""`robustaug ops`: what is registered, one entry in full, and pictures of what an operator does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from robustaug.cli.catalogue import Row

app = typer.Typer(help="List, show and preview what is registered.", no_args_is_help=True)


@app.command("list")
def list_entries(
    kind: Annotated[
        str | None, typer.Option(help="operator, mixer, procedure, combinator, attack, source, model or score.")
    ] = None,
    modality: Annotated[str | None, typer.Option(help="Such as image.")] = None,
    tag: Annotated[str | None, typer.Option(help="Such as noise, blur, geometry or pixelwise.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything that is known, as JSON.")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print the catalogue as Markdown.")] = False,
) -> None:
    """List registered names with what they do."""
    from robustaug import registry
    from robustaug.cli import catalogue

    if as_json and as_markdown:
        raise ValueError("--json and --markdown exclude each other; give one")
    names = registry.list(kind=kind, modality=modality, tag=tag)
    rows = [catalogue.describe(registry.lookup(name)) for name in names]
    kinds = [family.kind for family in registry.FAMILIES.values()]
    rows.sort(key=lambda row: kinds.index(row["kind"]) if row["kind"] in kinds else len(kinds))  # stable: names stay
    if as_json:
        _print_json(rows)
    elif as_markdown:
        typer.echo(catalogue.markdown(rows))
    else:
        _print_list(rows)


@app.command("show")
def show(
    name: Annotated[str, typer.Argument(help="Such as image.motion_blur or attack.pgd.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Show one entry: its documentation, parameters, ranges, units and severities."""
    from robustaug import registry
    from robustaug.cli import catalogue

    row = catalogue.describe(registry.lookup(name))
    if as_json:
        _print_json(row)
    else:
        _print_entry(row)


@app.command("preview")
def preview(
    operator: Annotated[str, typer.Argument(help="A name, or with parameters: '{image.rotate: {angle_deg: 30}}'.")],
    image: Annotated[Path | None, typer.Option(help="A picture; by default a photograph of scikit-learn's.")] = None,
    out: Annotated[Path | None, typer.Option(help="The PNG to write; by default NAME.png here.")] = None,
    severities: Annotated[
        str | None, typer.Option(help="Which to show, such as 1,3,5; by default all that are declared.")
    ] = None,
    draws: Annotated[int, typer.Option(min=1, max=16, help="Columns: as many independent draws.")] = 3,
    size: Annotated[
        int | None,
        typer.Option(
            min=8, max=2048, help="Longer side in px of the picture, 224 by default; lengths in px refer to it."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The draws follow from it.")] = 0,
) -> None:
    """Draw a contact sheet of an operator over its severities: on a photograph, a series, a text or a table."""
    from robustaug.cli import preview as sheet

    typer.echo(sheet.draw(operator, image, out, severities, draws, size, seed))


@app.command("gallery")
def gallery(
    out: Annotated[Path, typer.Argument(help="The PNG to write.")],
    image: Annotated[Path | None, typer.Option(help="A picture; by default a photograph of scikit-learn's.")] = None,
    modality: Annotated[str, typer.Option(help="image, text, signal or tabular.")] = "image",
    tag: Annotated[str | None, typer.Option(help="Only what has this tag, such as weather.")] = None,
    severity: Annotated[int, typer.Option(min=1, max=5, help="Of what has severities.")] = 3,
    size: Annotated[
        int | None, typer.Option(min=8, max=1024, help="Longer side of each picture in px, 128 by default.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The draws follow from it.")] = 0,
) -> None:
    """Draw every operator on a kind of data once, on one sheet."""
    from robustaug.cli import preview as sheet

    typer.echo(sheet.draw_all(image, out, modality, tag, severity, size, seed))


def _print_json(content: Any) -> None:
    import json

    typer.echo(json.dumps(content, indent=1, ensure_ascii=False))


def _print_list(rows: list[Row]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    for kind in dict.fromkeys(row["kind"] for row in rows):
        members = [row for row in rows if row["kind"] == kind]
        table = Table(title=f"{len(members)} of kind {kind}", title_justify="left", box=None, pad_edge=False)
        table.add_column("name", no_wrap=True, style="bold")
        table.add_column("what it does", ratio=1)
        for row in members:
            table.add_row(row["name"], Text(row["summary"]))
        console.print(table)
        console.print()
    if not rows:
        console.print("nothing is registered that matches every filter")


def _print_entry(row: Row) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    facts = [row["kind"], *([row["modality"]] if row["modality"] else []), *row["tags"]]
    console.print(Text(row["name"], "bold"), Text(f"({', '.join(facts)})", "dim"))
    console.print(Text(f"\n{row['documentation']}\n"))
    drawn = [parameter for parameter in row["parameters"] if "drawn_from" in parameter]
    taken = [parameter for parameter in row["parameters"] if "drawn_from" not in parameter]
    if taken:
        table = Table("parameter", "type", "default", box=None, pad_edge=False)
        for parameter in taken:
            default = "required" if parameter["required"] else str(parameter["default"])
            table.add_row(*(Text(cell) for cell in (parameter["name"], parameter["type"], default)))
        console.print(table)
    if row["kind"] != "operator" or (taken and not drawn):
        return
    table = Table("parameter", "drawn from", "allowed", "no effect at", box=None, pad_edge=False)
    for parameter in drawn:
        cells = (parameter["name"], parameter["drawn_from"], _limits(parameter["bounds"]))
        identity = "" if parameter["no_effect_at"] is None else f"{parameter['no_effect_at']:g}"
        table.add_row(*(Text(cell) for cell in (*cells, identity)))
    table.add_row("p", "1", "0 to 1", "0")
    console.print(table)
    if row["severities"]:
        graded = [parameter for parameter in drawn if parameter["severities"]]
        table = Table("severity", "1", "2", "3", "4", "5", box=None, pad_edge=False)
        for parameter in graded:
            label = f"{parameter['name']} {parameter['unit']}".rstrip()
            table.add_row(*(Text(cell) for cell in (label, *parameter["severities_in_words"])))
        console.print()
        console.print(table)


def _limits(bounds: list[float | None]) -> str:
    low, high = bounds
    if low is None and high is None:
        return "any"
    if high is None:
        return f">= {low:g}"
    return f"<= {high:g}" if low is None else f"{low:g} to {high:g}"
