"""Square attack: random search with square windows."""

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
from robustaug.registry import register
from robustaug.rng import Keys, uniform_field

HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""After these of 10,000 queries the share of changed values is halved."""


@register("attack.square", tags={"score"})
@dataclass(frozen=True, kw_only=True, repr=False)
class Square(Attack):
    """Change a random window at a time to the edge of the ball, and keep the change if the margin falls.

    Needs only logits, so it sees through masked gradients. Linf: a window gets one sign a channel, from vertical
    stripes on. L2 and L1: a window takes the budget of another, from a grid of bumps on. Andriushchenko et al. 2020,
    arXiv:1912.00049, algorithms 1 to 3. Windows are placed for each sample on its own; the published code moves one
    window over a batch.

    Series (B, C, T) and tables (B, F) have windows along their last dimension; images may have any sides.

    Attributes:
        steps: queries a restart.
        share: of the values that the first windows change.
        schedule: queries that the schedule of window sizes is spread over, `steps` when left out. AutoAttack keeps to
            the one of 10,000, though it has 5,000.
    """

    norms: ClassVar[tuple[str, ...]] = ("Linf", "L2", "L1")

    steps: int = 5000  # type: ignore[assignment]
    share: float = 0.8
    schedule: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_count("steps")
        self.check_number("share", 0, 1, open_=False)
        if self.schedule is not None:
            self.check_count("schedule")

    def init(self, start: State, ask: Ask) -> State:
        x = _stripes(start) if self.norm == "Linf" else _bumps(start)
        return start.at(x, loss=self.objective(ask.logits(x), start.label))

    def step(self, state: State, ask: Ask) -> State:
        keys = state.keys.fold(state.steps)
        share = share_at(self.share, state.steps, self.schedule or self.steps)
        x = _recoloured(state, keys, share) if self.norm == "Linf" else _moved_mass(state, keys, share)
        loss = self.objective(ask.logits(x), state.label)
        better = loss > state.memory["loss"]
        return state.moved(
            torch.where(per_row(better, x).bool(), x, state.x), loss=torch.where(better, loss, state.memory["loss"])
        )


def share_at(share: float, step: int, steps: int) -> float:
    """Return the share of values that a window covers at a step, on a schedule of `steps`."""
    return share / 2 ** sum(step * 10_000 > limit * steps for limit in HALVINGS)


def _plane(x: Tensor) -> tuple[int, int, int]:
    """Channels, height and width of samples of any rank."""
    shape = x.shape[1:]
    if len(shape) == 1:
        return 1, 1, shape[0]
    if len(shape) == 2:
        return shape[0], 1, shape[1]
    return math.prod(shape[:-2]), shape[-2], shape[-1]


def _window(x: Tensor, share: float, least: int = 1) -> tuple[int, int]:
    """Height and width of a window over `share` of the plane, square where the plane allows it."""
    _, height, width = _plane(x)
    side = math.sqrt(share * height * width)
    tall, wide = (share * height if side > width else side), (share * width if side > height else side)
    return min(max(round(tall), least), height), min(max(round(wide), least), width)


def _placed(x: Tensor, at: Tensor, tall: int, wide: int) -> Tensor:
    """(B, 1, H, W) bool: the window of each sample, from two uniforms (B, 2)."""
    _, height, width = _plane(x)
    top = (at[:, :1] * (height - tall + 1)).long().clamp_max(height - tall)
    left = (at[:, 1:] * (width - wide + 1)).long().clamp_max(width - wide)
    rows, columns = torch.arange(height, device=x.device), torch.arange(width, device=x.device)
    inside = (rows >= top) & (rows < top + tall)
    across = (columns >= left) & (columns < left + wide)
    return (inside[:, :, None] & across[:, None, :])[:, None]


def _signs(unit: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.where(unit < 0.5, -1.0, 1.0).to(dtype)


def _stripes(start: State) -> Tensor:
    channels, _, width = _plane(start.x)
    unit = uniform_field(start.keys.fold("stripes").rows(), (channels, 1, width))
    delta = _signs(unit, start.x.dtype) * start.eps.to(start.x.dtype)[:, None, None, None]
    x = start.clean.reshape(len(start.x), *_plane(start.x)) + delta
    return start.ball.project(x.reshape(start.x.shape))


def _recoloured(state: State, keys: Keys, share: float) -> Tensor:
    """Linf: the window goes to one side of the ball in each channel; what lies outside the box is cut."""
    plane = _plane(state.x)
    draws = keys.uniform(2 + plane[0])
    inside = _placed(state.x, draws[:, :2], *_window(state.x, share))
    shift = 2 * _signs(draws[:, 2:], state.x.dtype) * state.eps.to(state.x.dtype)[:, None]
    changed = state.x.reshape(-1, *plane) + shift[:, :, None, None]
    x = torch.where(inside, changed, state.x.reshape(-1, *plane))
    return state.ball.project(x.reshape(state.x.shape))


def _bump(tall: int, wide: int, like: Tensor) -> Tensor:
    """(tall, wide) values that fall from the middle of the window outwards: one quarter up, one down in each half."""
    rows = _heights(tall // 2 or 1, wide, like)
    rest = tall - len(rows)
    return torch.cat([rows, -_heights(rest, wide, like)]) if rest else rows


def _heights(tall: int, wide: int, like: Tensor) -> Tensor:
    """Sums of ever smaller rectangles around the middle: published as eta."""
    heights = torch.zeros(tall, wide, dtype=like.dtype, device=like.device)
    top, left = tall // 2 + 1, wide // 2 + 1
    middle, centre = top - 1, left - 1
    for at in range(max(top, left)):
        up, side = max(middle - at, 0), max(centre - at, 0)
        heights[up : middle + at + 1, side : centre + at + 1] += 1 / (at + 1) ** 2
    return heights


def _unit(bump: Tensor, norm: str) -> Tensor:
    """The bump with length 1 in the norm."""
    return bump / (bump.norm() if norm == "L2" else bump.abs().sum())


def _bumps(start: State) -> Tensor:
    """L2 and L1: a grid of bumps of random signs that together use the whole budget."""
    channels, height, width = _plane(start.x)
    tall, wide = max(height // 5, 1), max(width // 5, 1)
    bump = _unit(_bump(tall, wide, start.x), start.ball.norm.name)
    down, across = max(height // tall, 1), max(width // wide, 1)
    unit = uniform_field(start.keys.fold("bumps").rows(), (channels, down, across))
    tiles = torch.kron(_signs(unit, start.x.dtype), bump[None])
    delta = start.x.new_zeros(len(start.x), channels, height, width)
    delta[:, :, : down * tall, : across * wide] = tiles
    return _filled(start, start.ball.masked(delta.reshape(start.x.shape)))


def _filled(state: State, delta: Tensor) -> Tensor:
    """Scale delta to the edge of the ball, add it, and cut at the box."""
    length = state.ball.norm.measure(delta).clamp_min(1e-12)
    return state.ball.project(state.clean + delta * per_row(state.eps / length, delta))


def _moved_mass(state: State, keys: Keys, share: float) -> Tensor:
    """L2 and L1: one window gets a bump in each channel, paid for by the budget left over and by a second window."""
    plane = _plane(state.x)
    channels = plane[0]
    draws = keys.uniform(4 + channels + 1)
    tall, wide = _window(state.x, share, least=3)
    taker = _placed(state.x, draws[:, :2], tall, wide)
    giver = _placed(state.x, draws[:, 2:4], tall, wide)
    norm, power = state.ball.norm.name, 2 if state.ball.norm.name == "L2" else 1
    delta = (state.x - state.clean).reshape(-1, *plane)
    bump = _unit(_bump(tall, wide, delta), norm)
    lying = _unit(_bump(wide, tall, delta).T.contiguous(), norm)
    standing = (draws[:, 4 + channels] < 0.5)[:, None, None, None]

    def mass(values: Tensor) -> Tensor:
        return (values.abs() ** power).flatten(2).sum(2)  # (B, C)

    eps = state.eps.to(delta.dtype)
    spare = (eps**power - mass(delta).sum(1)).clamp_min(0)
    both = mass(torch.where(taker | giver, delta, 0.0))
    # the budget of both windows and an even part of what is unused go into the taker
    budget = (both + spare[:, None] / channels) ** (1 / power)  # (B, C)
    shape = torch.where(standing, _put(taker, bump), _put(taker, lying))
    signed = shape * _signs(draws[:, 4 : 4 + channels], delta.dtype)[:, :, None, None]
    old = torch.where(taker, delta, 0.0)
    old = old / _length(old, power).clamp_min(1e-12)
    mixed = signed + old
    mixed = mixed / _length(mixed, power).clamp_min(1e-12)
    new = torch.where(taker, mixed * budget[:, :, None, None], torch.where(giver, 0.0, delta))
    return _filled(state, state.ball.masked(new.reshape(state.x.shape)))


def _length(values: Tensor, power: int) -> Tensor:
    return (values.abs() ** power).sum((2, 3), keepdim=True) ** (1 / power)


def _put(window: Tensor, bump: Tensor) -> Tensor:
    """(B, 1, H, W): the bump where each sample's window is."""
    spread = torch.zeros(window.shape, dtype=bump.dtype, device=bump.device)
    spread[window] = bump.flatten().repeat(len(window))
    return spread
