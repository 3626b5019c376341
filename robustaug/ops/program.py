"""What an operator does to each sample, in a form that a backend can compile: the engine's input.

An operator's `program(params, size)` is a list of steps. In a step every sample gets one of a few kernels, or none:
so a policy that gives each sample another operation is one step, and the kernel is an opcode of the sample.

Legend: B samples, C channels, H rows, W columns; shape = (C, H, W).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

MAP_ARGUMENTS = 9


@dataclass(frozen=True)
class Kernel:
    """One thing that may happen to a sample.

    Attributes:
        kind: "value", a formula of one channel value; "pixel", a formula of (red, green, blue); "map", a projective
            map, output to input pixel coordinates, whose nine entries are the arguments; consecutive maps are one
            resampling; "equalize", PIL's rule; "stage", anything else: a whole image in, a whole image out. "fork"
            keeps the image as it is here; "add" adds it times its argument to a sum and goes back to the fork;
            "join" mixes the fork (1 - share) and the sum (share).
        name: what plans call it.
        formula: of "value" and "pixel": a function in the words of `robustaug.ops.pixelwise`.
        reads: what a formula wants to know about the image as it is then, passed behind the arguments: "grey_mean",
            "channel_mean" (one number), or "channel_range" (least, greatest).
        draws: "normal" or "uniform": a number a value, passed last; the four words of its key are the last arguments.
        outside: of "map": "zero" (black) or "edge" (the nearest pixel) comes in from beyond the border.
        operator: of "stage": the operator, whose eager form is the definition.
    """

    kind: str
    name: str
    formula: Callable[..., Any] | None = None
    reads: str = ""
    draws: str = ""
    outside: str = "zero"
    operator: Any = field(default=None, compare=False)


@dataclass(frozen=True)
class Step:
    """What happens to a batch at one point of a pipeline.

    Attributes:
        kernels: those that a sample may get.
        pick: (B,) int64, each sample's position in `kernels`, -1 for none.
        args: (B, N) float64, each sample's arguments of the kernel that it picked, padded with 0.
        shape: (C, H, W) after the step.
        params: for each "stage" among the kernels, by its position: what its operator drew, to run it eagerly.
    """

    kernels: tuple[Kernel, ...]
    pick: Tensor
    args: Tensor
    shape: tuple[int, int, int]
    params: dict[int, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        kernel: Kernel,
        arguments: Sequence[Tensor],
        shape: Sequence[int],
        n: int,
        params: dict[str, Any] | None = None,
    ) -> Step:
        """Return the step in which each of n samples gets `kernel`; arguments are (B,) or (B, k), any dtype."""
        columns = [a.detach().to(torch.float64).reshape(n, -1) for a in arguments]
        args = torch.cat(columns, dim=1) if columns else torch.zeros(n, 0, dtype=torch.float64)
        C, H, W = shape
        kept = {} if params is None else {0: params}
        return cls((kernel,), torch.zeros(n, dtype=torch.int64), args, (int(C), int(H), int(W)), kept)

    def only(self, chosen: Tensor) -> Step:
        """Return the step for the samples where `chosen` (B,) is true; the others get none."""
        pick = torch.where(chosen, self.pick, -1)
        return Step(self.kernels, pick, self.args, self.shape, self.params)

    def without(self, positions: Collection[int]) -> Step:
        """Return the step without the kernels at these positions; samples that had picked one get none."""
        if not positions:
            return self
        kept = [p for p in range(len(self.kernels)) if p not in positions]
        new = torch.full((len(self.kernels) + 1,), -1, dtype=torch.int64)
        new[kept] = torch.arange(len(kept))  # the last entry is what -1 reads
        params = {kept.index(p): drawn for p, drawn in self.params.items() if p in kept}
        return Step(tuple(self.kernels[p] for p in kept), new[self.pick], self.args, self.shape, params)


class Choice(NamedTuple):
    """A sample's alternatives: `steps`, taken where `chosen` (B,) is true."""

    chosen: Tensor
    steps: Sequence[Step]


def either(choices: Sequence[Choice], shape: Sequence[int]) -> list[Step]:
    """Return steps in which each sample goes the way that was chosen for it; choices exclude each other.

    The ways' first steps become one step, then their second ones, and so on.
    """
    turns = max((len(choice.steps) for choice in choices), default=0)
    return [
        _merged([(c.chosen, c.steps[turn]) for c in choices if turn < len(c.steps)], shape) for turn in range(turns)
    ]


def _merged(ways: Sequence[tuple[Tensor, Step]], shape: Sequence[int]) -> Step:
    width = max(step.args.shape[1] for _, step in ways)
    kernels: list[Kernel] = []
    kept: dict[int, dict[str, Any]] = {}
    pick = torch.full_like(ways[0][1].pick, -1)
    args = torch.zeros(len(pick), width, dtype=torch.float64)
    for chosen, step in ways:
        offset = len(kernels)
        kernels += step.kernels
        kept |= {offset + position: params for position, params in step.params.items()}
        pick = torch.where(chosen & (step.pick >= 0), step.pick + offset, pick)
        padded = torch.nn.functional.pad(step.args, (0, width - step.args.shape[1]))
        args = torch.where(chosen[:, None], padded, args)
    C, H, W = shape
    return Step(tuple(kernels), pick, args, (int(C), int(H), int(W)), kept)
