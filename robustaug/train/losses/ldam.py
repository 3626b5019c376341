"""Label-distribution-aware margins: the rarer a class, the wider the margin it must win by.

Legend: B samples, K classes, n_k training samples of class k.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robustaug.registry import register
from robustaug.train.loss import Loss, Memory
from robustaug.train.losses.logit_adjustment import class_counts
from robustaug.train.view import Facts, View

MOST = 30
"""The greatest scale times margin: e^-30 is what float64 can tell from 0 beside 1."""


@register("loss.ldam", tags={"rare_classes"})
@dataclass(frozen=True, kw_only=True, repr=False)
class Ldam(Loss):
    """Cross-entropy after scale times the margin of the true class is taken from its logit; rare classes weighed late.

    The margin of class k is proportional to n_k^(-1/4), the greatest being `margin`. From `reweight_from` on each
    sample has a weight by its class, the inverse of the effective number (1 - beta^n_k) / (1 - beta): deferred
    re-weighting. Weights are 1 on the mean over the training samples, as a weighted mean over a batch has it.
    Source: Cao et al. 2019 (arXiv:1906.07413), equations 12 and 13, algorithm 1; the effective number is that of Cui
    et al. 2019 (arXiv:1901.05555), equation 2. Published for a model that gives cosines times 30, `model.cosine_head`.

    Attributes:
        margin: of the rarest class, >= 0, in units of logits / scale; published 0.5.
        scale: > 0, what the model multiplies its cosines by; 1 for ordinary logits.
        reweight_from: share of the epochs in [0, 1] before re-weighting; 1 is never, published 0.8.
        beta: in [0, 1); 0 gives all samples the same weight, published 0.9999.
    """

    margin: float = 0.5
    scale: float = 1.0
    reweight_from: float = 0.8
    beta: float = 0.9999

    def __post_init__(self) -> None:
        self.check_number("margin")
        self.check_number("scale", least=torch.finfo(torch.float32).tiny)
        if self.scale * self.margin > MOST:
            raise ValueError(f"{self.name}: scale times margin must be <= {MOST}, got {self.scale * self.margin:g}")
        self.check_number("reweight_from", most=1)
        self.check_number("beta", most=1 - torch.finfo(torch.float64).eps)

    def memory(self, facts: Facts) -> Memory:
        counts = class_counts(self.name, facts).double()
        margins = self.margin * (counts / counts.min()) ** -0.25
        weights = (1 - self.beta) / (1 - self.beta**counts)
        weights = weights * counts.sum() / (weights * counts).sum()
        return {
            "margins": margins.float(),
            "weights": weights.float(),
            "reweighted_from": torch.tensor(self.reweight_from * facts.epochs),  # looked at on the processor
        }

    def of(self, logits: Tensor, view: View, memory: Memory) -> Tensor:
        if view.epoch < float(memory["reweighted_from"]):
            memory = memory | {"weights": torch.ones_like(memory["weights"])}
        return super().of(logits, view, memory)

    def per_class(self, logits: Tensor, memory: Memory) -> Tensor:
        # with d off its own logit alone, a class's share p becomes p e^-d / (1 - p + p e^-d); float64 holds 1 - p
        lowered, logs = self.scale * memory["margins"].double(), logits.double().log_softmax(1)
        losses = lowered - logs + torch.log1p(logs.exp() * torch.expm1(-lowered))
        return (memory["weights"] * losses).float()
