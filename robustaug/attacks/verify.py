"""The verifier: a claim that a model was broken is checked again before anyone counts it.

Legend: B samples, K classes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from robustaug.attacks.inputs import slip_of
from robustaug.attacks.threat import Ball, within
from robustaug.models.classifier import logits_of

MOST = 512
"""Samples a pass, so that any number of witnesses can be checked."""


def broken(logits: Tensor, label: Tensor, targeted: bool = False) -> Tensor:
    """Return (B,) bool: the model says another class than `label`, or, when targeted, says it.

    A row with a NaN, or whose largest logit is infinite, is no answer and never counts as broken.
    """
    answers = logits.detach().amax(1).isfinite()  # the maximum of a row with a NaN is NaN
    said = logits.argmax(1)
    return answers & (said == label if targeted else said != label)


def verify(
    model: nn.Module, ball: Ball, x_adv: Tensor, label: Tensor, targeted: bool = False, most: int = MOST
) -> Tensor:
    """Check again that each `x_adv` is allowed and breaks the model.

    The norm is measured in float64 and may exceed eps by one millionth; the box is exact but for rounding of the
    clean sample; the model is asked without autocast and TF32, at another batch size than the whole batch.

    Args:
        ball: the clean samples, the budgets, the box and the mask.
        x_adv: (B, ...).
        label: (B,) int64, the true class, or the target when targeted.
        most: samples a pass; a sample that is alone is asked as two.

    Returns:
        (B,) bool.
    """
    x_adv = x_adv.detach()
    if not len(x_adv):
        return torch.zeros(0, dtype=torch.bool, device=x_adv.device)
    # a single sample is asked twice in a batch of two: the attack may have asked for it alone itself
    asked, size = (torch.cat([x_adv, x_adv]), 2) if len(x_adv) == 1 else (x_adv, min((len(x_adv) + 1) // 2, most))
    with torch.no_grad(), full_precision(asked.device):
        logits = torch.cat([logits_of(model(part.clone())) for part in asked.split(size)])
    return allowed(ball, x_adv) & broken(logits[: len(x_adv)], label, targeted)


def allowed(ball: Ball, x_adv: Tensor) -> Tensor:
    """Return (B,) bool: x_adv is within eps but for one millionth, inside the box, and unchanged off the mask."""
    near = within(ball.measure(x_adv), ball.eps)
    slip = slip_of(ball.threat, x_adv)
    low, high = (
        torch.as_tensor(v, dtype=x_adv.dtype, device=x_adv.device) for v in (ball.threat.low, ball.threat.high)
    )
    inside = ((x_adv >= low - slip) & (x_adv <= high + slip)).flatten(1).all(1)
    if ball.mask is None:
        return near & inside
    return near & inside & ((x_adv == ball.clean) | ball.mask).flatten(1).all(1)


@contextlib.contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """No autocast; on CUDA no TF32 in matrix products and convolutions either. Put back afterwards."""
    with torch.autocast(device.type, enabled=False):
        if device.type != "cuda":
            yield
            return
        cudnn = torch.backends.cudnn
        precision = torch.get_float32_matmul_precision()
        try:
            torch.set_float32_matmul_precision("highest")
            with cudnn.flags(cudnn.enabled, cudnn.benchmark, cudnn.benchmark_limit, cudnn.deterministic, False):
                yield
        finally:
            torch.set_float32_matmul_precision(precision)
