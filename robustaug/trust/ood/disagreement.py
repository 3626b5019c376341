"""How far the members of an ensemble are of one mind.

Legend: M members, N samples, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from robustaug.registry import register
from robustaug.trust.ood.evidence import Evidence
from robustaug.trust.ood.score import Score


@register("ood.disagreement")
@dataclass(frozen=True)
class Disagreement(Score):
    """Minus the mean divergence in nats of each member's prediction from the ensemble's, in [-log K, 0].

    It is the entropy of the mean prediction less the mean entropy: what the members do not agree on, not what all of
    them are unsure of.
    Source: Lakshminarayanan, Pritzel and Blundell 2017, arXiv 1612.01474: their disagreement, divided by M.
    """

    needs = frozenset({"members"})

    def score(self, evidence: Evidence) -> np.ndarray:
        """Return (N,) float64 from the members' logits (M, N, K).

        Raises:
            ValueError: not three axes, or no member.
        """
        members = evidence.tensor("members", self.name).double().cpu()
        if members.ndim != 3 or not len(members):
            raise ValueError(f"{self.name}: members must have shape (M, N, K), M >= 1, got {tuple(members.shape)}")
        log_p = members.log_softmax(dim=2)
        log_mean = log_p.logsumexp(dim=0) - np.log(len(members))
        p = log_p.exp()
        terms = torch.where(p == 0, 0.0, p * (log_p - log_mean))  # a class that cannot happen: 0 log 0 is 0
        return terms.sum(dim=2).mean(dim=0).clamp(min=0).neg().numpy()
