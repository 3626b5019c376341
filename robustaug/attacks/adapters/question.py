"""A stand-in for the model under attack, to be given to code that is not ours.

Legend: B samples, ... the rest of a sample's shape, K classes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from robustaug.attacks.ask import Ask, require_slope


class Question(nn.Module):
    """Ask the model, count the passes, and let gradients through to the input alone.

    It has a device and nothing else of the model: no parameters, modes or hooks that could be changed by accident.

    Attributes:
        ask: of the samples that are asked about; a batch of another size is taken to hold them in turn, over and over.
        place: a number on the samples' device, for code that looks for the device there.
    """

    def __init__(self, ask: Ask, x: Tensor) -> None:
        super().__init__()
        self.ask, self.count, self.training = ask, len(x), False
        self.place = nn.Parameter(x.new_zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, K)."""
        ask = self.ask.of(torch.arange(len(x), device=x.device) % self.count)
        if ask.witness is not None:
            ask.witness.reserve(1)
            ask.witness.spent(1, 0, None)
        if torch.is_grad_enabled() and x.requires_grad:
            return _Answer.apply(x, ask)  # type: ignore[no-any-return]
        with torch.no_grad():
            return ask.forward(x)


class _Answer(torch.autograd.Function):
    """Logits whose gradient ends at the input: the parameters' .grad stays as it is, whatever calls backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, ask: Ask) -> Tensor:
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            logits = ask.forward(leaf)
        ctx.leaf, ctx.logits, ctx.ask = leaf, logits, ask
        return logits.detach()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        require_slope(ctx.logits)
        [found] = torch.autograd.grad(ctx.logits, ctx.leaf, grad, retain_graph=True, allow_unused=True)
        # a copy: CUDA graphs write each gradient to the same place
        found = torch.zeros_like(ctx.leaf) if found is None else found.clone()
        if ctx.ask.witness is not None:
            ctx.ask.witness.spent(0, 1, found)
        return found, None
