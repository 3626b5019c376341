"""What passes between an attack, the driver and the caller."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

from torch import Tensor

from robustaug.rng import Keys


class AttackWarning(UserWarning):
    """Something about the model makes the attack's figures less than they seem."""


class AttackResult(NamedTuple):
    """What an attack found, one row a sample.

    Attributes:
        x_adv: (B, ...) the first point that broke the model; where none did, the point of highest loss.
        success: (B,) bool, the model is wrong (or says the target) at x_adv. Samples that were wrong to begin with
            count, with x_adv as it came in.
        norm: (B,) float64, the distance from the clean sample.
        forwards, backwards: (B,) int64, passes the attack spent on the sample, the clean one included; the
            verifier's are not counted.
        verified: (B,) bool, the success held when norm, box and the model's verdict were checked again.
        silent: (B,) bool, the sample stood and its gradient was exactly zero at every step: no evidence of robustness.
    """

    x_adv: Tensor
    success: Tensor
    norm: Tensor
    forwards: Tensor
    backwards: Tensor
    verified: Tensor
    silent: Tensor

    @property
    def fragile(self) -> int:
        """How many successes did not hold when they were checked again."""
        return int((self.success & ~self.verified).sum())


@dataclass(frozen=True)
class State:
    """The samples an attack is working on. Every tensor has one row a sample, so that the driver can pack them.

    Attributes:
        clean: (B, ...) where the samples started.
        label: (B,) int64, the class to lead away from, or towards when the attack is targeted.
        eps: (B,) float64, the radius that is safe after rounding.
        keys: one a sample, different in each restart.
        x: (B, ...) where the model is asked next.
        steps: taken so far in this restart.
        memory: whatever else an attack carries from step to step, each (B, ...).
    """

    clean: Tensor
    label: Tensor
    eps: Tensor
    keys: Keys
    x: Tensor
    steps: int = 0
    memory: dict[str, Tensor] = field(default_factory=dict)

    def take(self, rows: Tensor) -> State:
        """Return the state of some samples, by positions."""
        return replace(
            self,
            clean=self.clean[rows],
            label=self.label[rows],
            eps=self.eps[rows],
            keys=self.keys[rows],
            x=self.x[rows],
            memory={key: value[rows] for key, value in self.memory.items()},
        )

    def moved(self, x: Tensor, **memory: Tensor) -> State:
        """Return the state one step on, at x, with these memories replaced."""
        return replace(self, x=x, steps=self.steps + 1, memory=self.memory | memory)
