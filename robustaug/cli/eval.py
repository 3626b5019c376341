"""`robustaug eval`: measure one model on a suite."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer


def evaluate(
    suite: Annotated[Path, typer.Argument(help="A suite's YAML, such as configs/suites/digits.yaml.")],
    data: Annotated[str, typer.Option(help="Test data: data.digits, or '{data.imagefolder: {path: test.zip}}'.")],
    checkpoint: Annotated[
        str | None, typer.Option(help="Weights: .safetensors, or .pt read with weights_only.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="A registered model; a robustaug checkpoint knows its own.")] = None,
    calibrate: Annotated[
        str | None, typer.Option(help="Fit a scaling to --validation first: temperature, vector, platt or isotonic.")
    ] = None,
    validation: Annotated[str | None, typer.Option(help="Held-out data for temperature scaling.")] = None,
    train: Annotated[str | None, typer.Option(help="Training data for scores that learn from it.")] = None,
    gate: Annotated[
        list[str] | None, typer.Option(help="A limit, such as min_robust_accuracy=0.4; repeatable.")
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(help="The previous version, RUN or RUN:MODEL, for gates such as max_drop_clean_accuracy=0.01."),
    ] = None,
    name: Annotated[str, typer.Option(help="Names the run folder.")] = "eval",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    runs: Annotated[Path, typer.Option(help="Where run folders are made.")] = Path("runs"),
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Set an earlier run of this name aside and start anew.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures and gates as JSON.")] = False,
) -> None:
    """Measure a model on a suite, check its gates, and write a report, under torchrun with all processes.

    Killed runs continue.
    """
    from robustaug import experiment
    from robustaug.cli import outcome
    from robustaug.config import parse_yaml, validate

    specs = {"test": data, "validation": validation, "train": train}
    content = {
        "name": name,
        "data": {
            key: parse_yaml(text, "--data" if key == "test" else f"--{key}")
            for key, text in specs.items()
            if text is not None
        },
        "models": {
            "model": {
                key: value
                for key, value in {
                    "model": None if model is None else parse_yaml(model, "--model"),
                    "checkpoint": checkpoint,
                    "calibrate": calibrate,
                }.items()
                if value is not None
            }
        },
        "suite": str(suite.resolve()),
        "against": against,
        "gates": {"model": {}},
        "device": device,
    }
    overrides = [f"gates.model.{limit}" for limit in gate or []]
    plan = experiment.resolve(validate(content, experiment.Experiment, "options", overrides), Path())
    options = {"data": data, "checkpoint": checkpoint, "model": model, "calibrate": calibrate}
    options |= {"validation": validation, "train": train, "against": against}
    given = [word for key, text in options.items() if text is not None for word in (f"--{key}", text)]
    given += [word for limit in gate or [] for word in ("--gate", limit)]
    outcome.carry_out(plan, runs / name, shlex.join(["robustaug", "eval", str(suite), *given]), fresh, as_json)
