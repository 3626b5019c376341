"""Stages: operators that need an image's neighbourhood or statistics, as functions of one whole image, compiled.

A stage is a plain function in Numba's subset; whoever runs it compiles it with `OPTIONS`. The operator's `formula` is
the definition: `tests/engine/cpu/test_stages.py` holds every stage to it within the tolerance declared here.

Legend: C channels, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from robustaug.ops.operator import Operator, Params

WIDTH = 64
"""Numbers a sample hands to its stage at most."""

OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"contract", "nsz"}}
"""How stages are compiled; contracting multiplies and adds costs a rounding error less, not more."""


@dataclass(frozen=True)
class Stage:
    """One operator as a function of an image.

    Attributes:
        function: `function(src, dst, args)`; src and dst (C, H, W) float32 in C order, src in [0, 1], never the same
            memory; args (64,) float64, the drawn parameters. Writes the whole of dst, in [0, 1].
        columns: the parameters that args holds, in order; None for all that the operator declares.
        channels: the numbers of channels it knows; None for any.
        tolerance: how far a value may lie from the eager form's.
        share: of the values that may lie further away, where a rounding error decides between two steps.
    """

    function: Callable[..., None]
    columns: tuple[str, ...] | None = None
    channels: tuple[int, ...] | None = None
    tolerance: float = 1e-5
    share: float = 0.0

    def takes(self, channels: int) -> bool:
        """Whether the function knows images of so many channels."""
        return self.channels is None or channels in self.channels

    def arguments(self, operator: Operator, params: Params) -> np.ndarray:
        """Return (B, 64) float64, the rows of args: drawn parameters side by side, a key as its four words.

        Args:
            operator: the operator the stage stands for.
            params: drawn by it, on any device; "active" is left out.
        """
        given = [params[name] for name in self.columns or operator.declared]
        columns = [value.detach().to("cpu", torch.float64).reshape(len(value), -1) for value in given]
        drawn = torch.cat(columns, dim=1)
        assert drawn.shape[1] <= WIDTH, f"{operator.name} hands over {drawn.shape[1]} numbers, {WIDTH} fit"
        out = np.zeros((len(drawn), WIDTH))
        out[:, : drawn.shape[1]] = drawn.numpy()
        return out


STAGES: dict[str, Stage] = {}
"""Every stage by the name of its operator; filled by importing `robustaug.engine.cpu.stages`."""


def stage(
    *names: str,
    columns: Iterable[str] | None = None,
    channels: Iterable[int] | None = None,
    tolerance: float = 1e-5,
    share: float = 0.0,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register the function below as the stage of the operators `names`; see `Stage` for the rest.

    Raises:
        ValueError: an operator has a stage already.
    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        made = Stage(
            function,
            tuple(columns) if columns is not None else None,
            tuple(channels) if channels is not None else None,
            tolerance,
            share,
        )
        for name in names:
            if name in STAGES:
                raise ValueError(f"{name} has a stage already: {STAGES[name].function.__qualname__}")
            STAGES[name] = made
        return function

    return decorate
