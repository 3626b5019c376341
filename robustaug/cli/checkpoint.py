"""`robustaug checkpoint`: what a file of weights says of itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def checkpoint(
    file: Annotated[Path, typer.Argument(help="Such as runs/digits_robust/best/model.safetensors.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Show what a checkpoint was trained by, on which data, and how good it was; its weights are not loaded."""
    import json

    from rich.console import Console
    from rich.markup import escape

    from robustaug.models.checkpoints import read_metadata

    found = read_metadata(file)
    if as_json:
        typer.echo(json.dumps(found))
        return
    if not found:
        raise ValueError(f"{file} holds weights and no word on them: it was not written by robustaug")
    console = Console()
    for key, value in found.items():
        text = _text(value)
        console.print(f"[bold]{escape(key)}[/]{':' if chr(10) in text else ': '}{escape(text)}", highlight=False)


def _text(value: Any) -> str:
    import yaml

    if isinstance(value, dict):
        return "\n  " + yaml.safe_dump(value, sort_keys=False, allow_unicode=True).strip().replace("\n", "\n  ")
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
