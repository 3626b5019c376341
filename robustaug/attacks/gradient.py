"""The face of gradient attacks: what they share as parameters, and what each one has to say for itself."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, ClassVar

from torch import Tensor, nn

from robustaug.attacks import driver
from robustaug.attacks.inputs import check_eps, read_eps
from robustaug.attacks.losses import LOSSES
from robustaug.attacks.state import AttackResult, State
from robustaug.attacks.threat import NORMS, Threat
from robustaug.config import parse_ratio
from robustaug.registry import did_you_mean
from robustaug.rng import Keys


@dataclass(frozen=True, kw_only=True, repr=False)
class GradientAttack:
    """Base of gradient attacks. A subclass is a registered dataclass with `steps`, `init` and `step`.

    Attributes:
        norm: "Linf" or "L2".
        eps: the budget in units of the box: a number or a fraction such as "8/255"; 8/255 for Linf and 0.5 for L2
            when left out.
        loss: what is pushed up: "ce" (cross-entropy) or "margin" (best other logit minus the true one).
        targeted: lead each sample towards a class instead of away from its own.
        restarts: tries from different starts, for samples that still stand.
        box: (low, high) that every value stays in.
    """

    name: ClassVar[str] = ""
    norm: str = "Linf"
    eps: Any = None
    loss: str = "ce"
    targeted: bool = False
    restarts: int = 1
    box: tuple[float, float] = (0.0, 1.0)

    def __new__(cls, *args: Any, **params: Any) -> GradientAttack:
        known = [f.name for f in fields(cls)]
        for key in params:
            if key not in known:
                raise TypeError(
                    f"{cls.name} has no parameter {key!r}{did_you_mean(key, known)}; it has {', '.join(known)}"
                )
        return super().__new__(cls)

    def __post_init__(self) -> None:
        """Check every value.

        Raises:
            ValueError: names the parameter, its value and what is allowed.
        """
        _one_of(self.name, "norm", self.norm, NORMS)
        _one_of(self.name, "loss", self.loss, LOSSES)
        box = tuple(_number(self.name, "box", v) for v in self.box) if isinstance(self.box, list | tuple) else ()
        if len(box) != 2 or not box[0] < box[1]:
            raise ValueError(f"{self.name}: box must be (low, high) with low < high, got {self.box!r}")
        object.__setattr__(self, "box", box)
        eps = NORMS[self.norm].usual_eps if self.eps is None else read_eps(self.eps)
        object.__setattr__(self, "eps", eps)
        if self.norm == "Linf":  # for other norms it depends on how many values a sample has
            check_eps(eps, self.threat)
        self._check_flag("targeted")
        self._check_count("restarts")

    @property
    def steps(self) -> int:
        """How many gradients one restart takes."""
        raise NotImplementedError(f"{type(self).__name__} must define steps")

    def init(self, clean: Tensor, label: Tensor, eps: Tensor, keys: Keys) -> State:
        """Return where to begin; `eps` is the radius that is safe after rounding."""
        raise NotImplementedError(f"{type(self).__name__} must define init")

    def step(self, state: State, loss: Tensor, grad: Tensor) -> State:
        """Return the next state, given the loss (B,) and its gradient (B, ...) at `state.x`."""
        raise NotImplementedError(f"{type(self).__name__} must define step")

    def objective(self, logits: Tensor, label: Tensor) -> Tensor:
        """Return what to push up for each sample, (B,) float64."""
        loss = LOSSES[self.loss](logits, label)
        return -loss if self.targeted else loss

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
    ) -> AttackResult:
        """Attack a batch; see `driver.run`."""
        return driver.run(self, model, x, y, keys, eps, target)

    def spec(self) -> dict[str, Any]:
        """Return {name: parameters that differ from the defaults}."""
        usual = {f.name: f.default for f in fields(self)} | {"eps": NORMS[self.norm].usual_eps}
        params = {key: getattr(self, key) for key in usual if getattr(self, key) != usual[key]}
        return {self.name: {key: [*v] if isinstance(v, tuple) else v for key, v in params.items()}}

    def __repr__(self) -> str:
        [(name, params)] = self.spec().items()
        return f"robustaug.create({', '.join([repr(name), *(f'{k}={v!r}' for k, v in params.items())])})"

    def _check_count(self, key: str) -> None:
        value = getattr(self, key)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{self.name}: {key} must be a whole number >= 1, got {value!r}")

    def _check_flag(self, key: str) -> None:
        value = getattr(self, key)
        if value not in (True, False):
            raise ValueError(f"{self.name}: {key} must be true or false, got {value!r}")

    def _check_start(self, random_start: bool, step_size: Any) -> None:
        """Check the two parameters that most attacks have as well; a fraction becomes a number."""
        self._check_flag("random_start")
        if self.restarts > 1 and not random_start:
            raise ValueError(f"{self.name}: restarts={self.restarts} would repeat itself; set random_start=True")
        if step_size is not None:
            size = _number(self.name, "step_size", step_size)
            if not 0 < size < math.inf:
                raise ValueError(f"{self.name}: step_size must be > 0, got {step_size!r}")
            object.__setattr__(self, "step_size", size)


def _one_of(name: str, key: str, value: Any, known: Any) -> None:
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"{name}: {key} must be one of {', '.join(map(repr, known))}, got {value!r}")


def _number(name: str, key: str, value: Any) -> float:
    number = parse_ratio(value)
    if isinstance(number, bool) or not isinstance(number, int | float) or math.isnan(number):
        raise ValueError(f"{name}: {key} must be a number or a fraction such as '2/255', got {value!r}")
    return float(number)
