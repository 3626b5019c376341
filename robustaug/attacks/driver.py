"""The one driver of attacks.

An attack only says where to begin (`init`) and where to go next (`step`); it reaches the model through `Ask`. The
driver owns the rest: which samples still stand, packing them, rounds, counting, the best point, checkpoints and
verification. All randomness comes from one key a sample, so a sample's result does not depend on the batch it came
in (up to the model's rounding).

Legend: B samples, ... the rest of a sample's shape, K classes.
"""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from robustaug.attacks.ask import Ask
from robustaug.attacks.execution import Execution
from robustaug.attacks.inputs import check_class_range, check_classes, check_eps, check_samples, eps_rows, mask_rows
from robustaug.attacks.session import Session
from robustaug.attacks.state import AttackResult, AttackWarning, State
from robustaug.models.classifier import logits_of, require_eval
from robustaug.rng import Keys

if TYPE_CHECKING:
    from robustaug.attacks.attack import Attack


def run(
    attack: Attack,
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    keys: Keys | None = None,
    eps: float | str | Tensor | None = None,
    target: Tensor | None = None,
    mask: Tensor | None = None,
    execution: Execution | None = None,
) -> AttackResult:
    """Search for a point that breaks the model near each sample.

    The model is left exactly as it was found: mode, buffers, gradients and `requires_grad`.

    Args:
        model: any module in eval mode that returns logits.
        x: (B, ...) float32 or float64 in the attack's box.
        y: (B,) int64, the true classes.
        keys: one a sample; seed 0 and the position in the batch when left out.
        eps: a number, a fraction such as "8/255", or one a sample (B,); the attack's own when left out.
        target: (B,) int64 for a targeted attack; a random wrong class a sample when left out.
        mask: bool, of the shape of x or of one sample: the values that may be changed.
        execution: batches, precision, compilation, progress, checkpoints.

    Raises:
        TypeError: x, y, target or mask of a wrong type, or a model that returns no logits.
        ValueError: a model in train mode, without gradients or with probabilities for logits, or values, shapes or
            devices that do not fit.

    Warns:
        AttackWarning: the model returns NaN, or gradients of zero.
    """
    execution = execution or Execution()
    check_samples(model, x, y, attack.threat)
    require_eval(model)
    budget = eps_rows(attack.eps if eps is None else eps, attack.threat, x, math.isinf(attack.usual_eps()))
    keys = _check_keys(keys, x)
    _check_target(attack, target, x)
    # how the model is asked is for `execution` to say, not for an autocast around the call
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(x.device.type, enabled=False):
        allowed = None if mask is None else mask_rows(mask, x)
        # clones: tensors made in inference mode cannot take part in a gradient
        x, y, budget = x.detach().clone(), y.detach().clone().long(), budget.clone()
        if not len(x):
            return _empty(x)
        logits = clean_logits(model, x, execution)
        check_class_range("y", y, logits.shape[1])
        for words in suspicions(logits):
            warnings.warn(words, AttackWarning, stacklevel=3)  # of the attack's caller
        label = labels_of(attack, y, target, keys, logits.shape[1])
        session = Session(model, execution, attack.threat, x, label, logits, budget, keys, allowed, attack.targeted)
        session.beyond = attack.minimal
        session.resume(attack)
        attack.pursue(session)
        result = session.result()
        _warn_of_gradients(int((result.backwards > 0).sum()), int(result.silent.sum()))
        if execution.checkpoint is not None:
            Path(execution.checkpoint).unlink(missing_ok=True)  # it has served
        return result


def clean_logits(model: nn.Module, x: Tensor, execution: Execution) -> Tensor:
    """Return the logits (B, K) of the model itself at x, asked in the passes of `execution`.

    Raises:
        ValueError: the model returns probabilities.
    """
    with torch.no_grad():
        parts = x.split(execution.pass_size(x))
        logits = torch.cat([logits_of(model(part.clone())) for part in parts])  # a model may work in place
    if are_probabilities(logits):
        raise ValueError(
            "the model returns probabilities (its rows are >= 0 and sum to 1), which starve gradients and make it look "
            "robust; return logits, or wrap it: robustaug.attacks.masking.LogProbabilities(model)"
        )
    return logits


def perturb(attack: Attack, model: nn.Module, x: Tensor, y: Tensor, keys: Keys, eps: float | None = None) -> Tensor:
    """Return the attack's last point for each sample: the inner step of adversarial training.

    No early stop, no best point, no verification, and no wait for the device. The caller chooses the model's mode
    (batch statistics must not follow the attack's points: use eval mode) and has checked the labels.

    Args:
        x: (B, ...) floating in the attack's box.
        y: (B,) int64.
        keys: one a sample.
        eps: the budget; the attack's own when left out.

    Returns:
        (B, ...), without gradient.

    Raises:
        TypeError: y is not int64.
        ValueError: the attack has restarts or an eps beyond the box, or the model has no gradient.
    """
    return last_state(attack, model, x, y, keys, eps=eps).x.detach()


def last_state(
    attack: Attack,
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    keys: Keys,
    target: Tensor | None = None,
    mask: Tensor | None = None,
    eps: float | None = None,
) -> State:
    """Return where an attack that nobody watches ends; as `perturb`, with the target and the mask of `run`."""
    budget = attack.eps if eps is None else eps
    if attack.restarts != 1:
        raise ValueError(f"{attack.name}: training takes one start a sample; set restarts to 1, not {attack.restarts}")
    check_classes("y", y, x)
    _check_target(attack, target, x)
    keys = _check_keys(keys, x)
    allowed = None if mask is None else mask_rows(mask, x)
    rows = torch.full((len(x),), budget, dtype=torch.float64, device=x.device)
    check_eps(budget, attack.threat, x[:1].numel())
    with torch.inference_mode(False), torch.enable_grad():
        x, y = x.detach().clone(), y.detach().clone()
        logits = _clean_if_wanted(attack, model, x) if len(x) else x.new_zeros(0, 1)
        label = labels_of(attack, y, target, keys, logits.shape[1]) if attack.targeted else y
        start = State(attack.threat.around(x, rows, allowed), label, logits, keys.fold(0), x)
        if not len(x):
            return start
        ask = Ask(lambda points: model(points.clone()), Execution())
        state = attack.init(start, ask)
        while state.steps < attack.steps:
            state = attack.step(state, ask)
        return state


def _clean_if_wanted(attack: Attack, model: nn.Module, x: Tensor) -> Tensor:
    """Return logits (B, K) of x; zeros where only their number is of interest and is known."""
    known: Any = getattr(model, "num_classes", None)
    if isinstance(known, int) and not attack.reads_logits:
        return x.new_zeros(len(x), known)
    if not attack.targeted and not attack.reads_logits:
        return x.new_zeros(len(x), 1)
    with torch.no_grad():
        return logits_of(model(x.clone()))


def labels_of(attack: Attack, y: Tensor, target: Tensor | None, keys: Keys, classes: int) -> Tensor:
    """Return the class each sample is led away from or, when targeted, towards, (B,) int64.

    Where no target is given, it is a random wrong class a sample, by the sample's key.
    """
    if not attack.targeted:
        return y
    if target is None:
        other = 1 + (keys.fold("target").uniform()[:, 0] * (classes - 1)).long()
        return (y + other.clamp_max(classes - 1)) % classes
    target = target.detach().clone().long()
    check_class_range("target", target, classes)
    return target


def _check_keys(keys: Keys | None, x: Tensor) -> Keys:
    keys = Keys.of(0, len(x)) if keys is None else keys
    if len(keys) != len(x):
        raise ValueError(f"keys must have one entry a sample: {len(x)} samples, {len(keys)} keys")
    return keys.to(x.device)


def _check_target(attack: Attack, target: Tensor | None, x: Tensor) -> None:
    if target is None:
        return
    if not attack.targeted:
        raise ValueError(f"{attack.name}: target is for targeted attacks; set targeted=True")
    check_classes("target", target, x)


def are_probabilities(logits: Tensor) -> bool:
    """Whether rows (B, K) are all >= 0 and sum to 1."""
    rows = logits.double()
    return bool(len(rows)) and bool(((rows >= 0).all(1) & ((rows.sum(1) - 1).abs() < 1e-4)).all())


def suspicions(logits: Tensor) -> list[str]:
    """Return what about a model's clean outputs (B, K) makes an attack's figures less than they seem, in words."""
    if nan := int(logits.isnan().any(1).sum()):
        return [f"the model returns NaN for {nan} of {len(logits)} clean samples; they never count as broken"]
    return []


def _warn_of_gradients(asked: int, silent: int) -> None:
    if silent:
        message = (
            f"{silent} of {asked} attacked samples had a gradient of exactly zero at every step; that they stood is no "
            "evidence of robustness: try loss='margin', or an attack that needs no gradients"
        )
        warnings.warn(message, AttackWarning, stacklevel=4)  # of the attack's caller


def _empty(x: Tensor) -> AttackResult:
    def none(dtype: torch.dtype) -> Tensor:
        return torch.zeros(0, dtype=dtype, device=x.device)

    flags, counts = none(torch.bool), none(torch.int64)
    columns = counts, counts.clone(), flags.clone(), flags.clone(), counts, flags.clone()
    return AttackResult(x, flags, none(torch.float64), *columns, {})
