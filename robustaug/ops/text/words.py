"""Where the words are: runs of letters, digits and combining marks, with apostrophes between letters (don't).

Legend: B samples, N code points, M words of all samples together.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from robustaug.ops.text import characters
from robustaug.ops.text.characters import DIGIT, LETTER, MARK, SPACE
from robustaug.ops.text.ragged import Ragged

_APOSTROPHES = (0x27, 0x2019)


class Words(NamedTuple):
    """Spans of code points; those of sample b are the words first[b] to first[b + 1] - 1.

    Attributes:
        begin, end: (M,) int64.
        owner: (M,) int64, the sample.
        first: (B + 1,) int64.
    """

    begin: np.ndarray
    end: np.ndarray
    owner: np.ndarray
    first: np.ndarray

    def place(self, chosen: np.ndarray) -> np.ndarray:
        """Return each chosen word's position among the words of its sample."""
        return chosen - self.first[self.owner[chosen]]


def inside_words(ragged: Ragged) -> np.ndarray:
    """Return (N,) bool: whether a code point is part of a word."""
    code = ragged.code
    kind = characters.kind_of(code)
    inside = (kind == LETTER) | (kind == DIGIT) | (kind == MARK)
    apostrophe = np.flatnonzero((code == _APOSTROPHES[0]) | (code == _APOSTROPHES[1]))
    apostrophe = apostrophe[(apostrophe > 0) & (apostrophe < len(code) - 1)]
    if len(apostrophe):
        between = (kind[apostrophe - 1] == LETTER) & (kind[apostrophe + 1] == LETTER)
        alone = ragged.owner(apostrophe - 1) == ragged.owner(apostrophe + 1)  # not between two texts
        inside[apostrophe[between & alone]] = True
    return inside


def spans(inside: np.ndarray, start: np.ndarray) -> Words:
    """Return the runs of true values, none of which goes from one sample into the next."""
    seam = start[1:-1]
    seam = seam[(seam > 0) & (seam < len(inside))]
    before, after = np.zeros(len(inside), bool), np.zeros(len(inside), bool)
    before[1:], after[:-1] = inside[:-1], inside[1:]
    before[seam] = after[seam - 1] = False
    begin, end = np.flatnonzero(inside > before), np.flatnonzero(inside > after) + 1
    first = np.searchsorted(begin, start)
    return Words(begin, end, np.repeat(np.arange(len(start) - 1), np.diff(first)), first)


def find_words(ragged: Ragged) -> Words:
    """Return the words of every text."""
    return spans(inside_words(ragged), ragged.start)


def without_some(
    ragged: Ragged, words: Words, gone: np.ndarray, order: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the spans (begin, end, owner) to cut so that the words `gone` (M,) vanish, each with one space by it.

    At least one word of a text stays, the one with the greatest `order` (M,).
    """
    some = np.diff(words.first) > 0
    head = words.first[:-1][some]
    greatest, leading = np.zeros(len(some), order.dtype), np.zeros(len(some), np.int64)
    if some.any():
        greatest[some] = np.maximum.reduceat(order, head)
    gone = gone & (order < greatest[words.owner])
    if some.any():
        leading[some] = np.minimum.reduceat(np.where(gone, len(gone), np.arange(len(gone))), head)
    chosen = np.flatnonzero(gone)
    begin, end, owner = words.begin[chosen], words.end[chosen], words.owner[chosen]
    space = np.append(characters.kind_of(ragged.code) == SPACE, False)
    # ahead of the first word that stays the space behind goes, after it the one before: no space goes twice
    ahead = chosen < leading[owner]
    begin = begin - (~ahead & (begin > ragged.start[owner]) & space[begin - 1])
    end = end + (ahead & (end < ragged.start[owner + 1]) & space[end])
    return begin, end, owner
