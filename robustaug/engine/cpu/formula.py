"""An operator's formula as a compiled loop over a tile: what an opcode points to.

Every loop has the same C signature, so that one executor runs them all, a third party's too:
(address of px, channels, n, address of arguments, address of statistics, address of draws). px and draws are float32
(channels, TILE); arguments are float64; statistics are float64 (channels, 2).
"""

from __future__ import annotations

import functools
import inspect
from typing import Any

import numpy as np
from numba import njit, types
from numba.np.numpy_support import carray

from robustaug import scalars
from robustaug.engine.cpu.gather import TILE
from robustaug.engine.cpu.memory import as_pointer
from robustaug.engine.source import Carried, carry
from robustaug.jit import callback
from robustaug.ops.program import Kernel

STATISTICS = {"": 0, "grey_mean": 1, "channel_mean": 1, "channel_range": 2}
LOOP = types.void(*[types.intp] * 6)

_VALUE = """
def loop(px_, channels, n, args_, stats_, draws_):
    px = carray(as_pointer(px_), (channels, TILE), float32)
    args = carray(as_pointer(args_), (64,), float64)
    stats = carray(as_pointer(stats_), (channels, 2), float64)
    draws = carray(as_pointer(draws_), (channels, TILE), float32)
    {arguments}
    for c in range(channels):
        {statistics}
        for i in range(n):
            px[c, i] = {name}({values})
"""
_PIXEL = """
def loop(px_, channels, n, args_, stats_, draws_):
    px = carray(as_pointer(px_), (3, TILE), float32)
    args = carray(as_pointer(args_), (64,), float64)
    {arguments}
    for i in range(n):
        px[0, i], px[1, i], px[2, i] = {name}({values})
"""


@functools.cache
def compiled(kernel: Kernel) -> Any:
    """Return the C callback of a "value" or "pixel" kernel; its `address` is the opcode.

    Raises:
        FormulaError: the formula uses what cannot be compiled.
    """
    assert kernel.formula is not None
    carried = carry(kernel.formula, number="f32", decorator="njit")
    text = _loop(kernel, carried)
    scope: dict[str, Any] = {"__name__": __name__} | {word: getattr(scalars, word) for word in carried.words}
    scope |= {"njit": njit(inline="always"), "carray": carray, "as_pointer": as_pointer, "TILE": TILE}
    scope |= {"f32": np.float32, "float32": np.float32, "float64": np.float64}
    exec(compile(text, "<robustaug formula>", "exec"), scope)  # noqa: S102 (the registered operator's own source)
    scope["loop"]
    return callback(scope["loop"], LOOP, f"formula-{kernel.name}", text)


def count(kernel: Kernel) -> int:
    """Return how many of the step's arguments the formula takes; the key of its draws lies behind them."""
    assert kernel.formula is not None
    own = len(inspect.signature(kernel.formula).parameters) - (1 if kernel.kind == "value" else 3)
    return own - STATISTICS[kernel.reads] - bool(kernel.draws)


def _loop(kernel: Kernel, carried: Carried) -> str:
    known = STATISTICS[kernel.reads]
    arguments = [f"a{i}" for i in range(count(kernel))]
    first = ["px[c, i]"] if kernel.kind == "value" else ["px[0, i]", "px[1, i]", "px[2, i]"]
    values = [*first, *arguments, *(f"s{i}" for i in range(known)), *(["draws[c, i]"] if kernel.draws else [])]
    return (
        carried.text
        + "\n"
        + (_VALUE if kernel.kind == "value" else _PIXEL).format(
            name=carried.name,
            arguments="\n    ".join(f"a{i} = float32(args[{i}])" for i in range(len(arguments))) or "pass",
            statistics="\n        ".join(f"s{i} = float32(stats[c, {i}])" for i in range(known)) or "pass",
            values=", ".join(values),
        )
    )
