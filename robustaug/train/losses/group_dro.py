"""Group DRO: the group that is learned worst counts most.

Legend: B samples, G groups, n_g training samples of group g.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from robustaug.registry import register
from robustaug.train.loss import Loss, Memory
from robustaug.train.view import Facts, View


@register("loss.group_dro", tags={"groups"})
@dataclass(frozen=True, kw_only=True, repr=False)
class GroupDro(Loss):
    """Sum over groups of q_g times the group's mean cross-entropy; q follows the worst by exponentiated gradient.

    Before each use q_g is multiplied by exp(step_size (L_g + adjustment / sqrt(n_g))) for the groups in the batch, of
    all processes, and divided by its sum. A group that is not in the batch keeps its share.
    Source: Sagawa et al. 2020 (arXiv:1911.08731), algorithm 1 and equation 5. Batches here are drawn over samples, not
    over groups: a rare group is often absent, and its weight grows the slower; set a greater step_size for it.

    Attributes:
        step_size: of q, > 0; published 0.01.
        adjustment: C >= 0, against the greater chance of small groups to be learned by heart; published 0 to 5.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"group"})

    step_size: float = 0.01
    adjustment: float = 0.0

    def __post_init__(self) -> None:
        self.check_number("step_size", least=torch.finfo(torch.float32).tiny)
        self.check_number("adjustment")

    def memory(self, facts: Facts) -> Memory:
        assert facts.groups is not None  # it `needs` them
        counts = torch.bincount(facts.groups, minlength=len(facts.group_names)).to(facts.device, torch.float32)
        return {"weights": torch.full_like(counts, 1 / len(counts)), "handicap": self.adjustment / counts.sqrt()}

    def __call__(self, model: nn.Module, view: View, memory: Memory) -> Tensor:
        losses = super().__call__(model, view, memory)
        assert view.group is not None
        groups, seen, weights = view.everywhere(view.group), view.everywhere(losses.detach()), memory["weights"]
        counts = torch.zeros_like(weights).index_add_(0, groups, torch.ones_like(seen))
        means = torch.zeros_like(weights).index_add_(0, groups, seen) / counts.clamp_min(1)
        grown = torch.where(counts > 0, self.step_size * (means + memory["handicap"]), 0.0)
        weights.copy_((weights.log() + grown).softmax(0))
        # the mean over the batch of what is returned is the sum over groups of q_g L_g
        return losses * (weights * len(groups) / counts.clamp_min(1))[view.group]
