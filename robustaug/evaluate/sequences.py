"""Sequences of small perturbations: what to run, the parameters of each frame, and how far two answers are apart.

Legend: B samples, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, cast

import numpy as np
import torch
from pydantic import Field, model_validator

from robustaug import registry
from robustaug.config import Strict
from robustaug.ops.operator import Operator, Params
from robustaug.registry import did_you_mean
from robustaug.rng import Keys

TOP = 5
FARTHEST = sum(range(1, TOP + 1))
"""The greatest `top5_distance`: none of the five classes is among the other five."""


class Sequence(Strict):
    """A perturbation that moves in small steps, as in ImageNet-P (Hendrycks & Dietterich 2019, arXiv 1903.12261).

    Attributes:
        operator: a registered operator as `name` or `{name: parameters}`; its ranges are what is walked through.
        frames: of a sequence, the first among them.
        along: parameters that go from the low to the high end of their range in equal steps (equal ratios where they
            are drawn so), all together; the others are drawn once a sample. Left out: every one with a range of real
            numbers and a value that changes nothing, such as an angle or a factor.
        compare: "previous": each frame with the one before. "first": each frame is a draw of its own and is compared
            with the unchanged sample, as the paper does for noise. Left out: "first" for operators tagged noise.
    """

    operator: str | dict[str, dict[str, Any] | None]
    frames: int = Field(default=20, ge=2, le=1000)
    along: list[str] | None = None
    compare: Literal["previous", "first"] | None = None

    @model_validator(mode="before")
    @classmethod
    def _short(cls, given: Any) -> Any:
        return {"operator": given} if isinstance(given, str) else given

    @model_validator(mode="after")
    def _walkable(self) -> Sequence:
        try:
            operator = self.make()
        except TypeError as error:
            raise ValueError(str(error)) from None
        if self.compares == "first":
            if self.along is not None:
                raise ValueError("along goes with compare: previous; draws of their own do not walk")
            return self
        walkable = [key for key, space in operator.spaces.items() if space.is_real]
        for key in self.along or []:
            if key not in walkable:
                raise ValueError(
                    f"{operator.name}: {key!r} has no range of real numbers to walk through"
                    f"{did_you_mean(key, walkable)}; those that have: {', '.join(walkable) or 'none'}"
                )
        if not self.walked(operator):
            raise ValueError(
                f"{operator.name} has no parameter to walk along; give one a [low, high] range and name it in along, "
                "or set compare: first"
            )
        return self

    def make(self) -> Operator:
        """Make the operator.

        Raises:
            ValueError, TypeError: as `registry.make`.
        """
        return cast(Operator, registry.make(self.operator, "operator"))

    @property
    def compares(self) -> str:
        """What frames are compared with, decided where it was left out."""
        is_noise = "noise" in registry.read_spec(self.operator)[0].tags
        return self.compare or ("first" if is_noise else "previous")

    def walked(self, operator: Operator) -> list[str]:
        """Return the parameters that move from frame to frame."""
        usual = [key for key, space in operator.spaces.items() if space.is_real and space.identity is not None]
        return usual if self.along is None else self.along

    def drawn(self, operator: Operator, keys: Keys) -> Iterator[Params | None]:
        """Yield the parameters of each frame of a batch; None for the unchanged sample.

        Args:
            operator: as `make` returns, fitted to the data where it is one on tables.
            keys: one a sample, on the device of the parameters.
        """
        if self.compares == "first":
            yield None
            for frame in range(1, self.frames):
                yield operator.sample(keys.fold(f"frame {frame}"))
            return
        once = operator.sample(keys)
        for frame in range(self.frames):
            moved = {
                key: operator.spaces[key].at(torch.full_like(once[key], frame / (self.frames - 1)))
                for key in self.walked(operator)
            }
            yield once | moved


class Answer(NamedTuple):
    """What a model says of one frame.

    Attributes:
        prediction: (B,) int64, -1 where the logits are not all finite.
        top: (B, 5) int64, the first classes in descending order, equal ones in the order of classes; (B, 0) where
            there are five classes or fewer.
    """

    prediction: np.ndarray
    top: np.ndarray


def answer(logits: np.ndarray) -> Answer:
    """Read an answer off logits (B, K)."""
    finite = np.isfinite(logits).all(axis=1)
    shown = TOP if logits.shape[1] > TOP else 0
    order = np.argsort(-logits, axis=1, kind="stable")[:, : max(shown, 1)]
    return Answer(np.where(finite, order[:, 0], -1), order[:, :shown])


def flipped(before: Answer, after: Answer) -> np.ndarray:
    """Return (B,) bool: whether the prediction changed; one that is no number is never the same."""
    return (before.prediction != after.prediction) | (after.prediction < 0)


def top5_distance(before: Answer, after: Answer) -> np.ndarray:
    """Return (B,) int64 in 0 to 15, how far the first five classes moved.

    The class at place i moved to place s: it adds |i - min(s, 6)|, which is the double sum of section 4.2 of Hendrycks
    & Dietterich 2019 (arXiv 1903.12261). An answer that is no number is as far as can be.
    """
    same = before.top[:, :, None] == after.top[:, None, :]  # (B, place before, place after)
    place = np.where(same.any(axis=2), same.argmax(axis=2), TOP)
    distance = np.abs(np.arange(TOP) - place).sum(axis=1)
    unknown = (before.prediction < 0) | (after.prediction < 0)
    return np.where(unknown, FARTHEST, distance)
