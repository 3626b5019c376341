"""AutoAttack: a fixed set of attacks without knobs, each on what the others left standing."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from robustaug.attacks.apgd import APGD, APGDT
from robustaug.attacks.ask import Ask
from robustaug.attacks.attack import Attack
from robustaug.attacks.ensemble import told_apart
from robustaug.attacks.fab import FAB, FABT
from robustaug.attacks.session import Session
from robustaug.attacks.square import Square
from robustaug.attacks.state import State
from robustaug.parameters import check_choice
from robustaug.registry import register

VERSIONS = ("standard", "plus", "rand")


@register("attack.autoattack", tags={"gradient", "score"})
@dataclass(frozen=True, kw_only=True, repr=False)
class AutoAttack(Attack):
    """Run the published ensemble: the same attacks, steps, restarts and targets.

    Croce & Hein 2020, arXiv:2003.01690; L1 as in Croce & Hein 2021, arXiv:2103.01208. `result.by` says which of
    `parts` broke a sample. Unlike the published code, samples leave an attack as soon as they are broken, the clean
    logits are asked once, and random numbers belong to samples, so the result does not depend on the batch.

    Attributes:
        version: "standard" (APGD-CE, APGD-T, FAB-T, Square), "plus" (with APGD-DLR and FAB, and five restarts), or
            "rand" for models that are random (APGD-CE and APGD-DLR, each gradient a mean over 20 passes).
    """

    norms: ClassVar[tuple[str, ...]] = ("Linf", "L2", "L1")
    can_target: ClassVar[bool] = False

    version: str = "standard"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self.name, "version", self.version, VERSIONS)
        if self.restarts != 1:
            raise ValueError(f"{self.name}: the restarts are those of the published ensemble, got {self.restarts}")

    @cached_property
    def parts(self) -> tuple[Attack, ...]:
        """The attacks, in their order."""
        shared: dict[str, Any] = {"norm": self.norm, "eps": self.eps, "box": self.box}
        sparse = self.norm == "L1"
        if self.version == "rand":
            return APGD(eot=20, **shared), APGD(loss="dlr", eot=20, **shared)
        restarts = 5 if sparse or self.version == "plus" else 1
        first = APGD(restarts=restarts, **shared)
        square = Square(schedule=10_000, **shared)
        towards = APGDT(targets=5 if sparse else 9, **shared)
        if self.version == "standard":
            return first, towards, FABT(**shared), square
        return (
            first,
            APGD(loss="dlr", restarts=5, **shared),
            FAB(restarts=5, **shared),
            square,
            towards,
            FABT(**shared),
        )

    def numbered(self) -> tuple[str, ...]:
        return told_apart(self.parts)

    def pursue(self, session: Session) -> None:
        for number, part in enumerate(self.parts):
            session.pursue(part, number)

    def init(self, start: State, ask: Ask) -> State:
        raise ValueError(f"{self.name}: has no point of its own to go on from; train with one of its parts")
