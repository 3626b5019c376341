"""A model on a few samples: ways to ask and to attack it, and what is found.

Legend: B samples, ... the rest of a sample's shape, K classes.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from robustaug import registry
from robustaug.attacks.execution import Execution
from robustaug.attacks.state import AttackResult
from robustaug.attacks.threat import Threat
from robustaug.attacks.verify import full_precision
from robustaug.models.classifier import logits_of
from robustaug.rng import Keys

STEPS = 20
QUERIES = 200
"""Forward passes a sample of the attack without gradients."""


class Finding(NamedTuple):
    """A sign that figures of robustness say less about a model than they seem.

    Attributes:
        name: one of `CHECKS`.
        message: what was seen, without a full stop.
        evidence: the numbers it rests on.
        remedy: what was run about it; empty where nothing could be.
        before, after: accuracy under attack without and with the remedy; NaN where there is none.
    """

    name: str
    message: str
    evidence: dict[str, float]
    remedy: str = ""
    before: float = math.nan
    after: float = math.nan

    @property
    def sentence(self) -> str:
        """What was seen, and what the remedy changed."""
        if not self.remedy:
            return f"{self.message}."
        change = f"goes from {self.before:.1%} to {self.after:.1%}"
        if self.before == self.after:
            change = f"stays at {self.after:.1%}"
        return f"{self.message}; accuracy under attack on the samples examined {change} with {self.remedy}."


@dataclass(frozen=True)
class Trial:
    """A model on a few samples, under one threat."""

    model: nn.Module
    x: Tensor
    y: Tensor
    threat: Threat
    eps: float
    keys: Keys
    execution: Execution

    def take(self, rows: Tensor) -> Trial:
        """Return the trial on some of the samples, by positions."""
        return replace(self, x=self.x[rows], y=self.y[rows], keys=self.keys[rows])

    def ask(self, x: Tensor) -> Tensor:
        """Return the logits (B, K) of the model itself."""
        with torch.no_grad(), full_precision(x.device):
            parts = x.split(self.execution.pass_size(x))
            return torch.cat([logits_of(self.model(part.clone())) for part in parts])

    def made(self, name: str, **params: Any) -> Any:
        """Return the named attack in this norm, budget and box."""
        box = (self.threat.low, self.threat.high)
        return registry.create(name, norm=self.threat.norm.name, eps=self.eps, box=box, **params)

    def attack(self, eps: float | None = None, **params: Any) -> AttackResult:
        """Run PGD."""
        attack = self.made("attack.pgd", **{"steps": STEPS} | params)
        return attack(self.model, self.x, self.y, self.keys, eps, execution=self.execution)

    def search(self, name: str, eps: float | None = None) -> AttackResult:
        """Run an attack that needs no gradients."""
        execution = replace(self.execution, budget=QUERIES)
        return self.made(name)(self.model, self.x, self.y, self.keys, eps, execution=execution)

    @property
    def searcher(self) -> str | None:
        """The attack without gradients that fits the norm and the samples, Square where it does."""
        names = sorted(registry.list("attack"), key=lambda name: (name != "attack.square", name))
        return next((name for name in names if self._fits(name)), None)

    def _fits(self, name: str) -> bool:
        entry = registry.lookup(name)
        if "score" not in entry.tags or ("image" in entry.tags and self.x.ndim != 4):
            return False
        if self.threat.norm.name not in getattr(entry.factory, "norms", ()):
            return False
        return math.isfinite(self.made(name).usual_eps())  # it keeps to a budget


def witnessed(result: AttackResult) -> Tensor:
    """Return (B,) bool, which samples fell and were checked again."""
    return result.success & result.verified


def standing(fell: Tensor) -> float:
    """Return the share of samples that did not fall."""
    return float((~fell).double().mean())


def remedied(finding: Finding, remedy: str, before: AttackResult, after: AttackResult | None) -> Finding:
    """Return the finding with what a remedy changed."""
    assert after is not None, "run where before was"
    return finding._replace(remedy=remedy, before=standing(witnessed(before)), after=standing(witnessed(after)))


@contextlib.contextmanager
def own_randomness(device: torch.device) -> Iterator[None]:
    """Give the model random numbers that begin anew, and put torch's own back afterwards."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(0)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(0)
        yield


def has_slope(model: nn.Module, x: Tensor) -> bool:
    """Whether the model's output has any gradient at all; asked at two of the points x (B, ...)."""
    leaf = x[:2].clone().requires_grad_()
    return logits_of(model(leaf.clone())).requires_grad  # a model may work in place, which leaves forbid
