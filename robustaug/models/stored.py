"""The model of a checkpoint as a registered model, so that models made of models can name it."""

from __future__ import annotations

from typing import Any

from robustaug.models import checkpoints
from robustaug.models.classifier import Classifier
from robustaug.registry import register


@register("model.checkpoint")
def stored_model(path: str, of: Any = None) -> Classifier:
    """The model that a checkpoint is of, with its weights; as a part of others, such as the members of an ensemble.

    Args:
        path: of the checkpoint.
        of: the model, as `name` or `{name: parameters}`; checkpoints of robustaug know their own.

    Raises:
        FileNotFoundError, ValueError: as `checkpoints.load`.
    """
    return checkpoints.load(path, of)
