"""A virtual logit for what the training features do not span.

Legend: N samples, K classes, D features, R residual directions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from robustaug.parameters import check_count
from robustaug.registry import register
from robustaug.trust.ood.bank import Bank
from robustaug.trust.ood.evidence import Evidence, Head
from robustaug.trust.ood.gaussian import Moments
from robustaug.trust.ood.score import Score, judged


@register("ood.vim")
@dataclass
class VirtualLogit(Score):
    """Energy of the logits less a virtual logit: alpha times how far the features lie off their principal subspace.

    The subspace is spanned by the first eigenvectors of the training features around o = -pinv(W) b, the point where
    all logits are nearest to 0; alpha makes virtual logits as large as greatest logits are on training data. This is
    the logarithm of (1 - p) / p of the published probability p of the virtual class: the same order, but it does not
    end at 0 and 1.
    Source: Wang et al. 2022, arXiv 2203.10807, section 4.

    Attributes:
        dim: of the subspace, >= 0 and < D. Left out: 1000 of 2048 features or more and 512 of 768 or more, as the
            authors take; half of fewer.
        bank: training samples that alpha is taken from at most; of more, a seeded random choice. The eigenvectors are
            of all.
        seed: of that choice.
    """

    dim: int | None = None
    bank: int = 20_000
    seed: int = 0
    needs = frozenset({"logits", "features"})
    learns = frozenset({"features", "head"})
    keeps = frozenset({"origin", "residual", "alpha"})

    def __post_init__(self) -> None:
        if self.dim is not None:
            check_count(self.name, "dim", self.dim, least=0)
        check_count(self.name, "bank", self.bank)
        check_count(self.name, "seed", self.seed, least=0)
        self._bank = Bank(self.bank, self.seed)
        self._moments: Moments | None = None
        self._head: Head | None = None

    def learn(self, batch: Evidence) -> None:
        """Take in training features (R, D); the last linear layer is taken from the first batch."""
        features = self._training_features(batch)
        if not len(features):
            return
        self._head = self._head or batch.given("head", self.name)
        self._moments = self._moments or Moments(features.shape[1])
        self._moments.add(features, torch.zeros(len(features), dtype=torch.int64))  # all of one class
        self._bank.add(features.cpu())

    def settle(self) -> None:
        """Fix origin, residual directions and alpha.

        Raises:
            ValueError: no training features, dim >= D, or training features without any residual.
        """
        rows = self._bank.rows()
        if rows is None or self._moments is None or self._head is None:
            raise ValueError(f"{self.name}: no training features were given")
        width, head = rows.shape[1], self._head
        dim = self.dim if self.dim is not None else 1000 if width >= 2048 else 512 if width >= 768 else width // 2
        if dim >= width:
            raise ValueError(f"{self.name}: dim must be < the {width} features, got {dim}")
        origin = -torch.linalg.pinv(head.weight.double()) @ head.bias.double()
        mean, around_mean, _ = self._moments.covariances()
        _, vectors = torch.linalg.eigh(around_mean + torch.outer(mean - origin, mean - origin))
        residual = vectors[:, : width - dim]  # eigenvalues ascend
        centred = rows.double() - origin
        lengths = (centred @ residual).norm(dim=1)
        if lengths.sum() <= width * torch.finfo(torch.float64).eps * centred.norm(dim=1).sum():  # rounding alone
            raise ValueError(f"{self.name}: {dim} directions hold all training features; set a smaller dim")
        alpha = head.logits(rows).amax(dim=1).sum() / lengths.sum()
        self.state = {"origin": origin, "residual": residual.contiguous(), "alpha": alpha}

    def score(self, evidence: Evidence) -> np.ndarray:
        """Return (N,) float64 from logits (N, K) and features (N, D)."""
        state = self._learned()
        features = self._features(evidence, len(state["origin"]))
        logits = evidence.rows("logits", self.name).double().cpu()
        virtual = state["alpha"] * ((features - state["origin"]) @ state["residual"]).norm(dim=1)
        return judged(logits.logsumexp(dim=1) - virtual, features)
