"""What an experiment says: its YAML, with every file that it names read and checked before any work."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, model_validator

from robustaug import registry
from robustaug.config import ConfigError, Strict, load
from robustaug.evaluate import summary
from robustaug.evaluate.gates import (
    Limits,
    check_figures,
    split_name,
)
from robustaug.evaluate.suite import Suite
from robustaug.train.recipe import Recipe, Spec, TrainData


class ModelSource(Strict):
    """Where a model comes from: a recipe to train by, or a registered model with weights.

    Attributes:
        train: path of a recipe, relative to the experiment's file.
        model: `name` or `{name: parameters}`; a checkpoint written by robustaug knows its own.
        checkpoint: path of its weights.
        calibrate: fit this scaling of its logits to the validation data, and measure the calibrated model:
            "temperature", "vector", "platt" or "isotonic". It is kept as calibration.safetensors in the run's
            models/<name>, for `model.calibrated`.
    """

    train: str | None = None
    model: Spec | None = None
    checkpoint: str | None = None
    calibrate: Literal["temperature", "vector", "platt", "isotonic"] | None = None

    @model_validator(mode="after")
    def _one_way(self) -> ModelSource:
        if (self.train is None) == (self.model is None and self.checkpoint is None):
            raise ValueError("give either train (a recipe to train by) or model and/or checkpoint (a model to load)")
        return self


class ExperimentData(Strict):
    """Sources of family `data`: what to measure on, to calibrate on, and to remember or train on."""

    test: Spec
    validation: Spec | None = None
    train: Spec | None = None


class Experiment(Strict):
    """One experiment.

    Attributes:
        name: names the run folder.
        seed: added to the seed of every recipe and scenario: another one repeats the experiment with other draws.
        data: test, validation and train sources; recipes without data of their own train on these.
        models: by name, in the order in which the report shows them.
        baseline: the model that others are compared against; the first one when left out.
        suite: the path of a suite, relative to the experiment's file, or the suite itself.
        gates: limits by model, such as `robust: {min_robust_accuracy: 0.4}`; a broken one makes the exit code 1,
            one that the samples cannot decide 3.
        device: "auto", "cpu", "cuda" or "cuda:1".
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    seed: Annotated[int, Field(ge=0)] = 0
    data: ExperimentData
    models: Annotated[dict[str, ModelSource], Field(min_length=1)]
    baseline: str | None = None
    suite: str | Suite
    gates: dict[str, Limits] = {}
    device: str = "auto"

    @model_validator(mode="after")
    def _known_models(self) -> Experiment:
        for where, names in (("baseline", [self.baseline] if self.baseline else []), ("gates", [*self.gates])):
            for name in names:
                if name not in self.models:
                    raise ValueError(f"{where} names model {name!r}; the models are {[*self.models]}")
        return self


class Plan(NamedTuple):
    """An experiment with every file that it names read and checked."""

    experiment: Experiment
    suite: Suite
    recipes: dict[str, Recipe]


def read_plan(path: str | Path, overrides: tuple[str, ...] | list[str] = ()) -> Plan:
    """Read an experiment and all files it names; mistakes of all of them are reported together.

    Raises:
        FileNotFoundError: a file is missing.
        ConfigError: every mistake, one a line.
    """
    return resolve(load(path, Experiment, overrides), Path(path).parent)


def resolve(experiment: Experiment, folder: Path) -> Plan:
    """Read the suite and the recipes that `experiment` names, relative to `folder`; see `read_plan`."""
    mistakes: list[str] = []
    recipes: dict[str, Recipe] = {}
    suite = experiment.suite
    if isinstance(suite, str):
        suite = _collect(mistakes, folder / suite, Suite)
    mistakes += [f"data.{key}: {fault}" for key, fault in _unknown(vars(experiment.data), "source")]
    for name, source in experiment.models.items():
        if source.calibrate is not None and experiment.data.validation is None:
            mistakes.append(f"models.{name}.calibrate: needs held-out samples; set data.validation")
        mistakes += [f"models.{name}.{key}: {fault}" for key, fault in _unknown({"model": source.model}, "model")]
        if source.train is not None:
            recipe = _collect(mistakes, folder / source.train, Recipe)
            if recipe is not None:
                recipes[name] = _completed(recipe, experiment, name, mistakes)
    if isinstance(suite, Suite):
        for name, limits in experiment.gates.items():
            try:  # now, not after the hours that measuring takes
                held = len(experiment.models) > 1 and name != (experiment.baseline or next(iter(experiment.models)))
                _check_held(limits, suite, held)
                check_figures(limits, summary.figure_names(suite, against=held))
            except ValueError as error:
                mistakes.append(f"gates.{name}: {error}")
    if mistakes or not isinstance(suite, Suite):
        raise ConfigError("\n".join(mistakes))
    return Plan(experiment, suite.reseeded(experiment.seed), recipes)


def _check_held(limits: Mapping[str, float], suite: Suite, held: bool) -> None:
    """Refuse gates on what holds a model against the baseline where it is that itself, or the only one."""
    relative = summary.figure_names(suite, against=True) - summary.figure_names(suite, against=held)
    if wrong := [gate for gate in limits if split_name(gate)[1] in relative]:
        raise ValueError(
            f"{', '.join(wrong)}: held against the baseline, and this model is the baseline or the only one; gate "
            "another model of the run"
        )


def _collect(mistakes: list[str], path: Path, schema: Any) -> Any:
    try:
        return load(path, schema)
    except (ConfigError, FileNotFoundError) as error:
        mistakes.append(str(error))
        return None


def _unknown(specs: Mapping[str, Spec | None], kind: str) -> list[tuple[str, str]]:
    """Return (key, what is wrong) for every spec that does not name a registered thing of this kind."""
    faults = []
    for key, spec in specs.items():
        if spec is None:
            continue
        try:
            registry.read_spec(spec, kind)
        except ValueError as error:
            faults.append((key, str(error)))
    return faults


def _completed(recipe: Recipe, experiment: Experiment, name: str, mistakes: list[str]) -> Recipe:
    data = experiment.data
    recipe = recipe.model_copy(update={"seed": recipe.seed + experiment.seed})
    if recipe.data is not None:
        return recipe
    if data.train is None or data.validation is None:
        mistakes.append(
            f"models.{name}: its recipe names no data, so the experiment needs data.train and data.validation"
        )
        return recipe
    return recipe.model_copy(update={"data": TrainData(train=data.train, validation=data.validation)})
