"""Memory by address, for Numba: tensors of any type and stride reach one compiled function."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.np.numpy_support import carray

from robustaug.scalars import intrinsic


def _loader(bits: int, wide: Any, to: Any, make: Any) -> Any:
    """Return an intrinsic that reads `bits` bits at a byte address plus an offset, aligned or not."""

    @intrinsic
    def load(typingctx: Any, address: Any, offset: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            place = builder.gep(builder.inttoptr(args[0], _I8.as_pointer()), [args[1]])
            return make(builder, builder.load(builder.bitcast(place, wide.as_pointer()), align=1))

        return to(types.intp, types.intp), codegen

    return load


_I8, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))

load_u8 = _loader(8, _I8, types.int32, lambda builder, value: builder.zext(value, _I32))
load_u16 = _loader(16, _I16, types.int32, lambda builder, value: builder.zext(value, _I32))
load_u32 = _loader(32, _I32, types.uint32, lambda builder, value: value)
load_f32 = _loader(32, ir.FloatType(), types.float32, lambda builder, value: value)


@intrinsic
def as_pointer(typingctx: Any, address: Any) -> Any:
    """Return an address as a void pointer, which `numba.carray` makes an array of."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], context.get_value_type(types.voidptr))

    return types.voidptr(types.intp), codegen


@njit(inline="always")
def floats(address: int, n: int) -> np.ndarray:
    """Return the n float32 at an address."""
    return carray(as_pointer(address), (n,), np.float32)


def caller(n: int) -> Any:
    """Return an intrinsic that calls the C function at an address with n whole numbers (addresses or counts)."""
    names = ", ".join(f"a{i}" for i in range(n))
    scope: dict[str, Any] = {}

    def make(typingctx: Any, *arguments: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            function = ir.FunctionType(ir.VoidType(), [_I64] * n)
            builder.call(builder.inttoptr(args[0], function.as_pointer()), list(args[1:]))
            return context.get_dummy_value()

        return types.void(types.intp, *[types.intp] * n), codegen

    exec(f"def call(typingctx, address, {names}): return make(typingctx, address, {names})", {"make": make}, scope)  # noqa: S102
    return intrinsic(scope["call"])
