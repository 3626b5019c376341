"""Distance to the nearest training samples.

Legend: N samples, D features, R rows of the bank.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from robustaug.parameters import check_count
from robustaug.registry import register
from robustaug.trust.ood.bank import Bank
from robustaug.trust.ood.evidence import Evidence
from robustaug.trust.ood.score import Score, judged

_CHUNK_VALUES = 1 << 24  # similarities or features held at once: 64 MiB of float32


@register("ood.knn")
@dataclass
class NearestNeighbour(Score):
    """Minus the distance to the k-th nearest training sample (Sun et al. 2022, arXiv 2204.06507).

    Features are scaled to length 1, so scores lie in [-2, 0]; a row of zeros stays zero. Neighbours are found in the
    features' own precision (at least float32) and the distance is computed in float64. Both go in pieces: memory
    beyond the bank stays at a few hundred MiB however many samples are scored.

    Attributes:
        k: which neighbour, >= 1 and at most the size of the bank.
        bank: training samples remembered at most, >= k; of more, a seeded random choice. The paper finds that 1 % of
            ImageNet, 12,812, does nearly as well as all.
        seed: of that choice.
    """

    k: int = 50
    bank: int = 100_000
    seed: int = 0
    needs = frozenset({"features"})
    learns = frozenset({"features"})
    keeps = frozenset({"bank"})

    def __post_init__(self) -> None:
        check_count(self.name, "k", self.k)
        check_count(self.name, "bank", self.bank, least=self.k)
        check_count(self.name, "seed", self.seed, least=0)
        self._bank = Bank(self.bank, self.seed)

    def learn(self, batch: Evidence) -> None:
        """Remember training features (R, D), on the device where they are."""
        self._bank.add(F.normalize(self._training_features(batch), dim=1))

    def settle(self) -> None:
        """Fix the bank.

        Raises:
            ValueError: fewer than k training samples.
        """
        bank = self._bank.rows()
        n = 0 if bank is None else len(bank)
        if bank is None or n < self.k:
            raise ValueError(f"{self.name}: k must be <= the {n} training features, got {self.k}; set a smaller k")
        self.state = {"bank": bank}

    def score(self, evidence: Evidence) -> np.ndarray:
        """Return (N,) float64 from features (N, D); NaN for a row that is not finite.

        Raises:
            ValueError: not fitted, or another number of features than the bank has.
        """
        bank = self._learned()["bank"]
        features = evidence.rows("features", self.name)
        if features.shape[1] != bank.shape[1]:
            raise ValueError(f"{self.name} was fitted on {bank.shape[1]} features a sample, got {features.shape[1]}")
        offset = bank.any(dim=1).to(bank.dtype) / -2  # minus half the squared length of each row
        pieces = features.split(max(1, _CHUNK_VALUES // max(bank.shape)))
        distance = torch.cat([self._distance(piece.to(bank.device), bank, offset) for piece in pieces])
        return judged(-distance, features)

    def _distance(self, features: Tensor, bank: Tensor, offset: Tensor) -> Tensor:
        query = F.normalize(features, dim=1).to(bank.dtype)
        closeness = torch.addmm(offset, query, bank.T)  # (N, R): q.b - b.b/2 falls as the distance grows
        kth = closeness.topk(self.k, dim=1).indices[:, -1]  # (N,)
        # computed anew: a distance from the products would lose half its digits where it is small
        return (F.normalize(features.double(), dim=1) - F.normalize(bank[kth].double(), dim=1)).norm(dim=1)
