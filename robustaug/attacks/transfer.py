"""How far points found on one model break another."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robustaug.attacks.driver import clean_logits
from robustaug.attacks.execution import Execution
from robustaug.attacks.inputs import check_classes
from robustaug.attacks.verify import broken, full_precision
from robustaug.models.classifier import require_eval


def transfer(x_adv: Tensor, model: nn.Module, y: Tensor, targeted: bool = False, batch_size: int = 512) -> Tensor:
    """Return which points break a model that they were not made for, (B,) bool.

    An attack's `x_adv` is the first point that broke the surrogate, which seldom carries over. Papers on transfer go
    all steps whatever the surrogate says: `driver.perturb(attack, surrogate, x, y, keys)` returns such points.

    Args:
        x_adv: (B, ...), in the box that the model takes.
        model: in eval mode, returns logits.
        y: (B,) int64, the true classes, or the targets when targeted.

    Raises:
        TypeError: y holds no class indices.
        ValueError: a model in train mode or that returns probabilities, or y of another length or device.
    """
    require_eval(model)
    check_classes("y", y, x_adv)
    if not len(x_adv):
        return torch.zeros(0, dtype=torch.bool, device=x_adv.device)
    with full_precision(x_adv.device):
        return broken(clean_logits(model, x_adv.detach(), Execution(batch_size=batch_size)), y, targeted)
