"""A training recipe: what a YAML under configs/train says."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from robustaug.config import Ratio, Strict
from robustaug.evaluate.suite import check_known
from robustaug.pipeline import build

Spec = str | dict[str, dict[str, Any] | None]
"""`name`, or `{name: parameters}`."""


class TrainData(Strict):
    """Where training reads from: sources of family `data`."""

    train: Spec
    validation: Spec


class Optimizer(Strict):
    """The optimiser and its learning rate.

    Attributes:
        name: "sgd" (Nesterov momentum) or "adamw".
        lr: the peak rate.
        schedule: "one_cycle" (linear up over the first `warmup` share, cosine down to 0), "cosine" or "constant".
        warmup: share of all steps in [0, 1), for one_cycle.
        clip: the largest gradient norm, None for no limit.
    """

    name: Literal["sgd", "adamw"] = "sgd"
    lr: Annotated[float, Field(gt=0)] = 0.1
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4
    schedule: Literal["one_cycle", "cosine", "constant"] = "one_cycle"
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.2
    clip: Annotated[float, Field(gt=0)] | None = None

    def rate(self, step: int, steps: int) -> float:
        """Return the learning rate of one step: a pure function, so that resuming needs no schedule state."""
        if self.schedule == "constant":
            return self.lr
        up = self.warmup * steps if self.schedule == "one_cycle" else 0.0
        if step < up:
            return self.lr * (step + 1) / (up + 1)
        return self.lr * 0.5 * (1 + math.cos(math.pi * (step - up) / max(steps - up, 1)))


class Recipe(Strict):
    """One training run.

    Attributes:
        name: names the run folder.
        model: a registered model as `name` or `{name: parameters}`.
        data: what to train and validate on; an experiment fills it in where it is left out.
        checkpoint: start from these weights instead of fresh ones (fine-tuning).
        augment: a pipeline: a list of operators, as in `Pipeline.from_yaml`.
        attack: train on its adversarial examples (Madry et al. 2018, arXiv:1706.06083), made at every step.
        clean_share: weight in [0, 1] of the loss on unattacked images when there is an attack.
        validation_attack: judges epochs by robust accuracy; the training attack when left out.
        validation_limit: at most this many validation samples, a seeded random choice, are attacked each epoch.
        label_smoothing: share of probability spread over all classes, in [0, 1).
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    seed: Annotated[int, Field(ge=0)] = 0
    model: Spec
    checkpoint: str | None = None
    data: TrainData | None = None
    augment: list[Any] = []
    attack: Spec | None = None
    clean_share: Annotated[Ratio, Field(ge=0, le=1)] = 0.0
    validation_attack: Spec | None = None
    validation_limit: Annotated[int, Field(ge=1)] = 512
    epochs: Annotated[int, Field(ge=1)]
    batch_size: Annotated[int, Field(ge=1)] = 128
    optimizer: Optimizer = Optimizer()
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0

    @field_validator("augment")
    @classmethod
    def _buildable(cls, augment: list[Any]) -> list[Any]:
        build(augment, "")
        return augment

    @field_validator("model", "attack", "validation_attack")
    @classmethod
    def _known(cls, spec: Any) -> Any:
        check_known(spec)
        return spec

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        if self.clean_share and self.attack is None:
            raise ValueError(f"clean_share is {self.clean_share:g} but there is no attack; remove it or add `attack:`")
        return self
