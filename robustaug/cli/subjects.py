"""The model that a command's options name."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from robustaug.models.classifier import Classifier


def model_of(model: str | None, checkpoint: str | None, device: torch.device) -> Classifier:
    """Make the model of `--model` (YAML) and `--checkpoint`, in eval mode, on `device`.

    Raises:
        ValueError: neither is given, or they do not fit each other.
        FileNotFoundError: no such checkpoint.
    """
    from robustaug.config import parse_yaml, validate
    from robustaug.experiment import ModelSource, load_model

    if model is None and checkpoint is None:
        raise ValueError("give --checkpoint, or --model for weights that the model brings along, or both")
    given = {"model": None if model is None else parse_yaml(model, "--model"), "checkpoint": checkpoint}
    return load_model(validate(given, ModelSource, "options")).to(device)
