"""What an experiment says: its YAML, with every file that it names read and checked before any work."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, field_validator, model_validator

from robustaug import registry
from robustaug.config import ConfigError, Strict, load
from robustaug.evaluate import left_out, summary
from robustaug.evaluate.gates import Limits, changes_of, check_figures, split_name
from robustaug.evaluate.suite import Suite
from robustaug.experiment.leave_one_out import Fold, LeaveOneOut, folds, recipe_without
from robustaug.train.recipe import Recipe, Spec, TrainData

_LONGEST = 120
"""Bytes of a model's name: longer ones are no folder names everywhere."""


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
        leave_one_out: `{column: site, train: recipe.yaml}`: one more model for each domain, trained without it; see
            `LeaveOneOut`.
        baseline: the model that others are compared against; the first one when left out.
        suite: the path of a suite, relative to the experiment's file, or the suite itself.
        against: the previous version, a finished run on the same test data as `folder` or `folder:model`; each model is
            held against its namesake there, or against the one that is named or alone. The baseline when left out.
        gates: limits by model, such as `robust: {min_robust_accuracy: 0.4}`; a broken one makes the exit code 1,
            one that the samples cannot decide 3. `max_drop_<figure>`, and `max_rise_<figure>` of errors, limit how much
            worse a figure may be than the previous version's.
        device: "auto", "cpu", "cuda" or "cuda:1".
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    seed: Annotated[int, Field(ge=0)] = 0
    data: ExperimentData
    models: Annotated[dict[str, ModelSource], Field(min_length=1)]
    leave_one_out: LeaveOneOut | None = None
    baseline: str | None = None
    suite: str | Suite
    against: str | None = None
    gates: dict[str, Limits] = {}
    device: str = "auto"

    @field_validator("models")
    @classmethod
    def _file_names(cls, models: dict[str, ModelSource]) -> dict[str, ModelSource]:
        for name in models:  # what is trained is kept in a folder of this name, and run:model names it
            if not re.fullmatch(r"[^/\\:.\x00-\x1f][^/\\:\x00-\x1f]*", name) or len(name.encode()) > _LONGEST:
                raise ValueError(
                    f"{name!r} cannot name a model: give 1 to {_LONGEST} bytes without /, \\ and :, no dot first"
                )
        return models

    @model_validator(mode="after")
    def _known_models(self) -> Experiment:
        composed = [left_out.NAME] if self.leave_one_out else []
        asked = {"baseline": ([self.baseline] if self.baseline else [], []), "gates": ([*self.gates], composed)}
        for where, (names, more) in asked.items():
            known = [*self.models, *more]
            for name in names:
                if name not in known:
                    raise ValueError(f"{where} names model {name!r}; the models are {known}")
        return self

    def is_its_own_baseline(self, model: str) -> bool:
        """Whether there is no previous version of this model."""
        return self.against is None and model == self.first()

    def first(self) -> str:
        """Return the model that others are compared against."""
        return self.baseline or next(iter(self.models))


class Plan(NamedTuple):
    """An experiment with every file that it names read and checked.

    Attributes:
        experiment: its models with those that leave a domain out.
        recipes: by model.
        folds: of each domain the model that is trained without it.
    """

    experiment: Experiment
    suite: Suite
    recipes: dict[str, Recipe]
    folds: Mapping[str, str] = MappingProxyType({})


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
    left = _folds(experiment, mistakes)
    if left and isinstance(suite, Suite):
        suite = _by_domain(suite, experiment, mistakes)
    experiment = _with_folds(experiment, left)
    for name, source in experiment.models.items():
        if source.calibrate is not None and experiment.data.validation is None:
            mistakes.append(f"models.{name}.calibrate: needs held-out samples; set data.validation")
        mistakes += [f"models.{name}.{key}: {fault}" for key, fault in _unknown({"model": source.model}, "model")]
        if source.train is not None:
            recipe = _collect(mistakes, folder / source.train, Recipe)
            if recipe is not None:
                recipes[name] = _completed(recipe, experiment, name, mistakes)
    for fold in left:
        if fold.model in recipes and recipes[fold.model].data is not None:
            try:
                recipes[fold.model] = recipe_without(recipes[fold.model], _column(experiment), fold.domain)
            except ValueError as error:
                mistakes.append(str(error))
    if isinstance(suite, Suite):
        for name, limits in experiment.gates.items():
            try:  # now, not after the hours that measuring takes
                held = len(experiment.models) > 1 and name != experiment.first()
                _check_held(limits, suite, held)
                known = summary.figure_names(suite, against=held) | _composed(name, experiment)
                check_figures(limits, known)
                if changes_of(limits, known) and experiment.is_its_own_baseline(name):
                    raise ValueError(
                        f"{name!r} is the baseline, so it has nothing to drop from; set against: <run>[:<model>]"
                    )
            except ValueError as error:
                mistakes.append(f"gates.{name}: {error}")
    if mistakes or not isinstance(suite, Suite):
        raise ConfigError("\n".join(mistakes))
    return Plan(experiment, suite.reseeded(experiment.seed), recipes, {fold.domain: fold.model for fold in left})


def _folds(experiment: Experiment, mistakes: list[str]) -> list[Fold]:
    """Return the models that leave a domain out; the data are opened to know their domains."""
    asked, data = experiment.leave_one_out, experiment.data
    if asked is None:
        return []
    if data.train is None or data.validation is None:
        mistakes.append("leave_one_out: needs data.train and data.validation")
        return []
    try:
        found = folds(asked, data.train, data.validation, data.test)
    except (ValueError, TypeError, FileNotFoundError) as error:
        mistakes.append(str(error))
        return []
    taken = [name for name in experiment.models if name in (left_out.NAME, *(fold.model for fold in found))]
    if taken:
        mistakes.append(f"models.{taken[0]}: leave_one_out makes a model of this name; give another")
    return found


def _with_folds(experiment: Experiment, left: list[Fold]) -> Experiment:
    if experiment.leave_one_out is None:
        return experiment
    made = {fold.model: ModelSource(train=experiment.leave_one_out.train) for fold in left}
    return experiment.model_copy(update={"models": experiment.models | made})


def _column(experiment: Experiment) -> str:
    assert experiment.leave_one_out is not None, "there are folds only where one is left out"
    return experiment.leave_one_out.column


def _by_domain(suite: Suite, experiment: Experiment, mistakes: list[str]) -> Suite:
    """Return the suite with figures by the domains that are left out."""
    column = _column(experiment)
    if suite.domains not in (None, column):
        mistakes.append(f"leave_one_out.column is {column!r}, but the suite has domains {suite.domains!r}; name one")
    return suite.model_copy(update={"domains": column})


def _composed(name: str, experiment: Experiment) -> set[str]:
    """Return the figures that only the model put together of the others has."""
    return {left_out.KNOWN, left_out.GAP} if experiment.leave_one_out and name == left_out.NAME else set()


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
