"""A batch of texts as one array of code points, and the one way to edit it: cut out spans, put others in.

Legend: B samples, N code points of all samples together, M edits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np


class Ragged(NamedTuple):
    """Rows of different lengths in one array.

    Attributes:
        code: (N,) uint32, the code points of all rows.
        start: (B + 1,) int64, where each row begins; the last entry is N.
    """

    code: np.ndarray
    start: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        """(B,) int64."""
        return np.diff(self.start)

    def owner(self, position: np.ndarray) -> np.ndarray:
        """Return the sample of each position of a code point."""
        return np.searchsorted(self.start, position, side="right") - 1

    def place(self, position: np.ndarray) -> np.ndarray:
        """Return each position counted from the begin of its own sample."""
        return position - self.start[self.owner(position)]


def encode(texts: Sequence[str]) -> Ragged:
    """Return the texts' code points; lone surrogates are code points like others."""
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    joined = "".join(texts)
    if joined.isascii():
        code = np.frombuffer(joined.encode("ascii"), np.uint8).astype(np.uint32)
    else:
        code = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), np.uint32)
    return Ragged(code, bounds(lengths))


def decode(ragged: Ragged) -> list[str]:
    """Return the rows as texts; the inverse of `encode`."""
    joined = ragged.code.astype("<u4", copy=False).tobytes().decode("utf-32-le", "surrogatepass")
    at = ragged.start.tolist()
    return [joined[begin:end] for begin, end in pairwise(at)]


def bounds(lengths: np.ndarray) -> np.ndarray:
    """Return (B + 1,) int64: where rows of these lengths begin when they follow each other, and where they end."""
    start = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=start[1:])
    return start


def table(rows: Iterable[str]) -> Ragged:
    """Return pieces to put in; see `splice`."""
    return encode([*rows])


def gather(pool: np.ndarray, begin: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Return the spans of `pool` that begin at `begin` (M,) and are `length` (M,) long, one after the other."""
    some = length > 0
    begin, length = begin[some], length[some]
    at = bounds(length)
    if at[-1] == 0:
        return pool[:0]
    step = np.ones(at[-1], np.int64)  # within a span the source moves on by one, at its begin it jumps
    step[0] = begin[0]
    step[at[1:-1]] = begin[1:] - begin[:-1] - length[:-1] + 1
    return pool.take(np.cumsum(step, out=step))


def splice(
    ragged: Ragged, begin: np.ndarray, end: np.ndarray, owner: np.ndarray, piece: np.ndarray, length: np.ndarray,
    extra: np.ndarray,
) -> Ragged:  # fmt: skip
    """Put a piece in place of every span.

    Args:
        begin, end: (M,) int64, the spans [begin, end) of code points, ascending and apart; begin = end inserts.
        owner: (M,) the sample of each span, which an insertion between two samples does not tell.
        piece, length: (M,) where each new piece lies in the code points followed by `extra`, and how long it is.
        extra: (K,) uint32, pieces that are no part of the texts.
    """
    m = len(begin)
    n = len(ragged.code)
    if m == 0:
        return ragged
    source, size = np.empty(2 * m + 1, np.int64), np.empty(2 * m + 1, np.int64)
    source[0], source[2::2], source[1::2] = 0, end, piece  # what is kept, and what is put in, by turns
    size[0], size[2:-1:2], size[-1], size[1::2] = begin[0], begin[1:] - end[:-1], n - end[-1], length
    assert size.min() >= 0, "spans must be ascending and apart"
    code = gather(np.concatenate([ragged.code, extra]), source, size)
    change = np.bincount(owner, length - (end - begin), len(ragged.start) - 1).astype(np.int64)
    return Ragged(code, bounds(ragged.lengths + change))


def replace(
    ragged: Ragged, begin: np.ndarray, end: np.ndarray, owner: np.ndarray, pieces: Ragged, which: np.ndarray
) -> Ragged:
    """Put row `which` (M,) of a table of pieces in place of every span; see `splice`."""
    return splice(ragged, begin, end, owner, len(ragged.code) + pieces.start[which], pieces.lengths[which], pieces.code)


def remove(ragged: Ragged, begin: np.ndarray, end: np.ndarray, owner: np.ndarray) -> Ragged:
    """Cut out every span; see `splice`."""
    nothing = np.zeros(len(begin), np.int64)
    return splice(ragged, begin, end, owner, nothing, nothing, np.empty(0, np.uint32))
