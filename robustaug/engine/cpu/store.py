"""Writing a finished tile: normalised, in the output's type and stride."""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.np.numpy_support import carray

from robustaug.engine.cpu.memory import as_pointer
from robustaug.scalars import bits_of, intrinsic

F32, U8, F16, BF16 = 0, 1, 2, 3


@intrinsic
def _half_bits(typingctx, x):
    """Return the bits of a float32, rounded to float16."""

    def codegen(context, builder, signature, args):
        half = builder.fptrunc(args[0], ir.HalfType())
        return builder.bitcast(half, ir.IntType(16))

    return types.uint16(types.float32), codegen


@njit(fastmath={"contract", "nsz"})
def store(px, channels, n, first, width, target, mean, scale):
    """Write n pixels of px (channels, TILE) to rows of `width`, from pixel `first` on, as (x - mean) * scale.

    Args:
        target: address, dtype, channels, and bytes a sample, channel, row and column.
    """
    base, dtype, strides = target[0], target[1], target[4:]
    size = 4 if dtype == F32 else 1 if dtype == U8 else 2
    for channel in range(channels):
        m, by = mean[channel], scale[channel]
        row, column = first // width, first % width
        at = 0
        while at < n:
            # rows that follow each other without a gap are one run
            run = n - at if strides[1] == width * strides[2] else min(width - column, n - at)
            address = base + channel * strides[0] + row * strides[1] + column * strides[2]
            line = px[channel, at : at + run]
            step = strides[2] // size
            if dtype == F32:
                _store_float(line, run, address, step, m, by)
            elif dtype == U8:
                _store_bytes(line, run, address, step)
            elif dtype == F16:
                out = carray(as_pointer(address), ((run - 1) * step + 1,), np.uint16)
                for i in range(run):
                    out[i * step] = _half_bits((line[i] - m) * by)
            else:
                out = carray(as_pointer(address), ((run - 1) * step + 1,), np.uint16)
                for i in range(run):
                    bits = np.uint32(bits_of((line[i] - m) * by))
                    out[i * step] = np.uint16(
                        (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
                    )
            at += run
            row += 1
            column = 0


@njit(fastmath={"contract", "nsz"})
def _store_float(line, run, address, step, mean, scale):
    if step == 1:
        out = carray(as_pointer(address), (run,), np.float32)
        for i in range(run):
            out[i] = (line[i] - mean) * scale
    else:
        out = carray(as_pointer(address), ((run - 1) * step + 1,), np.float32)
        for i in range(run):
            out[i * step] = (line[i] - mean) * scale


@njit
def _store_bytes(line, run, address, step):
    out = carray(as_pointer(address), ((run - 1) * step + 1,), np.uint8)
    for i in range(run):
        level = min(max(line[i] * np.float32(255), np.float32(0)), np.float32(255))
        out[i * step] = np.uint8((level + np.float32(12582912)) - np.float32(12582912))
