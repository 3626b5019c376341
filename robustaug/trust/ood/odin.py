"""Confidence after a small step of the input towards more confidence.

Legend: N samples, K classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from robustaug.parameters import check_number
from robustaug.registry import register
from robustaug.trust.ood.evidence import Evidence
from robustaug.trust.ood.logits import check_temperature
from robustaug.trust.ood.score import Score


@register("ood.odin")
@dataclass(frozen=True)
class Odin(Score):
    """Greatest softmax probability at a high temperature, after a signed gradient step that raises it; in [1/K, 1].

    The step is eps in the units of the model's input, [0, 1], and may leave that range, as published. It costs one
    backward and one more forward pass.
    Source: Liang, Li and Srikant 2018, arXiv 1706.02690, equations 1 and 2; T = 1000 and eps = 0.0014 as published
    for a DenseNet on CIFAR-10, chosen there on foreign data.

    Attributes:
        temperature: T > 0.
        eps: size of the step, >= 0; a fraction may be spelled out.
    """

    temperature: float = 1000.0
    eps: float | str = 0.0014
    needs = frozenset({"inputs", "model"})

    def __post_init__(self) -> None:
        check_temperature(self.name, self.temperature)
        object.__setattr__(self, "eps", eps := check_number(self.name, "eps", self.eps))
        if not 0 <= eps < math.inf:
            raise ValueError(f"{self.name}: eps must be >= 0 and finite, got {self.eps!r}")

    def score(self, evidence: Evidence) -> np.ndarray:
        """Return (N,) float64 from the model and its inputs (N, ...).

        Raises:
            ValueError: no gradient reaches the inputs.
        """
        model = evidence.given("model", self.name)
        x = evidence.given("inputs", self.name)
        if not len(x):
            return np.zeros(0)
        with torch.enable_grad():
            leaf = x.detach().clone().requires_grad_()
            logits = model(leaf)
            if not logits.requires_grad:
                raise ValueError(f"{self.name}: no gradient of the model can be followed; use scores of logits")
            confidence = (logits.double() / self.temperature).log_softmax(dim=1).amax(dim=1)
            [slope] = torch.autograd.grad(confidence.sum(), leaf)  # samples do not touch each other
        with torch.no_grad():
            logits = model(x + float(self.eps) * slope.sign())
        return (logits.double() / self.temperature).softmax(dim=1).amax(dim=1).cpu().numpy()
