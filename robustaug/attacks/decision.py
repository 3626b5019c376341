"""What decision-based attacks share: a point that breaks the model to begin from, and the way back to the boundary.

Legend: B samples, ... the rest of a sample's shape, C H W image.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from robustaug.attacks.ask import Ask
from robustaug.attacks.state import AttackWarning, State
from robustaug.attacks.threat import per_row
from robustaug.attacks.verify import broken
from robustaug.rng import Keys, uniform_field


def find_start(state: State, ask: Ask, targeted: bool, draws: int) -> State:
    """Return the state at a random point of the box that breaks the model; a sample without one is done.

    Images are asked as noise of ever coarser grain, down to flat colours: a model may call all fine noise one class.

    Args:
        draws: most points asked for a sample.

    Warns:
        AttackWarning: names the samples for which no draw broke the model; they stand for want of a start.
    """
    least, most = state.ball.endless.bounds
    x, found = state.clean.clone(), torch.zeros_like(state.label, dtype=torch.bool)
    for draw in range(draws):
        rows = (~found).nonzero()[:, 0]
        if not len(rows):
            break
        share = _noise(state.keys[rows].fold("start").fold(draw), state.clean.shape[1:], draw).to(x.dtype)
        # a box without end is searched in cubes of growing size around the sample
        reach = (1 + state.clean[rows].flatten(1).abs().amax(1)) * 2.0 ** (draw % 16)
        around = per_row(reach, share)
        low = torch.where(least[rows].isinf(), state.clean[rows] - around, least[rows])
        high = torch.where(most[rows].isinf(), state.clean[rows] + around, most[rows])
        # clamped: rounding may put the sum beside the box
        point = (low + share * (high - low)).clamp(low, high)
        fell = broken(ask.of(rows).logits(point), state.label[rows], targeted)
        x[rows] = torch.where(per_row(fell, x).bool(), point, x[rows])
        found[rows] = fell
    if not bool(found.all()):
        lost = state.keys.index[~found].tolist()
        warnings.warn(
            f"none of {draws} random points broke the model for {len(lost)} of {len(found)} samples, which stand "
            f"untried (keys {_few(lost)}); raise draws, or use an attack that reads logits",
            AttackWarning,
            stacklevel=2,
        )
    return state.at(x, done=~found)


def to_boundary(state: State, ask: Ask, targeted: bool, halvings: int) -> Tensor:
    """Return the nearest point found that breaks the model between each sample and `state.x`, which breaks it.

    The interval is halved: in L2 along the straight line; in Linf each value is clipped to the same distance from the
    sample (Chen et al. 2020, arXiv:1904.02144, algorithm 1 and the projections of section III-A).
    """
    best, high = state.x, state.ball.measure(state.x)
    low = torch.zeros_like(high)
    for _ in range(halvings):
        middle = (low + high) / 2
        point = state.ball.within(middle).project(state.x)
        fell = broken(ask.logits(point), state.label, targeted)
        best = torch.where(per_row(fell, best).bool(), point, best)
        low, high = torch.where(fell, low, middle), torch.where(fell, middle, high)
    return best


def _noise(keys: Keys, shape: torch.Size, draw: int) -> Tensor:
    """Return (B, *shape) uniform in [0, 1); images (C, H, W) in blocks of 1, 2, 4, ... up to the whole side in turn."""
    if len(shape) != 3:
        return uniform_field(keys.rows(), shape)
    channels, height, width = shape
    block = 2 ** (draw % ((max(height, width) - 1).bit_length() + 1))
    coarse = uniform_field(keys.rows(), (channels, -(-height // block), -(-width // block)))
    return coarse.repeat_interleave(block, 2).repeat_interleave(block, 3)[..., :height, :width]


def _few(values: list[int], most: int = 8) -> str:
    return ", ".join(map(str, values[:most])) + (", ..." if len(values) > most else "")
