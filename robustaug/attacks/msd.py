"""Steepest descent over several norms at once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch

from robustaug.attacks.ask import Ask
from robustaug.attacks.attack import Attack
from robustaug.attacks.inputs import check_eps
from robustaug.attacks.state import State
from robustaug.attacks.threat import NORMS, Threat, per_row
from robustaug.parameters import check_choice, check_number
from robustaug.registry import register


@register("attack.msd", tags={"gradient"})
@dataclass(frozen=True, kw_only=True, repr=False)
class MSD(Attack):
    """Take, at each step and for each sample, the norm whose step leads to the highest loss.

    Maini et al. 2020, "Adversarial robustness against the union of multiple perturbation models", arXiv:1909.04068,
    algorithm 1 (multi steepest descent): from the same point a step of steepest ascent is taken in every norm and
    projected onto that norm's ball; the worst of them is the next point. In training a point lies in the union of the
    balls. A claim that a model is broken is one of the first norm and its eps: there only points in that ball count,
    and every candidate is looked at.

    Attributes:
        norm, eps: the first ball. An eps given with a call, as by a curriculum, scales the other balls in proportion.
        also: the eps of the other norms, numbers or fractions; when left out, those of the other two with their usual
            eps (8/255 for Linf, 0.5 for L2, 12 for L1).
        steps: published 50 for CIFAR-10. Each costs one gradient, and one forward pass a norm.
        step_sizes: by norm; 2.5 eps / steps of the norm's eps where left out.
        loss: what is pushed up: "ce", "margin" or "dlr".
    """

    norms: ClassVar[tuple[str, ...]] = ("Linf", "L2", "L1")

    also: Mapping[str, Any] | None = None
    steps: int = 50  # type: ignore[assignment]
    step_sizes: Mapping[str, Any] | None = None
    loss: str = "ce"  # type: ignore[misc]

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_count("steps")
        if self.restarts != 1:
            raise ValueError(f"{self.name}: restarts={self.restarts} would repeat itself; set it to 1")
        if not self.eps > 0:
            raise ValueError(f"{self.name}: eps must be > 0, the other balls scale with it, got {self.eps:g}")
        for key in ("also", "step_sizes"):
            self._check_by_norm(key)
        if self.norm in (self.also or {}):
            raise ValueError(f"{self.name}: also is for other norms; the eps of {self.norm} is eps")
        for norm in self.step_sizes or {}:
            if norm not in self.budgets:
                raise ValueError(f"{self.name}: step_sizes.{norm} has no ball; give its eps as also.{norm}")

    def _check_by_norm(self, key: str) -> None:
        given = getattr(self, key)
        if given is None:
            return
        if not isinstance(given, Mapping) or not given:
            raise ValueError(f"{self.name}: {key} must give a number for each norm, such as {{L2: 0.5}}, got {given!r}")
        read = {}
        for norm, value in given.items():
            check_choice(self.name, f"a norm of {key}", norm, self.norms)
            read[norm] = check_number(self.name, f"{key}.{norm}", value)
            if not 0 < read[norm] < math.inf:
                raise ValueError(f"{self.name}: {key}.{norm} must be > 0 and finite, got {value!r}")
        object.__setattr__(self, key, read)

    @cached_property
    def budgets(self) -> dict[str, float]:
        """The eps of every ball, the first norm's first."""
        usual = {norm: NORMS[norm].usual_eps for norm in self.norms if norm != self.norm}
        return {self.norm: self.eps} | dict(usual if self.also is None else self.also)

    def init(self, start: State, ask: Ask) -> State:
        for norm, eps in (self.also or {}).items():
            check_eps(eps, Threat(NORMS[norm], *self.box), math.prod(start.x.shape[1:]))
        return start

    def step(self, state: State, ask: Ask) -> State:
        grad = ask.gradient(state.x, self.objective, state.label, keep=False).grad  # each candidate was looked at
        x, highest = state.x, torch.full_like(state.eps, -math.inf)
        for norm, eps in self.budgets.items():
            radius = state.eps * (eps / self.eps)
            ball = Threat(NORMS[norm], *self.box).around(state.clean, radius, state.ball.mask)
            made = ball.climb(state.x, grad, self.step_length(radius, (self.step_sizes or {}).get(norm)))
            loss = self.objective(ask.logits(made, self.objective, state.label), state.label)
            higher = loss > highest
            x, highest = torch.where(per_row(higher, x).bool(), made, x), torch.where(higher, loss, highest)
        return state.moved(x)

    def finish(self, state: State, ask: Ask) -> None:
        pass  # every candidate was looked at
