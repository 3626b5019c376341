"""How functions that stages call are compiled.

A stage's first compilation takes a second, most of it spent on the functions it calls, each of which Numba compiles
by itself and then once more as a part of its caller. So they are few, and plain: a loop compiles in a tenth of the
time of an array expression, of `a[:] = b` (two seconds, the first time) or of `a.max()`. A literal integer is a type of
its own: pass `np.int64` constants.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from robustaug.engine.cpu.stage import OPTIONS

compiled = njit(**OPTIONS)
"""For what several functions call."""

inlined = njit(forceinline=True, **OPTIONS)
"""For a few operations on numbers inside a loop, which vectorises only when they are part of it."""

spliced = njit(inline="always", **OPTIONS)
"""For a named piece of one or two functions: becomes part of their source, so it compiles once. Takes no *args."""

_ZERO, _ONE = np.float32(0), np.float32(1)


@inlined
def unit(value):
    """Return a float32 kept in [0, 1]."""
    return min(max(value, _ZERO), _ONE)
