"""What attacks push up: functions of logits (B, K) and classes (B,) that grow as the class gets less likely.

Computed in float64: the gradient of a confident model's cross-entropy is lost in float32.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def cross_entropy(logits: Tensor, label: Tensor) -> Tensor:
    """Return -log softmax(logits)[label], (B,) float64."""
    return F.cross_entropy(logits.double(), label, reduction="none")


def margin(logits: Tensor, label: Tensor) -> Tensor:
    """Return the best other logit minus that of the label, (B,) float64: positive once the label has lost.

    Carlini & Wagner 2017, arXiv:1608.04644, f6 without the cut-off. Its gradient does not fade as confidence grows.
    """
    logits = logits.double()
    own = logits.gather(1, label[:, None])
    others = logits.scatter(1, label[:, None], -torch.inf)
    return (others.max(1).values[:, None] - own)[:, 0]


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"ce": cross_entropy, "margin": margin}
