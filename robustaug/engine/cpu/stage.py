"""Stages: operators that need a pixel's surroundings, compiled as whole-image functions."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit, types
from numba.np.numpy_support import carray

from robustaug.engine.cpu.memory import as_pointer
from robustaug.jit import callback

STAGE_ARGUMENTS = 64
OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"contract", "nsz"}}
"""How stages are compiled; contracting multiplies and adds costs a rounding error less, not more."""


@dataclass(frozen=True)
class Stage:
    """An operator's whole-image form.

    Attributes:
        function: `function(src, dst, args)` in Numba's subset; src and dst are float32 (C, H, W), never the same
            memory; args are float64 (64,), the operator's drawn parameters in their declared order.
        channels: numbers of channels it knows, () for any.
        tolerance: greatest difference from the eager form.
        share: of the values that may differ by more, where the operator has steps.
    """

    function: Callable[..., None]
    channels: Sequence[int] = ()
    tolerance: float = 1e-5
    share: float = 0.0


STAGES: dict[str, Stage] = {}
"""Every stage by the name of its operator; filled by importing `robustaug.engine.cpu.stages`."""


def stage(*names: str, channels: Sequence[int] = (), tolerance: float = 1e-5, share: float = 0.0) -> Callable[..., Any]:
    """Register the function below as the compiled form of the operators called `names`; see `Stage` for the rest.

    Raises:
        ValueError: an operator has a stage already.
    """
    for name in names:
        if name in STAGES:
            raise ValueError(f"{name} has a stage already: {STAGES[name].function.__qualname__}")

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        STAGES.update(dict.fromkeys(names, Stage(function, channels, tolerance, share)))
        return function

    return decorate


@functools.cache
def compiled_stage(name: str) -> Any:
    """Return the C callback of a stage: (address of src, address of dst, channels, height, width, address of args)."""
    function = STAGES[name].function
    body = njit(**OPTIONS)(function)

    def entry(src_: int, dst_: int, channels: int, height: int, width: int, args_: int) -> None:
        src = carray(as_pointer(src_), (channels, height, width), np.float32)
        dst = carray(as_pointer(dst_), (channels, height, width), np.float32)
        body(src, dst, carray(as_pointer(args_), (STAGE_ARGUMENTS,), np.float64))

    return callback(entry, types.void(*[types.intp] * 6), f"stage-{function.__name__}", inspect.getsource(function))
