"""`robustaug run`: the main job from one YAML."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer


def run(
    config: Annotated[Path, typer.Argument(help="An experiment's YAML, such as configs/quickstart.yaml.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="key=value, such as name=second models.robust.train=mine.yaml")
    ] = None,
    against: Annotated[
        str | None, typer.Option(help="The previous version, RUN or RUN:MODEL; as against=... in the YAML.")
    ] = None,
    runs: Annotated[Path, typer.Option(help="Where run folders are made.")] = Path("runs"),
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Set an earlier run of this name aside and start anew.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures and gates as JSON.")] = False,
) -> None:
    """Train and measure models, compare them, and write a report, under torchrun with all processes.

    Killed runs continue.
    """
    from robustaug import experiment
    from robustaug.cli import outcome

    given = [*(overrides or []), *([] if against is None else [f"against={against}"])]
    plan = experiment.read_plan(config, given)
    command = shlex.join(["robustaug", "run", str(config), *given])
    outcome.carry_out(plan, runs / plan.experiment.name, command, fresh, as_json)
