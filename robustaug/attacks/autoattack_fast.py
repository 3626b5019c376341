"""AutoAttack as an anytime schedule: the attacks that remove the most accuracy for their cost come first."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from robustaug.attacks.anytime import anytime_interval
from robustaug.attacks.apgd import APGD, APGDT
from robustaug.attacks.ask import Ask
from robustaug.attacks.attack import Attack
from robustaug.attacks.session import Session
from robustaug.attacks.square import Square
from robustaug.attacks.state import State
from robustaug.registry import register

BACKWARD = 1.5
"""What a backward pass costs, in forward passes."""

PRIOR, EXPECTED = 20, 0.5
"""Before anything is known: as if the first form had been tried on so many samples and broken this share of them."""


class Arm(NamedTuple):
    """One attack of the schedule, as it is run first and as it is run again where the first was cut short.

    Attributes:
        brief, long: the same attack with few and with many steps.
    """

    brief: Attack
    long: Attack


@register("attack.autoattack_fast", tags={"gradient", "score", "shared"})
@dataclass(frozen=True, kw_only=True, repr=False)
class AutoAttackFast(Attack):
    """Run the attacks of AutoAttack in brief, in the order of what they achieve, and longer only where that pays.

    Samples are worked on in blocks, drawn at random. In each block every attack runs briefly on what still stands:
    APGD on the margin, APGD-T towards each class, Square. Where it still broke samples in the second half of its
    steps, it runs again for long. Blocks teach the order: the attack with the highest share of samples broken per
    cost comes first, and one that surely breaks less than `miss` of all samples is left out. Costs are counted in
    passes, not seconds, so that the same keys give the same result on any machine.

    The accuracy so far comes with an interval that holds at every block at once (a confidence sequence, so that
    stopping when it is narrow is no cheating); with `tolerance` the attack stops there, and `result.tried` says which
    samples count. The schedule is ours; Croce & Hein 2020, arXiv:2003.01690 for the attacks, and Liu et al. 2022,
    arXiv:2203.05154 for the observation that most steps of AutoAttack are spent where nothing falls.

    Attributes:
        tolerance: stop once the accuracy is known to this half width; 0 to try every sample.
        confidence: of the interval, and of leaving an attack out.
        miss: the share of samples that may be missed by leaving an attack out.
        block: samples at a time.
    """

    norms: ClassVar[tuple[str, ...]] = ("Linf", "L2", "L1")
    can_target: ClassVar[bool] = False

    tolerance: float = 0.0
    confidence: float = 0.95
    miss: float = 0.002
    block: int = 500

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_number("tolerance", 0, 0.5, open_=False)
        self.check_number("confidence", 0, 1)
        self.check_number("miss", 0, 1, open_=False)
        self.check_count("block")
        if self.restarts != 1:
            raise ValueError(f"{self.name}: the schedule sets the restarts itself, got {self.restarts}")

    @cached_property
    def arms(self) -> tuple[Arm, ...]:
        """The attacks that the schedule chooses from; `result.by` is a position among them."""
        shared: dict[str, Any] = {"norm": self.norm, "eps": self.eps, "box": self.box}
        margin = Arm(APGD(loss="margin", steps=10, **shared), APGD(loss="margin", steps=100, **shared))
        towards = [
            Arm(*(APGDT(targets=1, skip=rank, steps=steps, **shared) for steps in (20, 100))) for rank in range(9)
        ]
        return margin, *towards, Arm(Square(steps=150, **shared), Square(steps=5000, **shared))

    def numbered(self) -> tuple[str, ...]:
        """Return the arms' names; target 1 is the class that is likeliest after the true one."""
        first, *towards, last = (arm.brief.name for arm in self.arms)
        return first, *(f"{name} target {rank}" for rank, name in enumerate(towards, 1)), last

    @property
    def may_stop(self) -> bool:
        return self.tolerance > 0

    def pursue(self, session: Session) -> None:
        order = session.keys.fold("order").bits()[:, 0].argsort(stable=True)
        blocks = order.split(self.block)
        # all that the schedule has learned; a checkpoint keeps it
        notes = session.notes = session.notes or {
            "block": 0,
            "turn": 0,
            "todo": self._brief,
            "current": None,
            "known": [{"broken": 0, "tried": 0, "seen": 0, "cost": 0.0} for _ in range(2 * len(self.arms))],
        }
        while True:
            self._attack_block(session, blocks[notes["block"]])
            done = order[: (notes["block"] + 1) * self.block]
            stood = int((~session.success[done]).sum())
            session.interval = low, high = anytime_interval(stood, len(done), self.confidence)
            if len(done) == len(order) or high - low <= 2 * self.tolerance:
                session.report(self, 1.0)
                break
            notes |= {"block": notes["block"] + 1, "todo": self._brief}
        session.tried = torch.zeros_like(session.tried).index_fill(0, done, True)
        session.by = torch.where(session.by >= 0, session.by % len(self.arms), -1)

    @property
    def _brief(self) -> list[int]:
        """What each block begins with: the brief forms. Form len(arms) + i is the long form of arm i."""
        return [*range(len(self.arms))]

    def _attack_block(self, session: Session, rows: Tensor) -> None:
        """Run attacks on one block, the most promising first, until none is worth its cost."""
        notes, known, arms = session.notes, session.notes["known"], len(self.arms)
        while notes["current"] is not None or (notes["todo"] and len(session.standing(rows))):
            form = notes["current"]
            if form is None:  # otherwise a checkpoint lies within it
                form = max(notes["todo"], key=lambda form: (self._worth(form, known[form]), -form))
                notes |= {"current": form, "standing": len(session.standing(rows))}
            attack = self._form(form)
            number = notes["turn"] * arms + form % arms
            if not self._negligible(known[form]):
                session.pursue(attack, number, rows, salt=form)
                self._learn(session, rows, form, number)
            notes["todo"] = [other for other in notes["todo"] if other != form]
            if form < arms and self._late(session, rows, number, attack.steps):
                notes["todo"].append(form + arms)
            notes |= {"current": None, "turn": notes["turn"] + 1}

    def _form(self, form: int) -> Attack:
        arms = len(self.arms)
        return self.arms[form].brief if form < arms else self.arms[form - arms].long

    def _learn(self, session: Session, rows: Tensor, form: int, number: int) -> None:
        about = session.notes["known"][form]
        about["broken"] += int(((session.by[rows] == number) & ~session.wrong[rows]).sum())
        about["tried"] += session.notes["standing"]
        about["seen"] += len(rows)
        # passes of samples that have fallen, between two looks, are the device's affair and not the attack's price
        passes = torch.where(session.by == number, session.fell_at, session.forwards) - session.mark
        about["cost"] += _price(self._form(form)) * float(passes[rows].sum())

    def _worth(self, form: int, about: dict[str, Any]) -> float:
        """Return the share of samples that a form is expected to break, for its cost a sample."""
        price = self._form(form).steps * _price(self._form(form))
        expected = EXPECTED / (1 + form)  # the arms are listed by what one expects of them
        share = (about["broken"] + PRIOR * expected) / (about["tried"] + PRIOR)
        return share / ((about["cost"] + PRIOR * price) / (about["tried"] + PRIOR))

    def _negligible(self, about: dict[str, Any]) -> bool:
        return anytime_interval(about["broken"], about["seen"], self.confidence)[1] < self.miss

    def _late(self, session: Session, rows: Tensor, number: int, steps: int) -> bool:
        """Whether the attack still broke samples in the second half of its steps."""
        fell = rows[session.by[rows] == number]
        return bool(((session.fell_at - session.mark)[fell] > steps / 2).any())

    def init(self, start: State, ask: Ask) -> State:
        raise ValueError(f"{self.name}: has no point of its own to go on from; train with one of its attacks")


def _price(attack: Attack) -> float:
    """Return what a step of an attack costs a sample, in forward passes."""
    return 1.0 if isinstance(attack, Square) else 1.0 + BACKWARD
