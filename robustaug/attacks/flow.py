"""Pixels read from a little beside where they are.

Legend: B samples, C channels, H rows, W columns.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from robustaug.attacks.adam import adam
from robustaug.attacks.ask import Ask
from robustaug.attacks.attack import Attack
from robustaug.attacks.diversity import check_images
from robustaug.attacks.replay import check_unit_box, cut, same
from robustaug.attacks.state import State
from robustaug.attacks.threat import NORMS, Ball
from robustaug.ops.image.motion import grid
from robustaug.ops.image.resample import read_at
from robustaug.registry import register
from robustaug.rng import uniform_field


@register("attack.flow", tags={"gradient", "image"})
@dataclass(frozen=True, kw_only=True, repr=False)
class Flow(Attack):
    """Read every pixel from up to `reach` pixels beside it, by a smooth flow that ascends the loss.

    Xiao et al. 2018, "Spatially transformed adversarial examples" (stAdv), arXiv:1801.02612, equations 1 to 4. The
    paper minimises by L-BFGS and sets no limit; ours takes steps of Adam, which treat each sample for itself, and
    clips the flow. It begins beside the image: right on a pixel, interpolation has only the slope to one side. Beyond
    the border lies the nearest pixel. A witness carries its "flow", (B, H, W, 2) as (x, y) in pixels, and the verifier
    makes it again; its distance is measured and by default not limited.

    Attributes:
        steps: of Adam.
        reach: the most that a pixel moves along either axis, in pixels.
        rate: Adam's first rate, in units of reach, in (0, 1]; it falls to zero in even parts. The flow begins at a
            draw as large.
        smoothness: weight tau of `roughness` beside the margin; 0.05 as published.
    """

    norms: ClassVar[tuple[str, ...]] = tuple(NORMS)

    steps: int = 30  # type: ignore[assignment]
    reach: float = 1.0
    rate: float = 0.2
    smoothness: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_count("steps")
        self.check_number("reach")
        self.check_number("rate", most=1, open_=False)
        self.check_number("smoothness", open_=False)

    def usual_eps(self) -> float:
        return math.inf  # the flow's reach is the limit

    def init(self, start: State, ask: Ask) -> State:
        check_images(self.name, start.x)
        check_unit_box(self.name, start.ball)
        B, _, H, W = start.x.shape
        draw = uniform_field(start.keys.fold("flow").rows(), (H, W, 2)).to(start.x.dtype)
        flow, nothing = self.rate * self.reach * (2 * draw - 1), start.x.new_zeros(B, H, W, 2)
        return start.at(self.made(start.ball, flow), flow=flow, mean=nothing, square=nothing)

    def step(self, state: State, ask: Ask) -> State:
        flow, taken = state.memory["flow"], torch.full_like(state.label, state.steps)
        answer = ask.made_from({"flow": flow}).gradient(
            flow,
            self.objective,
            state.label,
            view=lambda flow, part: self.made(state.ball.take(part), flow),
        )
        grad = answer.grad - self.smoothness * _slope_of_roughness(flow)
        speed, mean, square = adam(grad, state.memory["mean"], state.memory["square"], taken)
        rate = self.rate * self.reach * (1 - state.steps / self.steps)
        flow = (flow + rate * speed).clamp(-self.reach, self.reach)
        return state.moved(self.made(state.ball, flow), flow=flow, mean=mean, square=square)

    def finish(self, state: State, ask: Ask) -> None:
        flow = state.memory["flow"]
        ask.made_from({"flow": flow}).logits(self.made(state.ball, flow), self.objective, state.label)

    def made(self, ball: Ball, flow: Tensor) -> Tensor:
        """Return the clean images read at the flow's positions, (B, C, H, W)."""
        H, W = ball.clean.shape[-2:]
        return cut(read_at(ball.clean, grid(H, W, flow.device) + flow, "edge"), ball)

    def replays(self, ball: Ball, x_adv: Tensor, params: Mapping[str, Tensor]) -> Tensor:
        flow = params["flow"]
        near = (flow.abs() <= self.reach * (1 + 1e-6)).flatten(1).all(1)
        return near & same(self.made(ball, flow), x_adv)


def roughness(flow: Tensor) -> Tensor:
    """Return how much neighbouring pixels part, (B,): summed over each pixel's four neighbours, equation 4."""
    down, right = flow[:, 1:] - flow[:, :-1], flow[:, :, 1:] - flow[:, :, :-1]
    # the root has no slope at 0, where the flow begins
    parts = [(step.square().sum(3) + 1e-12).sqrt().sum((1, 2)) for step in (down, right)]
    return 2 * (parts[0] + parts[1])


def _slope_of_roughness(flow: Tensor) -> Tensor:
    leaf = flow.detach().requires_grad_()
    return torch.autograd.grad(roughness(leaf).sum(), leaf)[0]
