"""Several models for the price of one training: the weights at the end of each cosine cycle, as one ensemble.

Source: Huang et al. 2017, "Snapshot ensembles: train 1, get M for free", arXiv:1704.00109, section 3. They average the
probabilities of the last snapshots; here of all, one a cycle.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch

from robustaug.models import checkpoints
from robustaug.models.classifier import Classifier
from robustaug.models.nested import seeded
from robustaug.train.recipe import Recipe


def ensemble_of(recipe: Recipe) -> dict[str, Any]:
    """Return the ensemble of a recipe's snapshots as `{name: parameters}`, without their weights."""
    return {"model.ensemble": {"of": [recipe.model] * recipe.optimizer.cycles}}


def snapshot_at(recipe: Recipe, epoch: int) -> str:
    """Return the folder of the snapshot that is taken after `epoch`, counted from 0; empty where none is."""
    length = recipe.epochs // recipe.optimizer.cycles
    return f"snapshots/{(epoch + 1) // length}" if recipe.snapshots and (epoch + 1) % length == 0 else ""


def ensembled(recipe: Recipe, folder: Path, device: torch.device, encoding: str) -> Classifier:
    """Make the ensemble of the snapshots in `folder`, in eval mode.

    Raises:
        FileNotFoundError, ValueError: a snapshot is missing or damaged.
    """
    model = seeded(ensemble_of(recipe), recipe.seed)
    members = cast(list[Classifier], [*cast(Any, model.module).members])
    for number, member in enumerate(members, start=1):
        checkpoints.load_into(folder / "snapshots" / str(number) / "model.safetensors", member)
    model.encoding = encoding
    return model.to(device).eval()
