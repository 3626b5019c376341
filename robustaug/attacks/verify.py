"""The verifier: a claim that a model was broken is checked again before anyone counts it.

Legend: B samples, K classes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from robustaug.attacks.execution import filled
from robustaug.attacks.inputs import slip_of
from robustaug.attacks.threat import Ball, within
from robustaug.models.classifier import logits_of


def broken(logits: Tensor, label: Tensor, targeted: bool = False) -> Tensor:
    """Return (B,) bool: the model says another class than `label`, or, when targeted, says it.

    A row with a NaN, or whose largest logit is infinite, is no answer and never counts as broken.
    """
    answers = logits.detach().amax(1).isfinite()  # the maximum of a row with a NaN is NaN
    said = logits.argmax(1)
    return answers & (said == label if targeted else said != label)


def verify(model: nn.Module, ball: Ball, x_adv: Tensor, label: Tensor, size: int, targeted: bool = False) -> Tensor:
    """Check again that each `x_adv` is allowed and breaks the model.

    The norm is measured in float64 and may exceed eps by one millionth; the box is exact but for rounding of the
    clean sample; the model is asked without autocast and TF32, `size` samples a pass.

    Args:
        ball: the clean samples, the budgets, the box and the mask.
        x_adv: (B, ...).
        label: (B,) int64, the true class, or the target when targeted.
        size: samples a pass, exactly: one that no pass of the attack had, `Execution.check_size`.

    Returns:
        (B,) bool.
    """
    x_adv = x_adv.detach()
    if not len(x_adv):
        return torch.zeros(0, dtype=torch.bool, device=x_adv.device)
    return allowed(ball, x_adv) & broken(asked_anew(model, x_adv, size), label, targeted)


def asked_anew(model: nn.Module, x: Tensor, size: int) -> Tensor:
    """Return the model's logits (B, K) at x (B, ...), B >= 1, without autocast and TF32, exactly `size` samples a pass.

    The last pass is filled up with copies of its last sample: a smaller one might be of a size that the attack had.
    """
    with torch.no_grad(), full_precision(x.device):
        parts = [logits_of(model(filled(part, size))) for part in x.split(size)]
    return torch.cat(parts)[: len(x)]


def allowed(ball: Ball, x_adv: Tensor) -> Tensor:
    """Return (B,) bool: x_adv is within eps but for one millionth, inside the box, and unchanged off the mask."""
    return within_eps(ball, x_adv) & inside_box(ball, x_adv) & kept_off_mask(ball, x_adv)


def within_eps(ball: Ball, x_adv: Tensor) -> Tensor:
    """Return (B,) bool: the norm, measured in float64, is at most eps but for one millionth."""
    return within(ball.measure(x_adv), ball.eps)


def inside_box(ball: Ball, x_adv: Tensor) -> Tensor:
    """Return (B,) bool: every value is in the box but for rounding."""
    slip = slip_of(ball.threat, x_adv)
    low, high = (
        torch.as_tensor(v, dtype=x_adv.dtype, device=x_adv.device) for v in (ball.threat.low, ball.threat.high)
    )
    return ((x_adv >= low - slip) & (x_adv <= high + slip)).flatten(1).all(1)


def kept_off_mask(ball: Ball, x_adv: Tensor) -> Tensor:
    """Return (B,) bool: no value that may not be changed was changed."""
    if ball.mask is None:
        return torch.ones(len(x_adv), dtype=torch.bool, device=x_adv.device)
    return ((x_adv == ball.clean) | ball.mask).flatten(1).all(1)


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
