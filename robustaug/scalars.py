"""Functions of one float32 for Numba: the words of formulas, and what random numbers are made with.

There is no vector library to rely on, so powers are polynomials that a compiler can vectorise.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import extending, njit, types

f32 = np.float32
intrinsic: Any = extending.intrinsic  # it calls what it decorates with other arguments than it is called with
_FAST = {"contract", "nsz"}
_I32 = ir.IntType(32)


@intrinsic
def bits_of(typingctx: Any, x: Any) -> Any:
    """Return the bits of a float32 as an int32."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], _I32)

    return types.int32(types.float32), codegen


@intrinsic
def float_of(typingctx: Any, x: Any) -> Any:
    """Return the float32 that an int32's bits stand for."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.FloatType())

    return types.float32(types.int32), codegen


@njit(inline="always")
def where(condition, yes, no):
    return yes if condition else no


@njit(inline="always")
def maximum(a, b):
    return a if a > b else b


@njit(inline="always")
def minimum(a, b):
    return a if a < b else b


@njit(inline="always")
def clip(x):
    x = x if x > f32(0) else f32(0)
    return x if x < f32(1) else f32(1)


@njit(inline="always")
def floor(x):
    return np.floor(x)


@njit(inline="always")
def nearest(x):
    # adding 1.5 * 2^23 leaves no room for digits behind the point: the sum is rounded to even
    return (x + f32(12582912)) - f32(12582912)


@njit(fastmath=_FAST)
def log2(x):
    """Logarithm of x > 0 within 2e-7 of its magnitude plus 1: a series in (m - 1) / (m + 1)."""
    bits = bits_of(x)
    exponent = (bits - np.int32(0x3F3504F3)) >> np.int32(23)  # so that the mantissa lies about 1
    m = float_of(bits - (exponent << np.int32(23)))
    s = (m - f32(1)) / (m + f32(1))
    q = s * s
    series = f32(1 / 9) * q + f32(1 / 7)
    series = series * q + f32(1 / 5)
    series = series * q + f32(1 / 3)
    return f32(exponent) + f32(2.8853900817779268) * (s + s * q * series)


@njit(fastmath=_FAST)
def exp2(x):
    """Two to the power x, relative error below 2e-7; from 2^-126 to 2^127."""
    x = minimum(maximum(x, f32(-126)), f32(127))
    whole = nearest(x)
    t = (x - whole) * f32(0.6931471805599453)
    p = f32(1 / 720) * t + f32(1 / 120)
    p = p * t + f32(1 / 24)
    p = p * t + f32(1 / 6)
    p = p * t + f32(1 / 2)
    p = p * t * t + t + f32(1)
    return p * float_of((np.int32(whole) + np.int32(127)) << np.int32(23))


@njit(fastmath=_FAST)
def exp(x):
    return exp2(x * f32(1.4426950408889634))


@njit(fastmath=_FAST)
def power(x, y):
    return exp2(y * log2(x))
