"""Leave one domain out, in one key of an experiment: one model a domain, trained without it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from robustaug.config import Strict
from robustaug.data.domains import column_of, domain_names
from robustaug.data.opening import open_source
from robustaug.evaluate.protected import MOST_GROUPS
from robustaug.evaluate.runner import EvalData
from robustaug.train.recipe import Recipe, Spec

_LONGEST = 100  # letters of a domain in a model's name, which names a folder


class LeaveOneOut(Strict):
    """Train by one recipe once for each domain, without it.

    Each model, `without_<domain>`, trains, validates and is calibrated on samples of the other domains, and is measured
    on all test data. A further model on record, `leave_one_out`, has of each domain the answers of the one that
    never saw it: gates name it, and a model of `models` trained by the same recipe on all domains shows what knowing
    them is worth.

    Attributes:
        column: of the metadata of the train, validation and test data, such as site; each has the same domains.
        train: path of a recipe, relative to the experiment's file.
    """

    column: str
    train: str


class Fold(NamedTuple):
    """One domain and the name of the model without it."""

    domain: str
    model: str


def folds(asked: LeaveOneOut, train: Spec, validation: Spec, test: Spec) -> list[Fold]:
    """Return one fold a domain of the training data, by name.

    Raises:
        ValueError: no such column, one domain alone or very many, or data that have not the same domains.
    """
    found = {}
    for part, spec in (("train", train), ("validation", validation), ("test", test)):
        found[part] = domain_names(column_of("leave_one_out.column", open_source(spec), asked.column))
    names = found["train"]
    for part in ("validation", "test"):
        for here, there in (("train", part), (part, "train")):
            if lacking := [name for name in found[here] if name not in found[there]]:
                raise ValueError(
                    f"leave_one_out: {asked.column} {lacking[0]!r} is in data.{here} and not in data.{there}, which "
                    f"has {found[there][:10]}; all parts of the data need the same domains"
                )
    if not 2 <= len(names) <= MOST_GROUPS:
        raise ValueError(
            f"leave_one_out: data.train has {len(names):,} values of {asked.column}, each of which takes a training; "
            f"name a column of 2 to {MOST_GROUPS}"
        )
    made = [Fold(name, f"without_{re.sub(r'[^A-Za-z0-9._-]+', '_', name)[:_LONGEST]}") for name in names]
    if len({fold.model for fold in made}) < len(made):  # such as "a b" and "a_b"
        made = [Fold(fold.domain, f"{fold.model}_{at}") for at, fold in enumerate(made)]
    return made


def without(spec: Spec, column: str, domain: str) -> Spec:
    """Return the source without one domain."""
    return {"data.domains": {"of": spec, "column": column, "leave_out": [domain]}}


def recipe_without(recipe: Recipe, column: str, domain: str) -> Recipe:
    """Return a recipe, with its data given, whose data lack one domain.

    Raises:
        ValueError: it trains on samples that have no domain.
    """
    data = recipe.data
    assert data is not None, "a recipe takes the experiment's data where it names none"
    for key in ("unlabelled", "synthetic"):
        if getattr(data, key) is not None:
            raise ValueError(f"leave_one_out: the recipe's data.{key} might hold any domain; leave it out")
    held = {key: without(getattr(data, key), column, domain) for key in ("train", "validation")}
    return recipe.model_copy(update={"data": data.model_copy(update=held)})


def data_of_folds(
    column: str, found: Mapping[str, str], data: EvalData, train: Spec, validation: Spec
) -> dict[str, EvalData]:
    """Return, by model, data whose validation and training samples lack the domain that the model must not know.

    Args:
        found: the model without each domain.
    """
    out = {}
    for domain, model in found.items():
        known, held = (open_source(without(spec, column, domain)) for spec in (train, validation))
        out[model] = EvalData(data.test, held, known)
    return out
