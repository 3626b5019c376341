"""`robustaug train`: train one model by a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def train(
    config: Annotated[Path, typer.Argument(help="A recipe's YAML, such as configs/train/digits_robust.yaml.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value, such as epochs=5 optimizer.lr=0.05")] = None,
    suite: Annotated[
        Path | None, typer.Option(help="Measure the model on this suite afterwards, and what it started from.")
    ] = None,
    test: Annotated[
        str | None, typer.Option(help="The data for that, as YAML: '{data.digits: {split: test}}'.")
    ] = None,
    runs: Annotated[Path, typer.Option(help="Where run folders are made.")] = Path("runs"),
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Set earlier training of this name aside and start anew.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the history and figures as JSON.")] = False,
) -> None:
    """Train a model by a recipe, under torchrun with all processes; killed training continues where it stopped.

    With --suite and --test the model is measured afterwards, with the report of `robustaug run`: before against after
    where the recipe names a checkpoint to start from.
    """
    import contextlib
    import json

    from robustaug import experiment, launch
    from robustaug.cli import before_after, epochs, outcome, progress
    from robustaug.config import load
    from robustaug.evaluate.runner import locked
    from robustaug.report import write
    from robustaug.train.recipe import Recipe
    from robustaug.train.trainer import train as run_training

    place = experiment.pick_device(launch.local_device(device))
    with launch.joined(place) as rank, contextlib.ExitStack() as held:
        recipe = load(config, Recipe, overrides or [])
        if (suite is None) != (test is None):
            raise ValueError(
                "the evaluation after training needs both --suite and --test; give the other one, or neither"
            )
        plan = (
            before_after.plan(recipe, config, suite, test, device) if suite is not None and test is not None else None
        )
        folder = runs / recipe.name
        if rank == 0:
            if fresh and not launch.restarted():  # what a restart finds is its own
                outcome.set_aside(folder)
            held.enter_context(locked(folder))
        launch.wait()  # until the folder is there
        watch = held.enter_context(epochs.watching(recipe.name, recipe.epochs, quiet=as_json or rank > 0))
        trained = run_training(recipe, folder, place, watch)
        held.pop_all().close()  # the bars and the folder: the evaluation has its own
        content = {key: getattr(trained, key) for key in ("best", "start", "history", "stopped")}
        content = {"checkpoint": str(trained.checkpoint)} | content
        if rank == 0 and not as_json:
            outcome.show_training(trained)
        measured = None
        if plan is not None and suite is not None:
            command = " ".join(
                ["robustaug train", str(config), *(overrides or []), "--suite", str(suite), f"--test '{test}'"]
            )
            with progress.phases(quiet=as_json or rank > 0) as report_progress:
                measured = experiment.run(
                    plan, folder / "evaluation" / suite.stem, report_progress, command, {"after": trained}
                )
    if rank > 0:
        return
    if measured is not None:
        page = write(measured.folder)
        content |= {"evaluation": {"folder": str(measured.folder), "report": str(page), "figures": measured.figures}}
        if not as_json:
            outcome.show_measured(measured, page)
    if as_json:
        typer.echo(json.dumps(outcome.finite(content)))
