"""The numbers of `robustaug.rng`, drawn tile by tile where they are needed.

`robustaug.rng` is the definition. The words are the same bit for bit; normal numbers differ by rounding.
"""

# Numba compiles what is here: annotations would say "int" where it has uint64.

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
from numba import njit, types

from robustaug.jit import dispatcher
from robustaug.rng import FIELD, MULTIPLIERS, ROUNDS, WEYL
from robustaug.scalars import f32, log2, nearest, where
from robustaug.threads import split

_MASK, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)
_M0, _M1 = (np.uint64(m) for m in MULTIPLIERS)
_W0, _W1 = (np.uint64(w) for w in WEYL)
_CHUNK = 128  # blocks at a time: their words stay in the first cache
_WORTH_A_THREAD = 1 << 16  # numbers: fewer are drawn sooner than another thread wakes


@njit
def _words(block, n, use, k0, k1, low, high, words):
    """Fill words (4, _CHUNK) uint32 with n blocks of four."""
    for i in range(n):
        c0, c1, c2, c3 = np.uint64(block + i), use, low, high
        a, b = k0, k1
        for _ in range(ROUNDS):
            p, q = c0 * _M0, c2 * _M1
            c0, c2 = (q >> _HALF) ^ c1 ^ a, (p >> _HALF) ^ c3 ^ b
            c1, c3 = q & _MASK, p & _MASK
            a, b = (a + _W0) & _MASK, (b + _W1) & _MASK
        words[0, i], words[1, i], words[2, i], words[3, i] = np.uint32(c0), np.uint32(c1), np.uint32(c2), np.uint32(c3)


@njit(inline="always")
def _unit(word):
    return f32(np.int32(word >> np.uint32(8))) * f32(2.0**-24)


@njit(fastmath={"contract", "nsz"}, error_model="numpy")
def _normals(n, words, out):
    """Box-Muller on the pairs of each block; out (4, _CHUNK)."""
    for pair in range(2):
        first, second = words[2 * pair], words[2 * pair + 1]
        cosines, sines = out[2 * pair], out[2 * pair + 1]
        for i in range(n):
            radius = np.sqrt(f32(-1.3862943611198906) * log2(f32(1) - _unit(first[i])))
            turns = f32(4) * _unit(second[i])
            quarter = nearest(turns)
            t = (turns - quarter) * f32(1.5707963267948966)
            q = t * t
            sine = f32(-1 / 5040) * q + f32(1 / 120)
            sine = sine * q + f32(-1 / 6)
            sine = sine * q * t + t
            cosine = f32(1 / 40320) * q + f32(-1 / 720)
            cosine = cosine * q + f32(1 / 24)
            cosine = cosine * q + f32(-1 / 2)
            cosine = cosine * q + f32(1)
            side = np.int32(quarter) & np.int32(3)
            odd = (side & np.int32(1)) == 1
            x, y = where(odd, sine, cosine), where(odd, cosine, sine)
            cosines[i] = radius * where((side == 1) | (side == 2), -x, x)
            sines[i] = radius * where(side >= 2, -y, y)


@njit
def _fill(normal, out, first, k0, k1, low, high):
    words, made = np.empty((4, _CHUNK), np.uint32), np.empty((4, _CHUNK), np.float32)
    a, b, c, d = np.uint64(k0), np.uint64(k1), np.uint64(low), np.uint64(high)
    end = first + len(out)
    block = first // 4
    while 4 * block < end:
        n = min(_CHUNK, (end - 4 * block + 3) // 4)
        _words(block, n, np.uint64(FIELD), a, b, c, d, words)
        if normal:
            _normals(n, words, made)
        else:
            for word in range(4):
                for i in range(n):
                    made[word, i] = _unit(words[word, i])
        start = 4 * block - first  # of this chunk in `out`; its ends may lie outside
        if start >= 0 and start + 4 * n <= len(out):
            for i in range(n):
                at = start + 4 * i
                out[at], out[at + 1], out[at + 2], out[at + 3] = made[0, i], made[1, i], made[2, i], made[3, i]
        else:
            for i in range(max(0, start), min(len(out), start + 4 * n)):
                out[i] = made[(i - start) & 3, (i - start) >> 2]
        block += n


@njit
def fill_uniform(out, first, k0, k1, low, high):
    """Fill `out` with the numbers `first`, `first` + 1, ... of a field in [0, 1); see `robustaug.rng.uniform_field`."""
    _fill(False, out, first, k0, k1, low, high)


@njit
def fill_normal(out, first, k0, k1, low, high):
    """Fill `out` with the numbers `first`, `first` + 1, ... of a field from N(0, 1); see `rng.normal_field`."""
    _fill(True, out, first, k0, k1, low, high)


def _field_rows(start, stop, rows, normal, out):
    """Fill the rows `start` to `stop` of `out`, float32 (B, n), from key rows (B, 4) int64."""
    for b in range(start, stop):
        _fill(normal, out[b], 0, rows[b, 0], rows[b, 1], rows[b, 2], rows[b, 3])


def _bit_rows(rows, use, out):
    """Fill `out`, int64 (B, n), with words."""
    words = np.empty((4, _CHUNK), np.uint32)
    for b in range(len(rows)):
        for first in range(0, out.shape[1], 4 * _CHUNK):
            n = min(4 * _CHUNK, out.shape[1] - first)
            k0, k1, low, high = rows[b, 0], rows[b, 1], rows[b, 2], rows[b, 3]
            block = first // 4
            _words(
                block,
                (n + 3) // 4,
                np.uint64(use),
                np.uint64(k0),
                np.uint64(k1),
                np.uint64(low),
                np.uint64(high),
                words,
            )
            for i in range(n):
                out[b, first + i] = words[i & 3, i >> 2]


@functools.cache
def _compiled() -> tuple[Any, Any]:
    """Return the two above without the GIL, from disk if they are there."""
    rows, words, numbers = (types.Array(of, 2, "C") for of in (types.int64, types.int64, types.float32))
    field_of = types.void(types.int64, types.int64, rows, types.boolean, numbers)
    return (
        dispatcher(_field_rows, field_of, "philox-fields"),
        dispatcher(_bit_rows, types.void(rows, types.int64, words), "philox-bits"),
    )


def field(rows: torch.Tensor, n: int, normal: bool) -> torch.Tensor:
    """Return (B, n) float32 from key rows (B, 4) int64 on the CPU: see `robustaug.rng`."""
    out = torch.empty(len(rows), n, dtype=torch.float32)
    keys, numbers = rows.contiguous().numpy(), out.numpy()
    if n * len(rows) < _WORTH_A_THREAD:
        _compiled()[0](0, len(rows), keys, normal, numbers)
    else:
        split(len(rows), lambda start, stop: _compiled()[0](start, stop, keys, normal, numbers))
    return out


def bits(rows: torch.Tensor, n: int, use: int) -> torch.Tensor:
    """Return (B, n) int64 words in [0, 2^32) from key rows (B, 4) int64 on the CPU: see `robustaug.rng`."""
    out = torch.empty(len(rows), n, dtype=torch.int64)
    _compiled()[1](rows.contiguous().numpy(), use, out.numpy())
    return out
