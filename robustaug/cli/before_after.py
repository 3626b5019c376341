"""The evaluation at the end of training: the model that training began at, if any, against the one it keeps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from robustaug.experiment import Plan
    from robustaug.train.recipe import Recipe


def plan(recipe: Recipe, config: Path, suite: Path, test: str, device: str) -> Plan:
    """Return the experiment that measures models "before" (where there is a checkpoint) and "after" on a suite.

    Args:
        config: where the recipe was read.
        test: the source of test data, as YAML.

    Raises:
        ConfigError, FileNotFoundError, ValueError: the suite or the test data cannot be read; better now than after
            the hours that training takes.
    """
    from robustaug.config import load, parse_yaml, validate
    from robustaug.data.opening import open_source
    from robustaug.evaluate.suite import Suite
    from robustaug.experiment import Experiment, Plan

    data = {"test": parse_yaml(test, "--test")}
    if recipe.data is not None:
        data |= {"validation": recipe.data.validation, "train": recipe.data.train}
    models: dict[str, object] = {"after": {"train": str(config)}}
    if recipe.checkpoint is not None:
        models = {"before": {"model": recipe.model, "checkpoint": recipe.checkpoint}} | models
    content = {"name": recipe.name, "data": data, "models": models, "suite": str(suite), "device": device}
    experiment = validate(content, Experiment, "options")
    open_source(experiment.data.test)
    return Plan(experiment, load(suite, Suite), {"after": recipe})
