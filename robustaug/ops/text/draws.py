"""Random numbers for every character or word of a batch, as cheap as an addition and two multiplications each.

A sample's key, whose shared half is Philox's (`robustaug.rng`), is mixed into a 64-bit seed; element i of the sample
is then the i-th output of SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", OOPSLA
2014) started there. So a draw depends on the key and the position within its own text alone, and a longer text only
adds draws at the end.

Legend: B samples, N elements of all samples together, sample by sample.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from torch import Tensor

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


def seeds(key: Tensor, stream: int = 0) -> np.ndarray:
    """Return (B,) uint64 from key rows (B, 4); each `stream` gives independent ones."""
    k0, k1, low, high = key.cpu().numpy().astype(np.uint64).T
    half = np.uint64(32)
    turn = np.uint64((stream + 1) * int(_GOLDEN) % (1 << 64))
    shared = _mixed(((k0 << half) | k1) + turn)
    return _mixed(shared ^ _mixed(((high << half) | low) + _GOLDEN))


def each(seed: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Return (N,) uint64, one word for each element; those of sample b lie at start[b] to start[b + 1] - 1."""
    n = int(start[-1])
    state = np.repeat(seed - start[:-1].astype(np.uint64) * _GOLDEN, np.diff(start))
    state += _weyl(1 << max(n - 1, 0).bit_length())[:n]
    return _mixed(state)


@cache
def _weyl(n: int) -> np.ndarray:
    """Return the first n states of SplitMix64 from seed 0; asked for powers of two, so that few are kept."""
    return np.arange(1, n + 1, dtype=np.uint64) * _GOLDEN


def at(seed: np.ndarray, position: np.ndarray) -> np.ndarray:
    """Return (M,) uint64: for each pair of a sample's seed and a position within the sample, as `each` has it."""
    return _mixed(seed + (position.astype(np.uint64) + np.uint64(1)) * _GOLDEN)


def unit(word: np.ndarray) -> np.ndarray:
    """Return float64 in [0, 1) from words."""
    return (word >> np.uint64(11)) * 2.0**-53


def below(word: np.ndarray, n: np.ndarray | int) -> np.ndarray:
    """Return int64 in [0, n) from words, for n < 2^31."""
    return ((word >> np.uint64(32)) * np.asarray(n).astype(np.uint64) >> np.uint64(32)).astype(np.int64)


def chance(word: np.ndarray, rate: Tensor, start: np.ndarray) -> np.ndarray:
    """Return (N,) bool: whether each element's word falls under the rate (B,) of its sample."""
    limit = np.floor(rate.double().clamp(0, 1).numpy() * 2.0**53).astype(np.uint64)
    return (word >> np.uint64(11)) < np.repeat(limit, np.diff(start))


def _mixed(state: np.ndarray) -> np.ndarray:
    state ^= state >> np.uint64(30)
    state *= _MIX[0]
    state ^= state >> np.uint64(27)
    state *= _MIX[1]
    state ^= state >> np.uint64(31)
    return state
