"""The one driver of gradient attacks.

An attack only says where to begin (`init`) and where to go next (`step`). The driver owns the rest: which samples
still stand, packing them, gradients, restarts, counting, the best point, and verification. All randomness comes
from one key a sample, so a sample's result does not depend on the batch it came in (up to the model's rounding).

Legend: B samples, ... the rest of a sample's shape, K classes.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from robustaug.attacks.inputs import check_class_range, check_classes, check_eps, check_samples, eps_rows
from robustaug.attacks.state import AttackResult, AttackWarning, State
from robustaug.attacks.verify import broken, verify
from robustaug.models.classifier import logits_of, require_eval
from robustaug.rng import Keys

if TYPE_CHECKING:
    from robustaug.attacks.gradient import GradientAttack


def run(
    attack: GradientAttack,
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    keys: Keys | None = None,
    eps: float | str | Tensor | None = None,
    target: Tensor | None = None,
) -> AttackResult:
    """Search for a point that breaks the model near each sample; stop at the first one found.

    The model is left exactly as it was found: mode, buffers, gradients and `requires_grad`.

    Args:
        model: any module in eval mode that returns logits.
        x: (B, ...) float32 or float64 in the attack's box.
        y: (B,) int64, the true classes.
        keys: one a sample; seed 0 and the position in the batch when left out.
        eps: a number, a fraction such as "8/255", or one a sample (B,); the attack's own when left out.
        target: (B,) int64 for a targeted attack; a random wrong class a sample when left out.

    Raises:
        TypeError: x, y or target of a wrong type, or a model that returns no logits.
        ValueError: a model in train mode or without gradients, or values, shapes or devices that do not fit.

    Warns:
        AttackWarning: the model returns probabilities, NaN, or gradients of zero.
    """
    check_samples(model, x, y, attack.threat)
    require_eval(model)
    budget = eps_rows(attack.eps if eps is None else eps, attack.threat, x)
    keys = _check_keys(keys, x)
    _check_target(attack, target, x)
    with torch.inference_mode(False), torch.enable_grad():
        # clones: tensors made in inference mode cannot take part in a gradient
        x, y, budget = x.detach().clone(), y.detach().clone().long(), budget.clone()
        if not len(x):
            return _empty(x)
        with torch.no_grad():
            logits = logits_of(model(x.clone()))  # a clone each time: the model may work in place
        check_class_range("y", y, logits.shape[1])
        for words in suspicions(logits):
            warnings.warn(words, AttackWarning, stacklevel=3)  # of the attack's caller
        label = _labels(attack, y, target, keys, logits.shape[1])
        return _search(attack, model, x, label, budget, keys, broken(logits, label, attack.targeted))


def _search(
    attack: GradientAttack, model: nn.Module, x: Tensor, label: Tensor, eps: Tensor, keys: Keys, success: Tensor
) -> AttackResult:
    found, best = x.clone(), torch.full_like(eps, -torch.inf)
    forwards, backwards = torch.ones_like(label), torch.zeros_like(label)
    moved = torch.zeros_like(success)  # had a gradient at least once
    radius = attack.threat.radius(x, eps)
    success = success.clone()
    standing = (~success & (radius > 0)).nonzero()[:, 0]
    asked = standing
    for restart in range(attack.restarts):
        if not len(standing):
            break
        at = standing
        state = attack.init(x[at], label[at], radius[at], keys[at].fold(restart))
        while True:
            last = state.steps == attack.steps
            logits, loss, grad = _ask(attack, model, state, last)
            fell = broken(logits, state.label, attack.targeted)
            better = fell | (loss > best[at])
            found[at] = torch.where(better.reshape(-1, *[1] * (x.ndim - 1)), state.x, found[at])
            best[at] = torch.where(better, loss, best[at])
            forwards[at] += 1
            success[at] = fell
            left = (~fell).nonzero()[:, 0]  # the step's one wait for the device
            if last or not len(left):
                break
            if len(left) < len(at):
                at, state, loss, grad = at[left], state.take(left), loss[left], grad[left]
            backwards[at] += 1
            moved[at] |= grad.flatten(1).any(1)
            state = attack.step(state, loss, grad)
        standing = standing[~success[standing]]
    silent = ~success & ~moved & (backwards > 0)
    _warn_of_gradients(len(asked), int(silent.sum()))
    verified = torch.zeros_like(success)
    rows = success.nonzero()[:, 0]
    verified[rows] = verify(model, x[rows], found[rows], label[rows], eps[rows], attack.threat, attack.targeted)
    norm = attack.threat.norm.measure(found.double() - x.double())
    return AttackResult(found, success, norm, forwards, backwards, verified, silent)


def perturb(attack: GradientAttack, model: nn.Module, x: Tensor, y: Tensor, keys: Keys) -> Tensor:
    """Return the attack's last point for each sample: the inner step of adversarial training.

    No early stop, no best point, no verification, and no wait for the device. The caller chooses the model's mode
    (batch statistics must not follow the attack's points: use eval mode) and has checked the labels.

    Args:
        x: (B, ...) floating in the attack's box.
        y: (B,) int64.
        keys: one a sample.

    Returns:
        (B, ...), without gradient.

    Raises:
        TypeError: y is not int64.
        ValueError: the attack has restarts or an eps beyond the box, or the model has no gradient.
    """
    if attack.restarts != 1:
        raise ValueError(f"{attack.name}: training takes one start a sample; set restarts to 1, not {attack.restarts}")
    check_classes("y", y, x)
    keys = _check_keys(keys, x)
    eps = torch.full((len(x),), attack.eps, dtype=torch.float64, device=x.device)
    check_eps(attack.eps, attack.threat, x[:1].numel())
    with torch.inference_mode(False), torch.enable_grad():
        x, y = x.detach().clone(), y.detach().clone()
        if not len(x):
            return x
        label = _labels(attack, y, None, keys, _classes(model, x)) if attack.targeted else y
        state = attack.init(x, label, attack.threat.radius(x, eps), keys.fold(0))
        for _ in range(attack.steps):
            _, loss, grad = _ask(attack, model, state)
            state = attack.step(state, loss, grad)
        return state.x.detach()


def _ask(attack: GradientAttack, model: nn.Module, state: State, last: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Return logits (B, K), the loss (B,) to push up and its gradient (B, ...): zeros at the last point."""
    if last:
        with torch.no_grad():
            logits = logits_of(model(state.x.clone()))
            return logits, attack.objective(logits, state.label), torch.zeros_like(state.x)
    x = state.x.detach().requires_grad_()
    logits = logits_of(model(x.clone()))
    loss = attack.objective(logits, state.label)
    if not loss.requires_grad:
        raise ValueError(
            "the model's output has no gradient (it detaches or rounds it); gradient attacks cannot judge it"
        )
    # with respect to the input alone: the parameters' .grad stays as it was
    [grad] = torch.autograd.grad(loss.sum(), x, allow_unused=True)
    grad = torch.zeros_like(x) if grad is None else torch.nan_to_num(grad, nan=0.0)
    return logits.detach(), loss.detach(), grad


def _labels(attack: GradientAttack, y: Tensor, target: Tensor | None, keys: Keys, classes: int) -> Tensor:
    """Return the class each sample is led away from or, when targeted, towards."""
    if not attack.targeted:
        return y
    if target is None:
        other = 1 + (keys.fold("target").uniform()[:, 0] * (classes - 1)).long()
        return (y + other.clamp_max(classes - 1)) % classes
    target = target.detach().clone().long()
    check_class_range("target", target, classes)
    return target


def _classes(model: nn.Module, x: Tensor) -> int:
    known: Any = getattr(model, "num_classes", None)
    if isinstance(known, int):
        return known
    with torch.no_grad():
        return logits_of(model(x.clone())).shape[1]


def _check_keys(keys: Keys | None, x: Tensor) -> Keys:
    keys = Keys.of(0, len(x)) if keys is None else keys
    if len(keys) != len(x):
        raise ValueError(f"keys must have one entry a sample: {len(x)} samples, {len(keys)} keys")
    return keys.to(x.device)


def _check_target(attack: GradientAttack, target: Tensor | None, x: Tensor) -> None:
    if target is None:
        return
    if not attack.targeted:
        raise ValueError(f"{attack.name}: target is for targeted attacks; set targeted=True")
    check_classes("target", target, x)


def suspicions(logits: Tensor) -> list[str]:
    """Return what about a model's clean outputs (B, K) makes an attack's figures less than they seem, in words."""
    words = []
    if nan := int(logits.isnan().any(1).sum()):
        words.append(f"the model returns NaN for {nan} of {len(logits)} clean samples; they never count as broken")
    rows = logits.double()
    if bool(((rows >= 0).all(1) & ((rows.sum(1) - 1).abs() < 1e-4)).all()):
        words.append(
            "the model seems to return probabilities (its rows sum to 1), which starves gradients and makes it look "
            "robust; return logits instead"
        )
    return words


def _warn_of_gradients(asked: int, silent: int) -> None:
    if silent:
        message = (
            f"{silent} of {asked} attacked samples had a gradient of exactly zero at every step; that they stood is no "
            "evidence of robustness: try loss='margin', or an attack that needs no gradients"
        )
        warnings.warn(message, AttackWarning, stacklevel=5)  # of the attack's caller


def _empty(x: Tensor) -> AttackResult:
    def none(dtype: torch.dtype) -> Tensor:
        return torch.zeros(0, dtype=dtype, device=x.device)

    counts = none(torch.int64)
    flags = none(torch.bool)
    return AttackResult(x, flags, none(torch.float64), counts, counts.clone(), flags.clone(), flags.clone())
