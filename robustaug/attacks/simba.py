"""SimBA: try one direction of a basis after the other, and keep what raises the loss."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from robustaug.attacks.ask import Ask
from robustaug.attacks.attack import Attack
from robustaug.attacks.state import State
from robustaug.attacks.threat import per_row
from robustaug.parameters import check_choice
from robustaug.registry import register
from robustaug.rng import uniform_field

BASES = ("pixel", "dct")


@register("attack.simba", tags={"score"})
@dataclass(frozen=True, kw_only=True, repr=False)
class SimBA(Attack):
    """Step forth, else back, along a random direction of an orthonormal basis wherever that raises the loss.

    Guo et al. 2019, "Simple black-box adversarial attacks", arXiv:1905.07121, algorithm 1. Each sample goes through
    the basis at its own pace, one query a step, and begins again at its end. The published bound is the length of the
    basis steps taken; here each point is projected onto the ball, so that the search may go on at its edge.

    Attributes:
        steps: queries.
        step_size: length of a step in the norm: a number or a fraction; when left out eps for single values
            in Linf, where each may go to its end at once, and a quarter of eps otherwise.
        basis: "pixel" (single values), or "dct": cosine waves over each channel of an image.
        low: with "dct", the share of the waves along each side that come first: the lowest; the published 1/8 for
            ImageNet.
        loss: what is pushed up: "ce" (the published probability orders points alike), "margin" or "dlr".
    """

    steps: int = 1000  # type: ignore[assignment]
    step_size: float | str | None = None
    basis: str = "pixel"
    low: float | str = 0.125
    loss: str = "ce"  # type: ignore[misc]

    norms: ClassVar[tuple[str, ...]] = ("Linf", "L2")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_count("steps")
        if self.step_size is not None:
            self.check_number("step_size")
        check_choice(self.name, "basis", self.basis, BASES)
        self.check_number("low", most=1.0, open_=False)

    def init(self, start: State, ask: Ask) -> State:
        if self.basis == "dct" and start.x.ndim != 4:
            raise ValueError(f"{self.name}: basis 'dct' needs images (B, C, H, W), got {tuple(start.x.shape)}")
        zeros = torch.zeros_like(start.label)
        order, free = self._order(start)
        loss = self.objective(ask.logits(start.x, self.objective, start.label), start.label)
        return start.at(start.x, loss=loss, order=order, free=free, place=zeros, back=zeros.bool())

    def step(self, state: State, ask: Ask) -> State:
        memory = state.memory
        place, back = memory["place"], memory["back"]
        chosen = memory["order"].gather(1, (place % memory["free"])[:, None])[:, 0]
        direction = state.ball.masked(self._direction(chosen, state.x))
        length = state.ball.norm.measure(direction)
        length = torch.where(length > 0, length, 1.0)  # a mask may leave nothing of a direction
        share = 1.0 if (self.norm, self.basis) == ("Linf", "pixel") else 0.25
        size = self.step_length(state.eps, self.step_size, share)
        moved = per_row(torch.where(back, -size, size) / length, direction) * direction
        point = state.ball.project(state.x + moved)
        loss = self.objective(ask.logits(point, self.objective, state.label), state.label)
        better = loss > memory["loss"]
        return state.moved(
            torch.where(per_row(better, point).bool(), point, state.x),
            loss=torch.where(better, loss, memory["loss"]),
            place=place + (better | back),  # the next direction, once this one helped or failed both ways
            back=~better & ~back,
        )

    def finish(self, state: State, ask: Ask) -> None:
        """Do nothing: every point has been judged."""

    def _order(self, state: State) -> tuple[Tensor, Tensor]:
        """Return in which order directions come, (B, D) int64, and how many of them can move a sample, (B,)."""
        rank = uniform_field(state.keys.fold("order").rows(), state.x.shape[1:])
        values = torch.full_like(state.label, state.x[0].numel())
        if self.basis == "dct":
            high, wide = (torch.arange(side, device=rank.device) for side in state.x.shape[2:])
            first = (high < math.ceil(float(self.low) * len(high)))[:, None] & (
                wide < math.ceil(float(self.low) * len(wide))
            )
            rank = rank + ~first
        elif state.ball.mask is not None:
            rank = rank + ~state.ball.mask
            values = state.ball.mask.flatten(1).sum(1).clamp_min(1)
        return rank.flatten(1).argsort(dim=1), values

    def _direction(self, chosen: Tensor, like: Tensor) -> Tensor:
        """Return the directions `chosen` (B,) of the basis, (B, ...) like the samples."""
        if self.basis == "pixel":
            return torch.zeros_like(like).flatten(1).scatter(1, chosen[:, None], 1.0).reshape(like.shape)
        height, width = like.shape[2:]
        channel, row, column = chosen // (height * width), chosen // width % height, chosen % width
        wave = _cosine(row, height).to(like.dtype)[:, :, None] * _cosine(column, width).to(like.dtype)[:, None, :]
        out = torch.zeros_like(like)
        out[torch.arange(len(out), device=out.device), channel] = wave
        return out


def _cosine(frequency: Tensor, size: int) -> Tensor:
    """Return the waves of the orthonormal DCT-II of length `size`, one a row, (B, size) float64."""
    at = torch.arange(size, device=frequency.device, dtype=torch.float64) + 0.5
    wave = torch.cos(math.pi / size * frequency.double()[:, None] * at)
    return wave * torch.where(frequency == 0, 1.0, 2.0).double().sqrt()[:, None] / math.sqrt(size)
