"""Signs in what a model answers: probabilities, NaN, and answers that change.

Legend: B samples, ... the rest of a sample's shape, K classes.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from robustaug.attacks.masking.trial import Finding, Trial, has_slope, own_randomness, remedied, standing, witnessed
from robustaug.attacks.state import AttackResult
from robustaug.attacks.verify import broken
from robustaug.models.classifier import logits_of

DRAWS = 8
"""Passes that the answers and gradients of a random model are averaged over."""


class _Shifted(nn.Module):
    """Add one to each output: the same attack, past the driver's refusal of probabilities."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.training = module.training

    def forward(self, x: Tensor) -> Tensor:
        return logits_of(self.module(x)) + 1


def probabilities(trial: Trial, logical: Trial) -> Finding:
    """Attack the probabilities as if they were logits, and their logarithms."""
    message = "it returns probabilities (its rows sum to 1), which starve gradients"
    finding = Finding("probabilities", message, {"samples": len(trial.x)})
    shifted = replace(trial, model=_Shifted(trial.model))
    if not has_slope(trial.model, trial.x):
        return finding
    return remedied(finding, "their logarithms as logits", shifted.attack(), logical.attack())


def non_finite(whole: Trial, answers: Tensor, trial: Trial, direct: AttackResult | None) -> Finding | None:
    """NaN or infinity never counts as broken, so it must not count as right either."""
    stands, ends = ~broken(whole.ask(whole.x), whole.y), answers.clone()
    if direct is not None:
        stands[answers] = ~witnessed(direct)
        ends[answers] = trial.ask(direct.x_adv).amax(1).isfinite()
    mute = int((~ends).sum())
    if not mute:
        return None
    return Finding(
        "non_finite",
        f"its answer is NaN or infinite for {mute} of {len(ends)} samples, clean or attacked, and then never counts as "
        "broken",
        {"samples": len(ends), "non_finite": mute},
        "such answers counted as wrong",
        standing(~stands),
        standing(~(stands & ends)),
    )


def unsteadiness(trial: Trial, first: Tensor) -> Finding | None:
    """Ask the same again: as before, with torch's random numbers held still, and in another company."""
    x, n = trial.x, len(trial.x)
    if moved := _apart(first, trial.ask(x)):
        still = []
        for _ in range(2):
            with own_randomness(x.device):
                still.append(trial.ask(x))
        kind, why = ("random", "it draws random numbers")
        if _apart(*still):
            kind, why = ("dynamic", "it keeps a state between calls, or draws from a generator of its own")
        return Finding(kind, f"the same input gets another answer when asked again: {why}", {"moved": moved})
    backwards = trial.ask(x.flip(0)).flip(0)
    half = max(1, n // 2)
    company = x[:half] if n > 1 else torch.cat([x, x.flip(-1)])
    others = trial.ask(company)[:half]
    if moved := max(_apart(first, backwards), _apart(first[:half], others)):
        return Finding("batch", "its answer on a sample depends on the rest of the batch", {"moved": moved})
    return None


def drifted(trial: Trial, first: Tensor) -> Finding | None:
    """Ask the same again after everything that was asked since."""
    moved = _apart(first, trial.ask(trial.x))
    message = "the same input gets another answer after some more calls: it keeps a state"
    return Finding("dynamic", message, {"moved": moved}) if moved else None


def _apart(one: Tensor, other: Tensor) -> int:
    """Return for how many samples logits (B, K) differ by more than rounding."""
    size = one.masked_fill(~one.isfinite(), 0).abs().max()
    close = torch.finfo(one.dtype).eps ** 0.5 * size
    different = (one - other).abs() > close
    return int((different | (one.isnan() != other.isnan())).any(1).sum())


def averaged(trial: Trial, finding: Finding, direct: AttackResult) -> Finding:
    """Average gradients over passes (expectation over transformation), and verdicts as well."""
    expected = trial.attack(eot=DRAWS)
    before, after = (
        standing(torch.stack([broken(trial.ask(x), trial.y) for _ in range(DRAWS)]))
        for x in (direct.x_adv, expected.x_adv)
    )
    remedy = f"gradients averaged over {DRAWS} passes (EOT)"
    return finding._replace(remedy=remedy, before=before, after=after)
