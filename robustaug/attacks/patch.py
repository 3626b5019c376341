"""The adversarial patch: a small rectangle of an image that may become anything."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor

from robustaug.attacks.ask import Ask
from robustaug.attacks.attack import Attack
from robustaug.attacks.pgd import PGD
from robustaug.attacks.session import Session
from robustaug.attacks.state import State
from robustaug.attacks.threat import Ball
from robustaug.registry import register
from robustaug.rng import Keys

SHARE = 0.1


@register("attack.patch", tags={"gradient", "image"})
@dataclass(frozen=True, kw_only=True, repr=False)
class Patch(Attack):
    """Climb the loss inside one rectangle of each image, where each value may go anywhere in the box.

    The threat of Brown et al. 2017, "Adversarial patch", arXiv:1712.09665, with a patch for each image: projected
    gradient descent under a mask, and an eps of the whole box. The rectangle is the same in all restarts. The verifier
    holds the rest of the image to be untouched.

    Attributes:
        steps: gradients a restart.
        size: the patch in pixels: one number for a square, or (height, width); a square of a tenth of the image when
            left out.
        place: (top, left) in pixels; at random for each image when left out.
        step_size, random_start, loss, eot: as in attack.pgd.
        eps: the whole box when left out; less keeps the patch near the image beneath it.
    """

    steps: int = 100  # type: ignore[assignment]
    size: Any = None
    place: Any = None
    step_size: float | str | None = None
    random_start: bool = True
    loss: str = "ce"  # type: ignore[misc]
    eot: int = 1

    norms: ClassVar[tuple[str, ...]] = ("Linf",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if math.isinf(self.eps):
            raise ValueError(f"{self.name}: the box {self.box} has no end; give eps")
        self.check_count("steps")
        self.check_count("eot")
        self.check_start(self.random_start, self.step_size)
        if isinstance(self.size, int) and not isinstance(self.size, bool):
            object.__setattr__(self, "size", (self.size, self.size))
        self._check_pair("size", least=1)
        self._check_pair("place", least=0)

    def usual_eps(self) -> float:
        return self.threat.width

    @cached_property
    def pgd(self) -> PGD:
        """What climbs inside the patch."""
        names = ("steps", "step_size", "random_start", "loss", "eot", "eps", "targeted", "restarts", "box")
        return PGD(**{name: getattr(self, name) for name in names})

    def pursue(self, session: Session) -> None:
        session.ball = self.confined(session.ball, session.keys)
        session.pursue(self.pgd)

    def init(self, start: State, ask: Ask) -> State:
        return self.pgd.init(replace(start, ball=self.confined(start.ball, start.keys)), ask)

    def step(self, state: State, ask: Ask) -> State:
        return self.pgd.step(state, ask)

    def confined(self, ball: Ball, keys: Keys) -> Ball:
        """Return the balls with everything outside the patch held as it is.

        Raises:
            ValueError: no images, or a patch that does not fit into them.
        """
        if ball.clean.ndim != 4:
            raise ValueError(f"{self.name}: x must be images (B, C, H, W), got {tuple(ball.clean.shape)}")
        height, width = ball.clean.shape[2:]
        side = max(1, round(math.sqrt(SHARE * height * width)))
        tall, wide = self.size or (min(side, height), min(side, width))
        top, left = self.place or (0, 0)
        if top + tall > height or left + wide > width:
            raise ValueError(
                f"{self.name}: a patch of size {(tall, wide)} at {(top, left)} does not fit into images of "
                f"{height} x {width}"
            )
        inside = _span(self._from(keys, 0, height - tall), tall, height)[:, None, :, None]
        inside = inside & _span(self._from(keys, 1, width - wide), wide, width)[:, None, None, :]
        mask = inside.expand(ball.clean.shape)
        return replace(ball, mask=mask.clone() if ball.mask is None else mask & ball.mask)

    def _from(self, keys: Keys, axis: int, last: int) -> Tensor:
        """Return where each patch begins along one axis, (B,), 0 to `last`."""
        if self.place is not None:
            return torch.full_like(keys.index, self.place[axis])
        return (keys.fold("place").uniform(2)[:, axis] * (last + 1)).long().clamp_max(last)

    def _check_pair(self, key: str, least: int) -> None:
        value = getattr(self, key)
        if value is None:
            return
        pair = tuple(value) if isinstance(value, list | tuple) else ()
        if len(pair) != 2 or any(isinstance(v, bool) or not isinstance(v, int) or v < least for v in pair):
            raise ValueError(f"{self.name}: {key} must be two whole numbers >= {least} of pixels, got {value!r}")
        object.__setattr__(self, key, pair)


def _span(first: Tensor, length: int, size: int) -> Tensor:
    """Return (B, size) bool: `length` places from `first` (B,) on."""
    at = torch.arange(size, device=first.device)
    return (at >= first[:, None]) & (at < first[:, None] + length)
