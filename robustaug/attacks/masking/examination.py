"""Models that look robust because their gradients are hidden or their answers change, and what is done about it.

`examine` looks for the signs that Athalye et al. 2018 (arXiv:1802.00420, section 3.1) and Carlini et al. 2019
(arXiv:1902.06705, section 4) list, and runs the remedy of each sign that it finds.

Legend: B samples, ... the rest of a sample's shape, K classes.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from robustaug.attacks.driver import are_probabilities
from robustaug.attacks.execution import Execution
from robustaug.attacks.inputs import check_class_range, check_samples
from robustaug.attacks.masking import answers, slopes
from robustaug.attacks.masking.remedies import LogProbabilities, OneByOne
from robustaug.attacks.masking.slopes import unfit
from robustaug.attacks.masking.trial import Finding, Trial, has_slope, own_randomness, remedied, witnessed
from robustaug.attacks.state import AttackWarning
from robustaug.attacks.threat import NORMS, Threat
from robustaug.attacks.verify import broken
from robustaug.models.classifier import require_eval
from robustaug.rng import Keys

SAMPLES = 32
"""How many samples are enough to see the signs."""
NORMS_EXAMINED = ("Linf", "L2")
"""In others plain gradient steps are weak, which is no fault of the model's; hidden gradients show in these as well."""

CHECKS = {
    "probabilities": "outputs are logits, not probabilities",
    "non_finite": "every answer is finite",
    "random": "the same input gets the same answer",
    "dynamic": "answers do not depend on earlier calls",
    "batch": "answers do not depend on the rest of the batch",
    "zero_gradients": "gradients are not zero",
    "budget": "larger budgets break no fewer samples",
    "unbounded": "an attack without limit breaks nearly all",
    "restarts": "other random starts break no more",
    "black_box": "an attack without gradients breaks no more",
    "transfer": "points that lead another model astray break no more",
}
"""What is checked, by the name of the finding; "transfer" only where a surrogate is given."""


def examine(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    eps: float,
    keys: Keys | None = None,
    surrogate: nn.Module | None = None,
    batch_size: int | None = None,
) -> list[Finding]:
    """Look for signs that gradients are masked or answers random, and run the remedy of each.

    The gradients are those of PGD with 20 steps. A few samples are enough (`SAMPLES`): each costs at most about 350
    forward and 150 backward passes where nothing is found, and far fewer where it falls. No finding is no proof of
    robustness; a finding says which figures not to trust. torch's random numbers are left as they were.

    Args:
        model: in eval mode.
        x: (B, ...) floating, in the threat's box.
        y: (B,) int64, the true classes.
        threat: norm (Linf or L2) and box.
        eps: the budget that the figures are about.
        keys: one a sample; seed 0 and the position in the batch when left out.
        surrogate: another model of the same task in eval mode, or this one with stages wrapped in `remedies.BPDA`:
            where it is led astray, the model is asked too.
        batch_size: most samples a pass.

    Raises:
        TypeError: x or y of a wrong type, or a model that returns no logits.
        ValueError: a norm that is not followed by gradients, a model in train mode, a surrogate of another number of
            classes or without gradient, or values that do not fit.
    """
    if threat.norm.name not in NORMS_EXAMINED:
        raise ValueError(f"norm must be one of {', '.join(NORMS_EXAMINED)} to examine a model, got {threat.norm.name}")
    check_samples(model, x, y, threat)
    require_eval(model)
    if not len(x):
        return []
    keys = (Keys.of(0, len(x)) if keys is None else keys).to(x.device)
    with torch.inference_mode(False), torch.enable_grad(), own_randomness(x.device), warnings.catch_warnings():
        warnings.simplefilter("ignore", AttackWarning)  # findings say what it warns of
        if surrogate is not None:
            check_surrogate(surrogate, model, x)
        trial = Trial(model, x.detach().clone(), y.long().clone(), threat, eps, keys, Execution(batch_size=batch_size))
        return [finding for finding in _findings(trial, surrogate) if finding is not None]


def check_surrogate(surrogate: nn.Module, model: nn.Module, x: Tensor) -> None:
    """Refuse a surrogate that cannot stand in for the model near x (B, ...), B >= 1.

    Raises:
        ValueError: it is in train mode, has another number of classes, or no gradient to follow.
    """
    require_eval(surrogate)
    if reason := unfit(surrogate, model, x):
        raise ValueError(f"surrogate: {reason}")


def threat_of(attack: Any, eps: float) -> tuple[Threat, float]:
    """Return the threat and the budget to examine a model under, where `attack` is run on it with this budget.

    Where gradient steps are weak in the attack's norm, or it has none, or no limit, it is the usual budget in Linf:
    hidden gradients show there as well.
    """
    threat = getattr(attack, "threat", None)
    if isinstance(threat, Threat) and threat.norm.name in NORMS_EXAMINED and 0 < eps < math.inf:
        return threat, eps
    low, high = (threat.low, threat.high) if isinstance(threat, Threat) else (0.0, 1.0)
    usual = Threat(NORMS["Linf"], low, high)
    return usual, usual.norm.usual_eps * (usual.width if math.isfinite(usual.width) else 1.0)


def _findings(trial: Trial, surrogate: nn.Module | None) -> Iterator[Finding | None]:
    logits = trial.ask(trial.x)
    check_class_range("y", trial.y, logits.shape[1])
    if are_probabilities(logits):
        logical = replace(trial, model=LogProbabilities(trial.model))
        yield answers.probabilities(trial, logical)
        trial = logical
    answered = logits.amax(1).isfinite()
    whole, trial = trial, trial.take(answered.nonzero()[:, 0])
    if not len(trial.x):
        yield answers.non_finite(whole, answered, trial, None)
        return
    first = trial.ask(trial.x)
    unsteady = answers.unsteadiness(trial, first)
    direct = trial.attack() if has_slope(trial.model, trial.x) else None
    if unsteady is not None and unsteady.name == "batch":
        alone = replace(trial, model=OneByOne(trial.model))
        steady = None if direct is None else alone.attack()
        yield unsteady if direct is None else remedied(unsteady, "one sample a pass", direct, steady)
        trial, first, direct, unsteady = alone, alone.ask(alone.x), steady, None
    yield answers.non_finite(whole, answered, trial, direct)
    unsteady = unsteady or answers.drifted(trial, first)
    if unsteady is not None:
        yield unsteady if direct is None else answers.averaged(trial, unsteady, direct)
        return  # what follows compares verdicts, and of this model none is final
    fell = broken(trial.ask(trial.x), trial.y) if direct is None else witnessed(direct)
    yield slopes.zero_gradients(trial, direct, fell)
    if direct is not None:
        yield slopes.budget(trial, direct)
        yield slopes.unbounded(trial)
        yield slopes.restarts(trial, fell)
    yield slopes.black_box(trial, fell)
    if surrogate is not None:
        yield slopes.transfer(trial, fell, surrogate)
