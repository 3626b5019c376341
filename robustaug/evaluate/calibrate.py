"""Fit a scaling of a model's logits to a source of held-out samples."""

from __future__ import annotations

from pathlib import Path

import torch

from robustaug import launch
from robustaug.data.source import Source
from robustaug.evaluate.measure import logits_and_labels
from robustaug.models.calibrated import calibrated
from robustaug.models.classifier import Classifier, require_eval
from robustaug.models.scaling import save_scaling
from robustaug.trust.calibration import fit_scaling


def calibrate(
    model: Classifier, kind: str, held_out: Source, path: Path, device: torch.device, batch_size: int = 256
) -> Classifier:
    """Fit a scaling, store it, and return the model with it behind its logits; in a group all processes do so together.

    Args:
        model: in eval mode, on `device`.
        kind: see `calibration.fit_scaling`.
        held_out: samples that the model was not trained on.
        path: of the scaling, .safetensors.

    Raises:
        ValueError: a model in train mode, or as `calibration.fit_scaling`.
    """
    require_eval(model)
    logits, labels = logits_and_labels(model, held_out, batch_size, device)
    scaling = fit_scaling(kind, logits, labels)
    if launch.place()[0] == 0:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_scaling(path, scaling, {"held_out": held_out.name, "samples": len(labels)})
    return calibrated(model, scaling).to(device)
