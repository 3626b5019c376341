"""Adversarial training of text classifiers, in the space of their embeddings.

Legend: B texts, L tokens of the longest, D numbers of an embedding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from robustaug.attacks.ask import in_fp16, slopes
from robustaug.attacks.threat import NORMS, Threat
from robustaug.models.text_classifier import check_face
from robustaug.registry import register
from robustaug.rng import torch_seed, uniform_field
from robustaug.train.loss import Loss, Memory, cross_entropy
from robustaug.train.view import View

FREE = Threat(NORMS["L2"], -torch.inf, torch.inf)
"""Steps in the Frobenius norm over all of a text's numbers, which have no limits of their own."""


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
        eps: radius of the ball, in units of the embeddings; with 0 nothing moves, and it is plain cross-entropy. The
            first point is drawn evenly from [-eps, eps] a number, over the root of how many numbers a text has.

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
        radius, length = (embedded.new_full((len(view),), size) for size in (self.eps, self.step_size))
        there = mask[..., None].expand_as(embedded)
        ball = FREE.around(torch.zeros_like(embedded), radius.double(), there)
        numbers = (mask.sum(1) * embedded.shape[2]).clamp_min(1)  # of each text
        keys = view.keys.fold("freelb")
        # row by row, so that a text's draw does not depend on the longest one of its batch
        drawn = uniform_field(keys.rows(), tuple(embedded.shape[1:])).to(embedded)
        delta = ball.masked(self.eps * (2 * drawn - 1) / numbers.to(embedded.dtype).sqrt()[:, None, None])
        target = view.y if view.target is None else view.target
        seed = int(keys.bits()[0, 0])
        total = embedded.new_zeros(len(view), dtype=torch.float32)
        for step in range(self.steps):
            delta = delta.detach().requires_grad_()
            with torch_seed(seed, embedded.device):
                logits = face.from_embeddings(embedded + delta, mask).float()
            losses = cross_entropy(logits, target)
            total = total + losses / self.steps
            if step < self.steps - 1:
                slope = slopes(losses, logits, delta, in_fp16(delta.device), retain_graph=True)
                assert slope is not None  # the logits are those of the moved embeddings
                delta = ball.climb(delta.detach(), slope, length)
        return total
