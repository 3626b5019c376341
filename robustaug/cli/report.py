"""`robustaug report`: write a run's page again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(folder: Annotated[Path, typer.Argument(help="A run's folder, such as runs/quickstart.")]) -> None:
    """Write report.html anew from a run's records and print its path; nothing is measured."""
    from robustaug.report import write

    typer.echo(write(folder))
