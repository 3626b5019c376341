"""Models that look robust because their gradients are hidden, and what is done about it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robustaug.models.classifier import logits_of


class LogProbabilities(nn.Module):
    """Give a model that returns probabilities its logits back, up to a constant a sample: their logarithms.

    Attributes:
        module: returns probabilities (B, K).
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.training = module.training

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, K)."""
        probabilities = logits_of(self.module(x))
        return probabilities.clamp_min(torch.finfo(probabilities.dtype).tiny).log()
