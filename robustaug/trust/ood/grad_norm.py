"""How strongly the last layer is pulled towards a uniform prediction.

Legend: N samples, K classes, D features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from robustaug.registry import register
from robustaug.trust.ood.evidence import Evidence
from robustaug.trust.ood.logits import check_temperature
from robustaug.trust.ood.score import Score, judged


@register("ood.grad_norm")
@dataclass(frozen=True)
class GradientNorm(Score):
    """L1 norm of the gradient, in the last layer's weights, of the cross-entropy between uniform and predicted.

    In closed form: the L1 norm of the features times sum |p - 1/K| / T, with p the softmax of logits / T. No
    gradient is computed.
    Source: Huang, Geng and Li 2021, arXiv 2110.00218; last layer and T = 1 as published.

    Attributes:
        temperature: T > 0.
    """

    temperature: float = 1.0
    needs = frozenset({"logits", "features", "head"})

    def __post_init__(self) -> None:
        check_temperature(self.name, self.temperature)

    def score(self, evidence: Evidence) -> np.ndarray:
        """Return (N,) float64 from logits (N, K) and features (N, D) of a linear last layer."""
        head = evidence.given("head", self.name)
        features = self._features(evidence, head.weight.shape[1])
        logits = evidence.rows("logits", self.name).double().cpu()
        pull = ((logits / self.temperature).softmax(dim=1) - 1 / logits.shape[1]).abs().sum(dim=1) / self.temperature
        return judged(features.abs().sum(dim=1) * pull, features)
