"""Several attacks in turn, each on what the ones before it have left standing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from robustaug.attacks.ask import Ask
from robustaug.attacks.attack import Attack
from robustaug.attacks.session import Session
from robustaug.attacks.state import State
from robustaug.attacks.threat import NORMS
from robustaug.registry import Entry, read_spec, register

SHARED = ("norm", "targeted", "box")


@register("attack.ensemble", tags={"gradient"})
@dataclass(frozen=True, kw_only=True, repr=False)
class Ensemble(Attack):
    """Run attacks in turn, each on the samples that still stand: all have to be withstood.

    The result's `by` tells which of them broke a sample, from 0. A sample that stands keeps the point of highest loss,
    where each attack counts in units of its own loss.

    Attributes:
        attacks: names or `{name: parameters}`, the cheap ones first. Norm, eps, box and targeted are the ensemble's.
    """

    norms: ClassVar[tuple[str, ...]] = tuple(NORMS)

    attacks: Sequence[Any] = ("attack.fgsm", "attack.pgd")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.restarts != 1:
            raise ValueError(f"{self.name}: restarts belong to its attacks, set them there, not {self.restarts} here")
        object.__setattr__(self, "attacks", tuple(self.attacks))

    def usual_eps(self) -> float:
        return math.inf if self._endless else NORMS[self.norm].usual_eps

    @cached_property
    def _endless(self) -> bool:
        return all(math.isinf(part.usual_eps()) for part in self._made())

    @cached_property
    def parts(self) -> list[Attack]:
        """The attacks, with what they share. What counts is the budget that reaches them with the samples."""
        return self._made()

    def _made(self) -> list[Attack]:
        if isinstance(self.attacks, str) or not isinstance(self.attacks, Sequence) or not self.attacks:
            raise ValueError(f"{self.name}: attacks must be a list of at least one attack, got {self.attacks!r}")
        return [self._part(number, spec) for number, spec in enumerate(self.attacks)]

    @property
    def steps(self) -> int:
        return sum(part.steps for part in self.parts)

    def numbered(self) -> tuple[str, ...]:
        return told_apart(self.parts)

    def pursue(self, session: Session) -> None:
        for number, part in enumerate(self.parts):
            session.pursue(part, number)

    def init(self, start: State, ask: Ask) -> State:
        raise ValueError(f"{self.name}: has no point of its own to go on from; train with one of its attacks")

    def _part(self, number: int, spec: Any) -> Attack:
        where = f"{self.name}: attacks[{number}]"
        entry, params = named(where, spec)
        if entry.factory is Ensemble:
            raise ValueError(f"{where} must be an attack that is no ensemble itself, got {entry.name!r}")
        for key in (*SHARED, "eps"):
            if key in params:
                raise ValueError(f"{where}: {key} is the ensemble's; set it there, not for {entry.name}")
        # eps as well: an attack with balls of its own scales them by the budget it was made with
        budget = {} if self.eps is None else {"eps": self.eps}
        return entry.factory(**{key: getattr(self, key) for key in SHARED}, **budget, **params)


def named(where: str, spec: Any) -> tuple[Entry, dict[str, Any]]:
    """Return the registered attack on tensors that `name` or `{name: parameters}` means, and the parameters.

    Raises:
        ValueError: neither form, or no such attack; begins with `where`.
    """
    try:
        entry, params = read_spec(spec, "attack")
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    if entry.modality == "text":
        raise ValueError(f"{where} must be an attack on tensors, got {entry.name!r}")
    return entry, params


def told_apart(attacks: Sequence[Attack]) -> tuple[str, ...]:
    """Return the attacks' names; where a name comes twice, with the parameters in which they differ."""
    specs = [item for attack in attacks for item in attack.spec().items()]
    names: list[str] = []
    for name, params in specs:
        twins = [other for twin, other in specs if twin == name]
        telling = [f"{key} {value}" for key, value in params.items() if any(t.get(key) != value for t in twins)]
        full = f"{name} ({', '.join(telling)})" if telling else name
        again = sum(other.split(" #")[0] == full for other in names)
        names.append(f"{full} #{again + 1}" if again else full)
    return tuple(names)
