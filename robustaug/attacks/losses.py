"""What attacks push up: functions of logits (B, K) that grow as a class gets less likely, or a prediction moves away.

Computed in float64: the gradient of a confident model's cross-entropy is lost in float32.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

TINY = 1e-12


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


def margin_to(logits: Tensor, label: Tensor, target: Tensor) -> Tensor:
    """Return the logit of `target` (B,) minus that of the label, (B,) float64."""
    logits = logits.double()
    return (logits.gather(1, target[:, None]) - logits.gather(1, label[:, None]))[:, 0]


def dlr(logits: Tensor, label: Tensor) -> Tensor:
    """Return the difference of logits ratio, (B,) float64: the margin over the gap from the first to the third logit.

    It does not change when the logits are shifted or scaled. Below three classes there is no third: the margin.
    Croce & Hein 2020, arXiv:2003.01690, equation 6.
    """
    if logits.shape[1] < 3:
        return margin(logits, label)
    top = logits.double().topk(3, dim=1).values
    return margin(logits, label) / (top[:, 0] - top[:, 2] + TINY)


def dlr_to(logits: Tensor, label: Tensor, target: Tensor) -> Tensor:
    """Return the difference of logits ratio towards a class `target` (B,), (B,) float64.

    Below four classes there is no fourth logit: the margin to the target. Croce & Hein 2020, arXiv:2003.01690,
    equation 7.
    """
    if logits.shape[1] < 4:
        return margin_to(logits, label, target)
    top = logits.double().topk(4, dim=1).values
    return margin_to(logits, label, target) / (top[:, 0] - (top[:, 2] + top[:, 3]) / 2 + TINY)


def divergence_from(logits: Tensor, other: Tensor) -> Tensor:
    """Return KL(softmax(other) || softmax(logits)), (B,) float64: how far predictions have come from others (B, K).

    Its gradient flows into both.
    """
    before, after = other.double().log_softmax(1), logits.double().log_softmax(1)
    return (before.exp() * (before - after)).sum(1)


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"ce": cross_entropy, "margin": margin, "dlr": dlr}
"""Losses that lead away from a class; all but "dlr" lead towards it when negated."""
