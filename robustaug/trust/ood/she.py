"""Resemblance to the stored pattern of the predicted class.

Legend: N samples, K classes, D features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from robustaug.registry import register
from robustaug.trust.ood.evidence import Evidence
from robustaug.trust.ood.score import Score, judged


@register("ood.she")
@dataclass
class StoredPatterns(Score):
    """Inner product of the features with the stored pattern of the predicted class.

    A class's pattern is the mean feature of its training samples that the model gets right. A class without any has
    no pattern, and what is predicted to be of it scores 0.
    Source: Zhang et al., "Out-of-distribution detection based on in-distribution data patterns memorization with
    modern Hopfield energy", ICLR 2023: the simplified energy.
    """

    needs = frozenset({"logits", "features"})
    learns = frozenset({"logits", "features", "labels"})
    keeps = frozenset({"patterns"})

    def __post_init__(self) -> None:
        self._sums: Tensor | None = None  # (K, D)
        self._counts = torch.zeros(0, 1, dtype=torch.float64)  # (K, 1)

    def learn(self, batch: Evidence) -> None:
        """Take in training features (R, D), logits (R, K) and labels (R,)."""
        features = self._training_features(batch).double().cpu()
        logits = batch.rows("logits", self.name).cpu()
        labels = batch.tensor("labels", self.name).cpu()
        if self._sums is None:
            self._sums = features.new_zeros(logits.shape[1], features.shape[1])
            self._counts = features.new_zeros(logits.shape[1], 1)
        right = logits.argmax(dim=1) == labels
        self._sums.index_add_(0, labels[right], features[right])
        self._counts.index_add_(0, labels[right], features.new_ones(int(right.sum()), 1))

    def settle(self) -> None:
        """Fix the patterns.

        Raises:
            ValueError: no training sample that the model gets right.
        """
        if self._sums is None or not self._counts.any():
            raise ValueError(f"{self.name}: of no training sample the model is right, so there is no pattern to store")
        self.state = {"patterns": self._sums / self._counts.clamp(min=1)}

    def score(self, evidence: Evidence) -> np.ndarray:
        """Return (N,) float64 from logits (N, K) and features (N, D)."""
        patterns = self._learned()["patterns"]
        features = self._features(evidence, patterns.shape[1])
        logits = evidence.rows("logits", self.name).cpu()
        return judged((features * patterns[logits.argmax(dim=1)]).sum(dim=1), features, logits)
