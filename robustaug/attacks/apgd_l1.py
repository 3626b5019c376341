"""Auto-PGD in L1: sparse steps whose sparsity follows the best point, in balls that shrink to eps.

Croce & Hein 2021, "Mind the box: l1-APGD for sparse adversarial attacks on image classifiers", arXiv:2103.01208.
"""

from __future__ import annotations

import torch
from torch import Tensor

from robustaug.attacks.ask import Answer
from robustaug.attacks.state import State
from robustaug.attacks.threat import Ball, per_row
from robustaug.rng import normal_field

RADII = (3.0, 2.0, 1.0)
"""Times eps, for 30, 30 and 40 % of the steps."""

EVERY = 0.04
"""A checkpoint each time this share of the steps is done."""

SHRINK, LEAST = 1.5, 10.0
"""The step is divided by the first at a checkpoint, down to its first size over the second."""

SETTLED = 0.95
"""The sparsity has settled where it is at least this share of what it was at the last checkpoint."""


def begin(start: State, steps: int, **memory: Tensor) -> State:
    """Return the start of one run: a Gaussian point projected into the largest ball."""
    ball = start.ball.within(start.eps * RADII[0])
    noise = normal_field(start.keys.fold("start").rows(), start.clean.shape[1:]).to(start.clean.dtype)
    x = ball.project(start.clean + ball.masked(noise))
    return _restarted(start.at(x, **memory), ball, first=True)


def advance(state: State, answer: Answer, steps: int) -> State:
    """Return the state one step on, given what the model says at `state.x`."""
    phases = _phases(steps)
    phase = sum(state.steps >= at for at in phases[1:])
    ball = state.ball.within(state.eps * RADII[phase])
    old = state.memory
    better = answer.loss > old["best_loss"]
    wide = per_row(better, state.x).bool()
    best, best_grad = torch.where(wide, state.x, old["best"]), torch.where(wide, answer.grad, old["best_grad"])
    x, grad, size, share, changed = state.x, answer.grad, old["size"], old["share"], old["changed"]
    done = state.steps - phases[phase]
    if done and done % max(int(EVERY * steps), 1) == 0:
        now = _changed(best, ball)
        sparser = now < SETTLED * changed
        share = now / now.new_full((), x[0].numel()) / 1.5
        size = torch.where(sparser, ball.eps, (size / SHRINK).maximum(ball.eps / LEAST))
        back = per_row(sparser, x).bool()
        x, grad, changed = torch.where(back, best, x), torch.where(back, best_grad, grad), now
    direction = _sparse_sign(ball.masked(grad), share)
    moved = ball.project(x + per_row(size, x) * direction)
    memory = {"best": best, "best_grad": best_grad, "best_loss": torch.where(better, answer.loss, old["best_loss"])}
    after = state.moved(moved, **memory, size=size, share=share, changed=changed)
    if state.steps + 1 in phases[1:]:
        ball = state.ball.within(state.eps * RADII[phase + 1])
        return _restarted(after.at(ball.project(best)), ball, first=False)
    return after


def _restarted(state: State, ball: Ball, first: bool) -> State:
    """Begin a phase at `state.x` in its ball."""
    values = state.x[0].numel()
    changed = torch.full_like(state.eps, float(values)) if first else _changed(state.x, ball)
    share = torch.full_like(state.eps, 0.2) if first else changed / values / 1.5
    return state.at(
        state.x,
        best=state.x,
        best_grad=torch.zeros_like(state.x),
        best_loss=torch.full_like(state.eps, -torch.inf),
        size=ball.eps.clone(),
        share=share,
        changed=changed,
    )


def _phases(steps: int) -> list[int]:
    """The step that each phase begins at."""
    return [0, int(0.3 * steps), int(0.3 * steps) * 2]


def _changed(x: Tensor, ball: Ball) -> Tensor:
    return (x != ball.clean).flatten(1).sum(1).double()


def _sparse_sign(grad: Tensor, share: Tensor) -> Tensor:
    """Signs of the `share` (B,) of values with the largest gradients, divided by their number: an L1 length of 1."""
    size = grad.abs().flatten(1)
    values = size.shape[1]
    place = ((1 - share) * values).long().clamp(0, values - 1)
    least = size.sort(dim=1).values.gather(1, place[:, None])
    sign = torch.where(size >= least, grad.flatten(1).sign(), 0.0)
    return (sign / sign.abs().sum(1, keepdim=True).clamp_min(1)).reshape(grad.shape)
