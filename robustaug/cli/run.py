"""`robustaug run`: the main job from one YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def run(
    config: Annotated[Path, typer.Argument(help="An experiment's YAML, such as configs/quickstart.yaml.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="key=value, such as name=second models.robust.train=mine.yaml")
    ] = None,
    runs: Annotated[Path, typer.Option(help="Where run folders are made.")] = Path("runs"),
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Set an earlier run of this name aside and start anew.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures and gates as JSON.")] = False,
) -> None:
    """Train and measure models, compare them, and write a report; killed runs continue."""
    from robustaug import experiment, launch
    from robustaug.cli import outcome, progress

    if launch.wanted():
        raise ValueError(
            "an experiment runs in one process; under torchrun train its recipes by `robustaug train`, and give the "
            "experiment their checkpoints"
        )
    plan = experiment.read_plan(config, overrides or [])
    folder = runs / plan.experiment.name
    if fresh:
        outcome.set_aside(folder)
    command = " ".join(["robustaug run", str(config), *(overrides or [])])
    with progress.phases(quiet=as_json) as report_progress:
        result = experiment.run(plan, folder, report_progress, command)
    outcome.finish(result, as_json)
