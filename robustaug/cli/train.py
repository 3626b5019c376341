"""`robustaug train`: train one model by a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def train(
    config: Annotated[Path, typer.Argument(help="A recipe's YAML, such as configs/train/digits_robust.yaml.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value, such as epochs=5 optimizer.lr=0.05")] = None,
    runs: Annotated[Path, typer.Option(help="Where run folders are made.")] = Path("runs"),
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Set earlier training of this name aside and start anew.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the history as JSON.")] = False,
) -> None:
    """Train a model by a recipe; killed training continues where it stopped."""
    import json

    from robustaug.cli import outcome, progress
    from robustaug.config import load
    from robustaug.evaluate.runner import locked
    from robustaug.experiment import pick_device
    from robustaug.train.recipe import Recipe
    from robustaug.train.trainer import train as run_training

    recipe = load(config, Recipe, overrides or [])
    folder = runs / recipe.name
    if fresh:
        outcome.set_aside(folder)
    with locked(folder), progress.phases(quiet=as_json) as report_progress:
        trained = run_training(
            recipe,
            folder,
            pick_device(device),
            lambda done, total, figures: report_progress(f"train {recipe.name}", done, total, progress.glance(figures)),
        )
    if as_json:
        content = {key: getattr(trained, key) for key in ("best", "start", "history", "stopped")}
        typer.echo(json.dumps(outcome.finite({"checkpoint": str(trained.checkpoint)} | content)))
    else:
        outcome.show_training(trained)
