"""The face of attacks: what they share as parameters, and what each one has to say for itself."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from robustaug.attacks import driver
from robustaug.attacks.ask import Ask
from robustaug.attacks.execution import Execution
from robustaug.attacks.inputs import check_eps, read_eps
from robustaug.attacks.losses import LOSSES
from robustaug.attacks.session import Session
from robustaug.attacks.state import AttackResult, State
from robustaug.attacks.threat import NORMS, Ball, Threat
from robustaug.parameters import check_choice, check_count, check_number, created, spec_of
from robustaug.registry import check_parameters
from robustaug.rng import Keys


@dataclass(frozen=True, kw_only=True, repr=False)
class Attack:
    """Base of attacks. A subclass is a registered dataclass with `steps`, `init` and `step`.

    Attributes:
        norm: one of the attack's `norms`.
        eps: the budget in units of the box: a number or a fraction such as "8/255"; when left out 8/255 for Linf, 0.5
            for L2, 12 for L1 and 24 values for L0, and no limit (the nearest point) for minimal-norm attacks.
        targeted: lead each sample towards a class instead of away from its own.
        restarts: tries from different starts, for samples that still stand.
        box: (low, high) that every value stays in; numbers, or tensors of the shape of one sample.
    """

    name: ClassVar[str] = ""
    norms: ClassVar[tuple[str, ...]] = ("Linf", "L2")
    can_target: ClassVar[bool] = True
    minimal: ClassVar[bool] = False
    """Looks for the nearest point that breaks the model, and goes on until it is within eps."""
    reads_logits: ClassVar[bool] = False
    """Looks at the clean logits, which training saves itself where it can."""
    loss: ClassVar[str] = "margin"

    norm: str = "Linf"
    eps: Any = None
    targeted: bool = False
    restarts: int = 1
    box: tuple[Any, Any] = (0.0, 1.0)

    def __new__(cls, *args: Any, **params: Any) -> Attack:
        check_parameters(cls.name, params, [f.name for f in fields(cls)])
        return super().__new__(cls)

    def __post_init__(self) -> None:
        """Check every value.

        Raises:
            ValueError: names the parameter, its value and what is allowed.
        """
        check_choice(self.name, "norm", self.norm, self.norms)
        check_choice(self.name, "loss", self.loss, LOSSES)
        object.__setattr__(self, "box", _box(self.name, self.box))
        usual = self.usual_eps()
        eps = usual if self.eps is None else read_eps(self.eps, may_be_endless=math.isinf(usual))
        object.__setattr__(self, "eps", eps)
        if self.norm == "Linf":  # for other norms it depends on how many values a sample has
            check_eps(eps, self.threat)
        self.check_flag("targeted")
        if self.targeted and not self.can_target:
            raise ValueError(f"{self.name}: cannot lead towards a class; set targeted to false")
        if self.targeted and self.loss == "dlr":
            raise ValueError(f"{self.name}: loss 'dlr' only leads away from a class; use attack.apgd_t, or loss='ce'")
        self.check_count("restarts")

    def usual_eps(self) -> float:
        """Return the budget that holds where none is given."""
        return math.inf if self.minimal else NORMS[self.norm].usual_eps

    @property
    def steps(self) -> int:
        """How many steps one round takes."""
        raise NotImplementedError(f"{type(self).__name__} must define steps")

    def rounds(self, classes: int) -> int:
        """Return how often the attack begins anew: its restarts."""
        del classes
        return self.restarts

    def numbered(self) -> tuple[str, ...]:
        """Return the names behind the numbers in `AttackResult.by`: its own, or those of an ensemble's attacks."""
        return (self.name,)

    @property
    def may_stop(self) -> bool:
        """Whether it may end before it came to every sample: `AttackResult.tried`."""
        return False

    def init(self, start: State, ask: Ask) -> State:
        """Return where to begin, from the state at the clean samples; `start.eps` is the radius safe after rounding."""
        raise NotImplementedError(f"{type(self).__name__} must define init")

    def step(self, state: State, ask: Ask) -> State:
        """Return the next state, from what the model says where the attack asks it."""
        raise NotImplementedError(f"{type(self).__name__} must define step")

    def finish(self, state: State, ask: Ask) -> None:
        """Have the last point judged too, which `step` has left unasked."""
        ask.logits(state.x, self.objective, state.label)

    def replays(self, ball: Ball, x_adv: Tensor, params: Mapping[str, Tensor]) -> Tensor:
        """Return (B,) bool: x_adv (B, ...) is what these parameters make of the clean samples, and they are allowed.

        The verifier asks attacks that keep parameters beside their points, `Ask.made_from`.
        """
        raise NotImplementedError(f"{type(self).__name__} must define replays")

    def objective(self, logits: Tensor, label: Tensor) -> Tensor:
        """Return what to push up for each sample, (B,) float64."""
        loss = LOSSES[self.loss](logits, label)
        return -loss if self.targeted else loss

    def pursue(self, session: Session) -> None:
        """Run the whole attack on the samples of a session."""
        session.pursue(self)

    @cached_property
    def threat(self) -> Threat:
        """The norm and the box as one object."""
        return Threat(NORMS[self.norm], *self.box)

    def __call__(
        self,
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        keys: Keys | None = None,
        eps: float | str | Tensor | None = None,
        target: Tensor | None = None,
        mask: Tensor | None = None,
        execution: Execution | None = None,
    ) -> AttackResult:
        """Attack a batch; see `driver.run`."""
        return driver.run(self, model, x, y, keys, eps, target, mask, execution)

    def spec(self) -> dict[str, Any]:
        """Return {name: parameters that differ from the defaults}."""
        return spec_of(self, eps=self.usual_eps())

    def __repr__(self) -> str:
        return created(self.spec())

    def check_count(self, key: str, least: int = 1) -> None:
        """Refuse what is no whole number >= `least`."""
        check_count(self.name, key, getattr(self, key), least)

    def check_flag(self, key: str) -> None:
        """Refuse what is neither true nor false."""
        value = getattr(self, key)
        if value not in (True, False):
            raise ValueError(f"{self.name}: {key} must be true or false, got {value!r}")

    def check_number(self, key: str, least: float = 0.0, most: float = math.inf, open_: bool = True) -> None:
        """Refuse a number outside (least, most), or [least, most] where it is not open; a fraction becomes a number."""
        value = check_number(self.name, key, getattr(self, key))
        if not (least < value < most if open_ else least <= value <= most):
            sides = f"({least:g}, {most:g})" if open_ else f"[{least:g}, {most:g}]"
            raise ValueError(f"{self.name}: {key} must be in {sides}, got {value:g}")
        object.__setattr__(self, key, value)

    def check_start(self, random_start: bool, step_size: Any) -> None:
        """Check the two parameters that many attacks have as well; a fraction becomes a number."""
        self.check_flag("random_start")
        if self.restarts > 1 and not random_start:
            raise ValueError(f"{self.name}: restarts={self.restarts} would repeat itself; set random_start=True")
        if step_size is not None:
            size = check_number(self.name, "step_size", step_size)
            if not 0 < size < math.inf:
                raise ValueError(f"{self.name}: step_size must be > 0, got {step_size!r}")
            object.__setattr__(self, "step_size", size)

    def step_length(self, eps: Tensor, step_size: Any, share: float | None = None) -> Tensor:
        """Return how long a step is in balls of radius eps (B,): `step_size`, or where there is none a share of eps.

        Args:
            share: when left out 2.5 / steps (Madry et al. 2018, arXiv:1706.06083): enough to go from side to side.
        """
        usual = 2.5 / self.steps if share is None else share
        return usual * eps if step_size is None else torch.full_like(eps, float(step_size))


def _box(name: str, box: Any) -> tuple[Any, Any]:
    sides = tuple(box) if isinstance(box, list | tuple) else ()
    read = [_side(name, side) for side in sides]
    if len(read) != 2 or not bool((torch.as_tensor(read[0]) < torch.as_tensor(read[1])).all()):
        raise ValueError(f"{name}: box must be (low, high) with low < high, got {box!r}")
    return read[0], read[1]


def _side(name: str, side: Any) -> Any:
    if isinstance(side, Tensor | list):
        return torch.as_tensor(side, dtype=torch.float64)
    return check_number(name, "box", side)
