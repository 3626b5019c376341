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
    entry, params = registry.read_spec(spec, "model")
    if "seed" in inspect.signature(entry.factory).parameters:
        params.setdefault("seed", seed)
    with torch_seed(seed):
        return entry.factory(**params)
