"""Colours that are a little other than they were, the same everywhere in the image.

Legend: B samples, C channels, H rows, W columns, K knots.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from robustaug.attacks.ask import Ask
from robustaug.attacks.attack import Attack
from robustaug.attacks.diversity import check_images
from robustaug.attacks.replay import check_unit_box, cut, same
from robustaug.attacks.state import State
from robustaug.attacks.threat import NORMS, Ball
from robustaug.registry import register
from robustaug.rng import uniform_field


@register("attack.colour", tags={"gradient", "image"})
@dataclass(frozen=True, kw_only=True, repr=False)
class Colour(Attack):
    """Bend each channel's tones along a curve that ascends the loss: equal values stay equal.

    The functional threat model of Laidlaw & Feizi 2019 (ReColorAdv), arXiv:1906.00001, section 3, with a curve a
    channel for their lattice over the three: it works on any number of channels, and mixes none. The curve adds to
    each value what its knots, evenly spaced over [0, 1], say there; between knots it is straight. A witness carries
    its "curve", (B, C, K), and the verifier makes it again; its distance is at most `reach` in Linf, and by default
    not limited otherwise.

    Attributes:
        steps: gradients a restart.
        reach: the most that a knot adds or takes, in units of the box; the paper's 0.06 when left out.
        knots: a channel, >= 2; 2 make it affine.
        random_start: begin with knots drawn within reach; otherwise with the image itself.
    """

    norms: ClassVar[tuple[str, ...]] = tuple(NORMS)

    steps: int = 20  # type: ignore[assignment]
    reach: float | str = 0.06
    knots: int = 9
    random_start: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_count("steps")
        self.check_count("knots", 2)
        self.check_number("reach", most=1, open_=False)
        self.check_start(self.random_start, None)

    def usual_eps(self) -> float:
        return math.inf  # the curve's reach is the limit

    def init(self, start: State, ask: Ask) -> State:
        check_images(self.name, start.x)
        check_unit_box(self.name, start.ball)
        shape = (start.x.shape[1], self.knots)
        if not self.random_start:
            return start.at(start.x, curve=start.x.new_zeros(len(start.x), *shape))
        draw = uniform_field(start.keys.fold("curve").rows(), shape).to(start.x.dtype)
        curve = float(self.reach) * (2 * draw - 1)
        return start.at(self.made(start.ball, curve), curve=curve)

    def step(self, state: State, ask: Ask) -> State:
        curve = state.memory["curve"]
        answer = ask.made_from({"curve": curve}).gradient(
            curve,
            self.objective,
            state.label,
            view=lambda curve, part: self.made(state.ball.take(part), curve),
        )
        reach = float(self.reach)
        curve = (curve + 2.5 * reach / self.steps * answer.grad.sign()).clamp(-reach, reach)
        return state.moved(self.made(state.ball, curve), curve=curve)

    def finish(self, state: State, ask: Ask) -> None:
        curve = state.memory["curve"]
        ask.made_from({"curve": curve}).logits(self.made(state.ball, curve), self.objective, state.label)

    def made(self, ball: Ball, curve: Tensor) -> Tensor:
        """Return the clean images with the curves (B, C, K) added, cut at the box."""
        return cut(ball.clean + read_curve(curve, ball.clean), ball)

    def replays(self, ball: Ball, x_adv: Tensor, params: Mapping[str, Tensor]) -> Tensor:
        curve = params["curve"]
        near = (curve.abs() <= float(self.reach) * (1 + 1e-6)).flatten(1).all(1)
        return near & same(self.made(ball, curve), x_adv)


def read_curve(curve: Tensor, image: Tensor) -> Tensor:
    """Return what the curves (B, C, K) over [0, 1] say at each value of (B, C, H, W), linearly between knots."""
    last = curve.shape[2] - 1
    place = (image * last).clamp(0, last)
    left = place.floor().clamp(max=last - 1)
    share = place - left
    at = left.long().flatten(2)
    low, high = curve.gather(2, at).reshape(image.shape), curve.gather(2, at + 1).reshape(image.shape)
    return low + share * (high - low)
