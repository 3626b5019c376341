"""Scores that need nothing but the logits.

Legend: N samples, K classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from robustaug.parameters import check_count
from robustaug.registry import register
from robustaug.trust.ood.evidence import Evidence
from robustaug.trust.ood.score import Score


@register("ood.msp")
@dataclass(frozen=True)
class MaxSoftmax(Score):
    """Greatest softmax probability, in [1/K, 1] (Hendrycks and Gimpel 2017, arXiv 1610.02136)."""

    def score(self, evidence: Evidence) -> np.ndarray:
        """Return (N,) float64 from logits (N, K)."""
        return evidence.rows("logits", self.name).double().softmax(dim=1).amax(dim=1).cpu().numpy()


@register("ood.energy")
@dataclass(frozen=True)
class Energy(Score):
    """Negative free energy, T logsumexp(logits / T) (Liu et al. 2020, arXiv 2010.03759, equation 4).

    Attributes:
        temperature: T > 0; as it goes to 0 the score becomes the greatest logit.
    """

    temperature: float = 1.0

    def __post_init__(self) -> None:
        check_temperature(self.name, self.temperature)

    def score(self, evidence: Evidence) -> np.ndarray:
        """Return (N,) float64 from logits (N, K)."""
        logits = evidence.rows("logits", self.name).double()
        return (self.temperature * torch.logsumexp(logits / self.temperature, dim=1)).cpu().numpy()


@register("ood.max_logit")
@dataclass(frozen=True)
class MaxLogit(Score):
    """Greatest logit (Hendrycks et al. 2022, arXiv 1911.11132)."""

    def score(self, evidence: Evidence) -> np.ndarray:
        """Return (N,) float64 from logits (N, K)."""
        return evidence.rows("logits", self.name).double().amax(dim=1).cpu().numpy()


@register("ood.gen")
@dataclass(frozen=True)
class GeneralizedEntropy(Score):
    """Minus the generalized entropy of the likeliest classes: -sum p^gamma (1 - p)^gamma, at most 0.

    1 - p is taken from the other logits and not from p, so a confidence of 1 - 1e-30 still differs from 1.
    Source: Liu, Lochman and Zach, "GEN: Pushing the limits of softmax-based out-of-distribution detection", CVPR 2023.

    Attributes:
        gamma: in (0, 1); 0.1 as published.
        top: how many of the likeliest classes count, >= 1; all where there are fewer. 100 as published for ImageNet.
    """

    gamma: float = 0.1
    top: int = 100

    def __post_init__(self) -> None:
        if not 0 < self.gamma < 1:
            raise ValueError(f"{self.name}: gamma must be in (0, 1), got {self.gamma!r}")
        check_count(self.name, "top", self.top)

    def score(self, evidence: Evidence) -> np.ndarray:
        """Return (N,) float64 from logits (N, K)."""
        logits = evidence.rows("logits", self.name).double().sort(dim=1, descending=True).values
        log_p = logits.log_softmax(dim=1)
        rest = torch.log(-torch.expm1(log_p))  # log(1 - p)
        if logits.shape[1] > 1:
            rest[:, 0] = logits[:, 1:].logsumexp(dim=1) - logits.logsumexp(dim=1)
        terms = torch.exp(self.gamma * (log_p + rest))[:, : self.top]
        return terms.sum(dim=1).neg().cpu().numpy()


def check_temperature(name: str, temperature: float) -> None:
    """Refuse a temperature that is not > 0 and finite.

    Raises:
        ValueError: names the value.
    """
    if not 0 < temperature < math.inf:
        raise ValueError(f"{name}: temperature must be > 0 and finite, got {temperature!r}")
