"""Wrappers that give an attack what a model hides: logits, gradients, answers that stay the same."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from robustaug.models.classifier import logits_of


class LogProbabilities(nn.Module):
    """Give a model that returns probabilities its logits back, up to a constant a sample: their logarithms.

    Attributes:
        module: returns probabilities (B, K).
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.training = module.training

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, K)."""
        probabilities = logits_of(self.module(x))
        return probabilities.clamp_min(torch.finfo(probabilities.dtype).tiny).log()


class OneByOne(nn.Module):
    """Ask a model about one sample at a time, so that no answer depends on the rest of the batch.

    Attributes:
        module: returns logits (B, K).
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.training = module.training

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, K)."""
        return torch.cat([logits_of(self.module(row)) for row in x.split(1)])


class BPDA(nn.Module):
    """Give a stage, such as quantising or JPEG, the gradient of another function that does nearly the same.

    Backward pass differentiable approximation: Athalye et al. 2018, arXiv:1802.00420, section 4.1. What the stage
    answers stays as it is, to the last bit.

    Attributes:
        module: the stage, run forwards.
        backward: takes the same input and returns the same shape; its gradient is taken. The identity when left out.

    >>> stage = BPDA(torch.nn.Hardshrink(10.0))  # answers 0 below 10, and has no slope there
    >>> x = torch.ones(2, requires_grad=True)
    >>> torch.autograd.grad(stage(x).sum(), x)[0].tolist(), stage(x).tolist()
    ([1.0, 1.0], [0.0, 0.0])
    """

    def __init__(self, module: nn.Module, backward: Callable[[Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self.module = module
        self.backward = backward
        self.training = module.training

    def forward(self, x: Tensor) -> Tensor:
        """Return what the stage returns for x.

        Raises:
            ValueError: what stands in for the gradient returns another shape than the stage.
        """
        with torch.no_grad():
            value = self.module(x)
        return with_value(x if self.backward is None else self.backward(x), value)


@contextlib.contextmanager
def straight_through(stage: nn.Module) -> Iterator[None]:
    """Let the gradient pass a stage of a model as if it were the identity, inside the block: BPDA without wrapping."""

    def keep_value(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> Tensor:
        return with_value(inputs[0], output)

    handle = stage.register_forward_hook(keep_value)
    try:
        yield
    finally:
        handle.remove()


def with_value(slope: Tensor, value: Tensor) -> Tensor:
    """Return `value` with the gradient of `slope`.

    Raises:
        ValueError: their shapes differ.
    """
    if slope.shape != value.shape:
        raise ValueError(
            f"BPDA: backward must return the shape of the stage's output {tuple(value.shape)}, got {tuple(slope.shape)}"
        )
    return _WithValue.apply(slope, value)


class _WithValue(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, slope: Tensor, value: Tensor) -> Tensor:
        return value.detach().clone()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return grads[0], None
