"""What passes between an attack, the driver and the caller."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

from torch import Tensor

from robustaug.attacks.threat import Ball
from robustaug.rng import Keys


class AttackWarning(UserWarning):
    """Something about the model makes the attack's figures less than they seem."""


class AttackResult(NamedTuple):
    """What an attack found, one row a sample.

    Attributes:
        x_adv: (B, ...) a point that broke the model: the first one found or, for minimal-norm attacks, the nearest;
            where there is none, the point of highest loss.
        success: (B,) bool, the model is wrong (or says the target) at x_adv, within eps. Samples that were wrong to
            begin with count, with x_adv as it came in.
        norm: (B,) float64, the distance from the clean sample.
        forwards, backwards: (B,) int64, passes the attack spent on the sample, the clean one included; the
            verifier's are not counted.
        verified: (B,) bool, the success held when norm, box and the model's verdict were checked again.
        silent: (B,) bool, the sample stood and its gradient was exactly zero at every step: no evidence of robustness.
        by: (B,) int64, which attack of an ensemble broke the sample, -1 for none; all 0 or -1 for a single attack.
        tried: (B,) bool, the attack came to the sample; false only where it may stop early and did: count these alone.
        params: what x_adv was made from, for attacks that search parameters and not values: tensors (B, ...) by name;
            empty for others. The verifier has made x_adv from them again. Rows mean nothing where x_adv comes from
            no parameters, as where the sample was wrong to begin with. Those of an ensemble's later attacks bear
            their number: "2.angle_deg".
    """

    x_adv: Tensor
    success: Tensor
    norm: Tensor
    forwards: Tensor
    backwards: Tensor
    verified: Tensor
    silent: Tensor
    by: Tensor
    tried: Tensor
    params: dict[str, Tensor]

    @property
    def fragile(self) -> int:
        """How many successes did not hold when they were checked again."""
        return int((self.success & ~self.verified).sum())


@dataclass(frozen=True)
class State:
    """The samples an attack is working on. Every tensor has one row a sample, so that the driver can pack them.

    Attributes:
        ball: where each sample may go, with its clean point.
        label: (B,) int64, the class to lead away from, or towards when the attack is targeted.
        logits: (B, K) of the clean samples.
        keys: one a sample, different in each round.
        x: (B, ...) where the attack is.
        round: which restart, or which target, from 0.
        steps: taken so far in this round.
        memory: whatever else an attack carries from step to step, each (B, ...). The driver drops samples whose
            "done" (B,) bool is true.
    """

    ball: Ball
    label: Tensor
    logits: Tensor
    keys: Keys
    x: Tensor
    round: int = 0
    steps: int = 0
    memory: dict[str, Tensor] = field(default_factory=dict)

    @property
    def clean(self) -> Tensor:
        """(B, ...) where the samples started."""
        return self.ball.clean

    @property
    def eps(self) -> Tensor:
        """(B,) float64, the radius that is safe after rounding."""
        return self.ball.eps

    def take(self, rows: Tensor) -> State:
        """Return the state of some samples, by positions."""
        return replace(
            self,
            ball=self.ball.take(rows),
            label=self.label[rows],
            logits=self.logits[rows],
            keys=self.keys[rows],
            x=self.x[rows],
            memory={key: value[rows] for key, value in self.memory.items()},
        )

    def at(self, x: Tensor, **memory: Tensor) -> State:
        """Return the state at x, with these memories replaced."""
        return replace(self, x=x, memory=self.memory | memory)

    def moved(self, x: Tensor, **memory: Tensor) -> State:
        """Return the state one step on, at x, with these memories replaced."""
        return replace(self, x=x, steps=self.steps + 1, memory=self.memory | memory)

    def resumed(self, steps: int, memory: dict[str, Tensor]) -> State:
        """Return the state with what a checkpoint kept."""
        return replace(self, steps=steps, memory=memory)
