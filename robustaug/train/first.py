"""What an earlier model makes of the training data, for losses that learn from it.

Legend: N samples of the source, K classes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from robustaug.data.source import batches
from robustaug.models import checkpoints
from robustaug.train.view import Facts

BATCH = 256


def shares_by(checkpoint: str, facts: Facts, name: str) -> Tensor:
    """Return the earlier model's predictions for the training samples as they are, (N, K) float32 on the CPU.

    Rows sum to 1, and are even over the classes for samples that cannot be read.

    Args:
        checkpoint: made by `robustaug train`, which stores what the model is.
        name: of the loss that asks.

    Raises:
        FileNotFoundError: no such checkpoint.
        ValueError: the checkpoint does not say what model it is for, or that has other classes.
    """
    model = checkpoints.load(checkpoint).to(facts.device)
    shares = torch.full((len(facts.labels), facts.classes), 1 / facts.classes)
    for batch in batches(facts.source, BATCH):
        with torch.inference_mode():
            predicted = model(facts.source.as_input(batch.image, facts.device)).float().softmax(1).cpu()
        if predicted.shape[1] != facts.classes:
            raise ValueError(f"{name}: the model of {checkpoint} has {predicted.shape[1]} classes, not {facts.classes}")
        shares[batch.position] = predicted
    return shares
