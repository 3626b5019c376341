"""Energy of the logits after the last layer's activations were shaped: cut off above, or pruned.

Both are published for activations behind a ReLU, >= 0. They act here on what the last linear layer reads; ASH is
published for the maps before the pooling, too.

Legend: N samples, K classes, D features.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from robustaug.parameters import check_choice, check_count
from robustaug.registry import register
from robustaug.trust.ood.bank import Bank
from robustaug.trust.ood.evidence import Evidence
from robustaug.trust.ood.score import Score, judged


@register("ood.react")
@dataclass
class Rectified(Score):
    """Energy after activations above a percentile of the training activations are cut off there.

    Source: Sun, Guo and Li 2021 (ReAct, arXiv 2111.12797), section 3; the 90th percentile as published.

    Attributes:
        percentile: in (0, 100], of all activations of all training samples together.
        bank: training samples that it is taken from at most; of more, a seeded random choice.
        seed: of that choice.
    """

    percentile: float = 90.0
    bank: int = 20_000
    seed: int = 0
    needs = frozenset({"features", "head"})
    learns = frozenset({"features"})
    keeps = frozenset({"limit"})

    def __post_init__(self) -> None:
        if not 0 < self.percentile <= 100:
            raise ValueError(f"{self.name}: percentile must be in (0, 100], got {self.percentile!r}")
        check_count(self.name, "bank", self.bank)
        check_count(self.name, "seed", self.seed, least=0)
        self._bank = Bank(self.bank, self.seed)

    def learn(self, batch: Evidence) -> None:
        """Take in training features (R, D)."""
        self._bank.add(self._training_features(batch).cpu())

    def settle(self) -> None:
        """Fix where activations are cut off.

        Raises:
            ValueError: no training features.
        """
        rows = self._bank.rows()
        if rows is None:
            raise ValueError(f"{self.name}: no training features were given")
        limit = np.percentile(rows.numpy().ravel(), self.percentile).astype(np.float64)
        self.state = {"limit": torch.tensor(float(limit), dtype=torch.float64)}

    def score(self, evidence: Evidence) -> np.ndarray:
        """Return (N,) float64 from features (N, D) and the last linear layer."""
        limit = self._learned()["limit"]
        head = evidence.given("head", self.name)
        features = self._features(evidence, head.weight.shape[1])
        return judged(head.logits(features.minimum(limit)).logsumexp(dim=1), features)


@register("ood.ash")
@dataclass(frozen=True)
class Shaped(Score):
    """Energy after each sample's smallest activations are set to 0 and the others changed.

    Source: Djurisic et al. 2023, arXiv 2209.09858, algorithms 1 to 3; defaults as published for ImageNet.

    Attributes:
        variant: "p" leaves the others as they are; "b" sets each to their share of the sum before; "s" scales them by
            exp(sum before / sum after), which needs activations >= 0: a sample with others scores NaN.
        percentile: in [0, 100), of a sample's activations to set to 0.
    """

    variant: str = "s"
    percentile: float = 90.0
    needs = frozenset({"features", "head"})

    def __post_init__(self) -> None:
        check_choice(self.name, "variant", self.variant, ("p", "b", "s"))
        if not 0 <= self.percentile < 100:
            raise ValueError(f"{self.name}: percentile must be in [0, 100), got {self.percentile!r}")

    def score(self, evidence: Evidence) -> np.ndarray:
        """Return (N,) float64 from features (N, D) and the last linear layer."""
        head = evidence.given("head", self.name)
        features = self._features(evidence, head.weight.shape[1])
        return judged(head.logits(self._shape(features)).logsumexp(dim=1), features)

    def _shape(self, features: Tensor) -> Tensor:
        width = features.shape[1]
        kept = max(1, width - round(width * self.percentile / 100))
        order = features.argsort(dim=1, descending=True, stable=True)  # of equal activations the first stay
        mask = torch.zeros_like(features).scatter_(1, order[:, :kept], 1.0)
        total = features.sum(dim=1, keepdim=True)
        if self.variant == "b":
            return mask * (total / kept)
        pruned = torch.where(mask > 0, features, 0.0)
        if self.variant == "p":
            return pruned
        after = pruned.sum(dim=1, keepdim=True)
        scale = torch.exp(torch.where(after == 0, 1.0, total / after))  # all are 0: scaling changes nothing
        return pruned * torch.where((features >= 0).all(dim=1, keepdim=True), scale, math.nan)
