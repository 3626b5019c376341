"""How fast to learn and how hard to attack at each step: pure functions of time, so that resuming needs no state."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator

from robustaug.config import Strict


class Optimizer(Strict):
    """The optimiser and its learning rate.

    Attributes:
        name: "sgd" (Nesterov momentum) or "adamw".
        lr: the peak rate.
        schedule: "one_cycle" (linear up over the first `warmup` share, cosine down to 0), "cosine" (the same without
            a way up), "cycles" (cosine several times over, each from `lr` anew: Loshchilov & Hutter 2017,
            arXiv:1608.03983, section 3), "step" (times `factor` after each of the `milestones`) or "constant".
        warmup: share of all steps in [0, 1), for one_cycle.
        milestones: shares of all steps in (0, 1), for step.
        factor: for step.
        cycles: how many, for cycles.
        clip: the largest gradient norm, None for no limit.
    """

    name: Literal["sgd", "adamw"] = "sgd"
    lr: Annotated[float, Field(gt=0)] = 0.1
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4
    schedule: Literal["one_cycle", "cosine", "cycles", "step", "constant"] = "one_cycle"
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.2
    milestones: list[Annotated[float, Field(gt=0, lt=1)]] = [0.5, 0.75]
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    cycles: Annotated[int, Field(ge=1)] = 1
    clip: Annotated[float, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _used(self) -> Optimizer:
        refuse_unused(self, self.name, {"momentum": "sgd"})
        used = {"warmup": "one_cycle", "milestones": "step", "factor": "step", "cycles": "cycles"}
        refuse_unused(self, self.schedule, used)
        return self

    def rate(self, step: int, steps: int) -> float:
        """Return the learning rate of one step of `steps`."""
        if self.schedule == "constant":
            return self.lr
        if self.schedule == "step":
            return self.lr * self.factor ** sum(step >= share * steps for share in self.milestones)
        if self.schedule == "cycles":  # Huang et al. 2017, arXiv:1704.00109, equation 2
            length = math.ceil(steps / self.cycles)
            return self.lr * 0.5 * (1 + math.cos(math.pi * (step % length) / length))
        up = self.warmup * steps if self.schedule == "one_cycle" else 0.0
        if step < up:
            return self.lr * (step + 1) / (up + 1)
        return self.lr * 0.5 * (1 + math.cos(math.pi * (step - up) / max(steps - up, 1)))

    def make(self, model: torch.nn.Module) -> torch.optim.Optimizer:
        """Return the optimiser of a model's weights that learn."""
        learning = [weight for weight in model.parameters() if weight.requires_grad]
        if self.name == "adamw":
            return torch.optim.AdamW(learning, lr=self.lr, weight_decay=self.weight_decay)
        return torch.optim.SGD(
            learning,
            lr=self.lr,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            nesterov=self.momentum > 0,
        )


def refuse_unused(settings: Strict, chosen: str, used_by: Mapping[str, str]) -> None:
    """Refuse fields that what was chosen does not look at.

    Args:
        used_by: which choice each field belongs to.

    Raises:
        ValueError: names the first field with another value than its default.
    """
    for key, choice in used_by.items():
        if choice != chosen and getattr(settings, key) != type(settings).model_fields[key].default:
            raise ValueError(f"{key} is for {choice}, {chosen} does not look at it; leave it out")


class Curriculum(Strict):
    """A budget that grows: the attack's eps times a share that rises in a line.

    Source: Cai et al. 2018, "Curriculum adversarial training", arXiv:1805.04807, whose curriculum is the number of
    steps; of eps as here in Balaji et al. 2019, arXiv:1910.08051.

    Attributes:
        epochs: after this many, which need not be whole, the share is 1.
        start: the share at the beginning, in [0, 1).
    """

    epochs: Annotated[float, Field(gt=0)]
    start: Annotated[float, Field(ge=0, lt=1)] = 0.0

    def share(self, epoch: float) -> float:
        """Return the share of eps in [0, 1] after `epoch` epochs."""
        return min(1.0, self.start + (1 - self.start) * epoch / self.epochs)
