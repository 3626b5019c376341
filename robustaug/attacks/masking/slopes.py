"""Signs in where a model's gradients lead: nowhere, or less far than other ways.

Legend: B samples, ... the rest of a sample's shape, K classes.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from robustaug.attacks.driver import are_probabilities, perturb
from robustaug.attacks.losses import margin
from robustaug.attacks.masking.remedies import LogProbabilities, straight_through
from robustaug.attacks.masking.trial import STEPS, Finding, Trial, own_randomness, standing, witnessed
from robustaug.attacks.state import AttackResult
from robustaug.attacks.threat import Ball
from robustaug.attacks.verify import verify
from robustaug.models.classifier import logits_of

RESTARTS = 3
FACTORS = (2, 4)
"""Times the budget, where more must break more."""
LOOKED_AT = 8
"""Samples that tell whether another model's gradients can be followed."""
FEW, SOME = 0.05, 0.1
"""Shares of the samples that chance explains: by an attack that should be weaker, and by one that is as strong."""


def zero_gradients(trial: Trial, direct: AttackResult | None, fell: Tensor) -> Finding | None:
    """Try another loss, a way around the stage that has no slope, and an attack that needs none; keep the best."""
    silent = ~fell if direct is None else direct.silent
    if not bool(silent.any()):
        return None
    count, n = int(silent.sum()), len(fell)
    message = f"{count} of {n} samples stood without ever having a gradient"
    if direct is None:
        message = "its output has no gradient at all (it detaches or rounds it)"
    finding = Finding("zero_gradients", message, {"samples": n, "silent": count})
    left = trial.take((~fell).nonzero()[:, 0])
    tried = {}
    if direct is not None:
        tried["the margin as loss"] = left.attack(loss="margin")
    if (stage := _stage_without_slope(left)) is not None:
        with straight_through(stage[1]):
            tried[f"the gradient led straight through {stage[0]} (BPDA)"] = left.attack(loss="margin")
    if (name := trial.searcher) is not None:
        tried[f"{name}, which needs no gradients"] = left.search(name)
    if not tried:
        return finding
    remedy, best = max(tried.items(), key=lambda item: int(witnessed(item[1]).sum()))
    return finding._replace(remedy=remedy, before=len(left.x) / n, after=int((~witnessed(best)).sum()) / n)


def _stage_without_slope(trial: Trial) -> tuple[str, nn.Module] | None:
    """Return the first part of the model that keeps its input's shape and lets no gradient through."""
    seen: list[tuple[str, nn.Module, Tensor, Tensor]] = []

    def watch(name: str) -> Any:
        def look(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            given = inputs[0] if inputs else None
            if isinstance(given, Tensor) and isinstance(output, Tensor) and given.shape == output.shape:
                seen.append((name, module, given, output))

        return look

    # compiled TorchScript shows no stages
    parts = [(n, part) for n, part in trial.model.named_modules() if n and not isinstance(part, torch.jit.ScriptModule)]
    handles = [part.register_forward_hook(watch(name)) for name, part in parts]
    try:
        value = margin(logits_of(trial.model(trial.x.clone().requires_grad_().clone())), trial.y).sum()
    finally:
        for handle in handles:
            handle.remove()
    for name, part, given, output in seen:
        if given.requires_grad and not output.requires_grad:
            return name, part
        if given.requires_grad and value.requires_grad and _moved(value, output) and not _moved(value, given):
            return name, part
    return None


def _moved(value: Tensor, by: Tensor) -> bool:
    [grad] = torch.autograd.grad(value, by, retain_graph=True, allow_unused=True)
    return grad is not None and bool(grad.any())


def budget(trial: Trial, direct: AttackResult) -> Finding | None:
    """A point that is allowed at one budget is allowed at every larger one."""
    most = trial.threat.width * trial.threat.norm.of_ones(trial.x[0].numel())
    fell, accuracy = witnessed(direct), {trial.eps: standing(witnessed(direct))}
    for factor in FACTORS:
        eps = min(trial.eps * factor, most)
        if eps in accuracy:
            break
        now = witnessed(trial.attack(eps))
        accuracy[eps] = standing(now)
        rise = accuracy[eps] - standing(fell)
        if rise > SOME:
            return Finding(
                "budget",
                f"at a budget of {eps:.4g} more samples stand than at a smaller one",
                {f"accuracy at {e:.4g}": a for e, a in accuracy.items()},
                "the points found at smaller budgets",
                accuracy[eps],
                standing(now | fell),
            )
        fell = fell | now
    return None


def unbounded(trial: Trial) -> Finding | None:
    """Let the attack go anywhere in the box, where some point of another class nearly always lies."""
    most = trial.threat.width * trial.threat.norm.of_ones(trial.x[0].numel())
    if not math.isfinite(most):
        return None
    result = trial.attack(most)
    accuracy = standing(witnessed(result))
    if accuracy <= SOME:
        return None
    message = f"{accuracy:.1%} of the samples stand against an attack that may go anywhere in the box"
    finding = Finding("unbounded", message, {"accuracy": accuracy, "eps": most})
    if (name := trial.searcher) is None:
        return finding
    left = trial.take((~witnessed(result)).nonzero()[:, 0])
    rest = int((~witnessed(left.search(name, most))).sum())
    return finding._replace(remedy=f"{name}, which needs no gradients", before=accuracy, after=rest / len(trial.x))


def restarts(trial: Trial, fell: Tensor) -> Finding | None:
    """Begin elsewhere."""
    left = _left(trial, fell)
    if left is None:
        return None
    left = replace(left, keys=left.keys.fold("restarts"))
    broke = int(witnessed(left.attack(restarts=RESTARTS)).sum())
    message = f"other random starts break {broke} of {len(left.x)} samples that stood"
    return _beaten("restarts", message, f"{RESTARTS} more starts", trial, left, broke, SOME)


def black_box(trial: Trial, fell: Tensor) -> Finding | None:
    """Search without gradients, which should find less than with them."""
    left = _left(trial, fell)
    if left is None:
        return None
    name = trial.searcher
    if name is None:
        message = f"no attack without gradients is registered for {trial.threat.norm.name} and samples of this shape"
        return Finding("black_box", f"{message}, so that gradients mislead was not looked for", {})
    broke = int(witnessed(left.search(name)).sum())
    message = f"{name}, which needs no gradients, breaks {broke} of {len(left.x)} samples that gradients could not"
    return _beaten("black_box", message, f"{name} as well", trial, left, broke, FEW)


def unfit(surrogate: nn.Module, model: nn.Module, x: Tensor) -> str:
    """Return why a surrogate cannot stand in for the model near x (B, ...), in words; empty where it can."""
    few = x[:LOOKED_AT].detach()
    with own_randomness(x.device), torch.enable_grad():
        leaf = few.clone().requires_grad_()
        logits = logits_of(surrogate(leaf.clone()))
        classes, own = logits.shape[1], logits_of(model(few.clone())).shape[1]
        if classes != own:
            return f"it has {classes} classes, the model {own}; give a model of the same task"
        loss = nn.functional.cross_entropy(logits, logits.argmax(1))
        if loss.requires_grad and _moved(loss, leaf):
            return ""
    return "it has no gradient to follow, or one of zero; give another model"


def transfer(trial: Trial, fell: Tensor, surrogate: nn.Module) -> Finding | None:
    """Follow another model's gradients, which should find less than the model's own."""
    left = _left(trial, fell)
    if left is None:
        return None
    if are_probabilities(replace(left, model=surrogate).ask(left.x)):
        surrogate = LogProbabilities(surrogate)
    attack = left.made("attack.pgd", steps=STEPS)
    x_adv = perturb(attack, surrogate, left.x, left.y, left.keys)  # the last point: the first to fool one fools few
    eps = torch.full((len(left.x),), trial.eps, dtype=torch.float64, device=left.x.device)
    broke = int(
        verify(trial.model, Ball(trial.threat, left.x, eps), x_adv, left.y, trial.execution.check_size(left.x)).sum()
    )
    message = f"points that lead a surrogate astray break {broke} of {len(left.x)} samples that stood"
    return _beaten("transfer", message, "a surrogate's gradients as well", trial, left, broke, FEW)


def _left(trial: Trial, fell: Tensor) -> Trial | None:
    """Return the trial on the samples that stand, None where none does."""
    rows = (~fell).nonzero()[:, 0]
    return trial.take(rows) if len(rows) else None


def _beaten(
    name: str, message: str, remedy: str, trial: Trial, left: Trial, broke: int, chance: float
) -> Finding | None:
    """Return the finding that another attack broke more than chance explains."""
    n, stood = len(trial.x), len(left.x)
    if broke <= max(1, chance * n):
        return None
    return Finding(
        name, message, {"samples": n, "stood": stood, "broke": broke}, remedy, stood / n, (stood - broke) / n
    )
