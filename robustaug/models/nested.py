"""Models made of models: how the inner one is made."""

from __future__ import annotations

import inspect
from typing import Any

from robustaug import registry
from robustaug.models.classifier import Classifier
from robustaug.rng import torch_seed


def seeded(spec: Any, seed: int) -> Classifier:
    """Make the model that `name` or `{name: parameters}` describes, its fresh weights drawn from `seed`.

    A seed among the parameters comes first.

    Raises:
        ValueError: not of this form, an unknown name, something that is no model, or a refused value.
        TypeError: an unknown or missing parameter.
    """
    if isinstance(spec, str):
        spec = {spec: None}
    if not isinstance(spec, dict) or len(spec) != 1:
        raise ValueError(f"a model reads `name` or `{{name: parameters}}`, got {spec!r}")
    [(name, given)] = spec.items()
    entry = registry.lookup(str(name))
    if entry.kind != "model":
        raise ValueError(f"{name!r} is of kind {entry.kind!r}, not a model; models are {registry.list('model')}")
    params = dict(given or {})
    if "seed" in inspect.signature(entry.factory).parameters:
        params.setdefault("seed", seed)
    with torch_seed(seed):
        return registry.create(str(name), **params)
