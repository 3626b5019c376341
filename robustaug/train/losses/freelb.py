"""Adversarial training of text classifiers, in the space of their embeddings.

Legend: B texts, L tokens of the longest, D numbers of an embedding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from robustaug.models.text_classifier import check_face
from robustaug.registry import register
from robustaug.rng import torch_seed, uniform_field
from robustaug.train.loss import Loss, Memory, cross_entropy
from robustaug.train.view import View


@register("loss.freelb", modality="text", tags={"robust"})
@dataclass(frozen=True, kw_only=True, repr=False)
class FreeLB(Loss):
    """Cross-entropy averaged over the points of an ascent that moves the embedded tokens of each text.

    Every point counts, so the ascent's own passes are what the weights learn from. All of them use one dropout mask.
    Source: Zhu et al. 2020, arXiv:1909.11764, algorithm 1 and section 3.3; the ball is that of the Frobenius norm over
    all tokens of a text, and padding does not move.

    Attributes:
        steps: K, points that count; 1 is training on random perturbations.
        step_size: alpha, length of a step.
        eps: radius of the ball, 0 for none, in units of the embeddings. The first point is drawn evenly from
            [-eps, eps] a number, over the root of how many numbers a text has.

    Raises:
        TypeError: in use, a model without `embed` and `from_embeddings`, see `TextClassifier`.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"embeddings"})
    one_prediction: ClassVar[bool] = False

    steps: int = 3
    step_size: float = 0.1
    eps: float = 0.2

    def __post_init__(self) -> None:
        self.check_count("steps")
        self.check_number("step_size")
        self.check_number("eps")

    def __call__(self, model: nn.Module, view: View, memory: Memory) -> Tensor:
        check_face(self.name, model)
        face: Any = model
        embedded, mask = face.embed(view.x)
        there = mask[..., None].to(embedded.dtype)
        numbers = (mask.sum(1) * embedded.shape[2]).clamp_min(1)  # of each text
        keys = view.keys.fold("freelb")
        # row by row, so that a text's draw does not depend on the longest one of its batch
        drawn = uniform_field(keys.rows(), tuple(embedded.shape[1:])).to(embedded)
        delta = there * self.eps * (2 * drawn - 1) / numbers.to(embedded.dtype).sqrt()[:, None, None]
        target = view.y if view.target is None else view.target
        seed = int(keys.bits()[0, 0])
        total = embedded.new_zeros(len(view), dtype=torch.float32)
        for step in range(self.steps):
            delta = delta.detach().requires_grad_()
            with torch_seed(seed, embedded.device):
                losses = cross_entropy(face.from_embeddings(embedded + delta, mask), target)
            total = total + losses / self.steps
            if step < self.steps - 1:
                [slope] = torch.autograd.grad(losses.sum(), delta, retain_graph=True)
                delta = self._climbed(delta.detach(), slope * there)
        return total

    def _climbed(self, delta: Tensor, slope: Tensor) -> Tensor:
        """Return delta (B, L, D) after a step of steepest ascent, projected to the ball."""
        delta = delta + self.step_size * slope / _length(slope).clamp_min(1e-20)
        return delta * (self.eps / _length(delta).clamp_min(1e-20)).clamp_max(1.0)


def _length(delta: Tensor) -> Tensor:
    """Return the Frobenius norm of each text's numbers, (B, 1, 1)."""
    return torch.linalg.vector_norm(delta, dim=(1, 2), keepdim=True)
