"""The strongest of several attacks, each with a norm and a budget of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch

from robustaug.attacks.ask import Ask
from robustaug.attacks.attack import Attack
from robustaug.attacks.ensemble import named
from robustaug.attacks.inputs import check_eps
from robustaug.attacks.state import State
from robustaug.attacks.threat import per_row
from robustaug.registry import register

SHARED = ("targeted", "box")


@register("attack.strongest", tags={"gradient"})
@dataclass(frozen=True, kw_only=True, repr=False)
class Strongest(Attack):
    """Run every attack from the sample itself and keep, for each sample, the point of highest cross-entropy.

    Tramèr & Boneh 2019, "Adversarial training and robustness for multiple perturbations", arXiv:1904.13000, section
    4.1, the "max" strategy; for their "avg", give a recipe the list of attacks itself. Unlike `attack.ensemble`, each
    attack has its own norm and eps. A claim that a model is broken is one of norm and eps below: there only points in
    that ball count.

    Attributes:
        norm, eps: the ball that claims are judged by. An eps given with a call, as by a curriculum, scales the eps of
            every attack in proportion.
        attacks: names or `{name: parameters}`; targeted and box are shared, and so is eps with those of the same norm.
    """

    norms: ClassVar[tuple[str, ...]] = ("Linf", "L2", "L1")
    loss: ClassVar[str] = "ce"

    attacks: Sequence[Any] = (
        {"attack.pgd": {"norm": "Linf"}},
        {"attack.pgd": {"norm": "L2"}},
        {"attack.pgd": {"norm": "L1"}},
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.restarts != 1:
            raise ValueError(f"{self.name}: takes one start of each attack; set restarts to 1, not {self.restarts}")
        if not self.eps > 0:
            raise ValueError(f"{self.name}: eps must be > 0, that of each attack scales with it, got {self.eps:g}")
        if isinstance(self.attacks, str) or not isinstance(self.attacks, Sequence) or not self.attacks:
            raise ValueError(f"{self.name}: attacks must be a list of at least one attack, got {self.attacks!r}")
        object.__setattr__(self, "attacks", tuple(self.attacks))
        self.parts  # noqa: B018 - made once, which refuses what cannot be run

    @cached_property
    def parts(self) -> list[Attack]:
        """The attacks."""
        return [self._part(f"{self.name}: attacks[{number}]", spec) for number, spec in enumerate(self.attacks)]

    def _part(self, where: str, spec: Any) -> Attack:
        entry, params = named(where, spec)
        for key in SHARED:
            if key in params:
                raise ValueError(f"{where}: {key} is shared by all; set it for {self.name}, not for {entry.name}")
        shared = {key: getattr(self, key) for key in SHARED}
        part = entry.factory(**shared, **params)
        if not isinstance(part, Attack) or type(part).pursue is not Attack.pursue:
            raise ValueError(f"{where} must be one attack that takes steps, got {entry.name!r}")
        if part.minimal or math.isinf(part.usual_eps()) or part.restarts != 1:
            raise ValueError(f"{where} must be an attack with a budget and one start, got {entry.name!r}")
        if part.norm != self.norm or math.isclose(part.eps, self.eps):
            return part
        if "eps" in params or part.eps != part.usual_eps():
            raise ValueError(
                f"{where}: eps is {self.eps:g} in {self.norm}, the norm of claims, got {part.eps:g}; leave it out there"
            )
        return entry.factory(**shared, **params, eps=self.eps)

    @property
    def steps(self) -> int:
        return len(self.parts)  # one whole attack each

    @property
    def reads_logits(self) -> bool:  # type: ignore[override]
        return any(part.reads_logits for part in self.parts)

    def init(self, start: State, ask: Ask) -> State:
        for part in self.parts:
            if part.eps != part.usual_eps():
                check_eps(part.eps, part.threat, math.prod(start.x.shape[1:]))
        return start.at(start.x, highest=torch.full_like(start.eps, -math.inf))

    def step(self, state: State, ask: Ask) -> State:
        number, part = state.steps, self.parts[state.steps]
        ball = part.threat.around(state.clean, state.eps * (part.eps / self.eps), state.ball.mask)
        x, highest, keys = state.x, state.memory["highest"], state.keys.fold(number)
        for turn in range(part.rounds(state.logits.shape[1])):  # of one start, but there may be several targets
            own = part.init(State(ball, state.label, state.logits, keys.fold(turn), state.clean, turn), ask)
            while own.steps < part.steps:
                own = part.step(own, ask)
            loss = self.objective(ask.logits(own.x, self.objective, state.label), state.label)
            higher = loss > highest
            x, highest = torch.where(per_row(higher, x).bool(), own.x, x), torch.where(higher, loss, highest)
        return state.moved(x, highest=highest)

    def finish(self, state: State, ask: Ask) -> None:
        pass  # the last point of every attack was looked at
