"""Words as numbers without a list of words: every word is a few pieces, and every piece a row of one table by its hash.

Legend: B texts, M words of all of them, P pieces of all words.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from robustaug.ops.text.ragged import encode
from robustaug.ops.text.words import find_words

_MOST_REMEMBERED = 200_000  # words whose pieces are kept; augmentation makes new ones without end


class Pieces(NamedTuple):
    """The words of B texts, in order, as pieces.

    Attributes:
        rows: (P,) int64, where each piece stands in the table.
        first: (M,) int64, each word's first piece.
        owner, place: (M,) int64, each word's text, and its place in it.
        begin, end: (M,) int64, the characters [begin, end) of its text.
        words: M words in lower case.
    """

    rows: Tensor
    first: Tensor
    owner: Tensor
    place: Tensor
    begin: Tensor
    end: Tensor
    words: list[str]


class Hashing:
    """Cut texts into words, and words into pieces.

    Words are those of our text operators, in lower case. A word's pieces are the word itself and its runs of `low` to
    `high` characters with its ends marked, so that misspelt words stay near to what they were: Bojanowski et al. 2017,
    arXiv:1607.04606, section 3.2. A piece's row is its CRC-32 modulo the table's size; pieces may share one.

    Args:
        buckets: rows of the table.
        low, high: of the runs; none where high is 0.
    """

    def __init__(self, buckets: int, low: int, high: int) -> None:
        self.buckets, self.low, self.high = buckets, low, high
        self._known: dict[str, list[int]] = {}

    def rows_of(self, word: str) -> list[int]:
        """Return the rows of a word's pieces, the word itself first."""
        rows = self._known.get(word)
        if rows is None:
            marked = f"<{word}>"
            runs = [marked[at : at + n] for n in range(self.low, self.high + 1) for at in range(len(marked) - n + 1)]
            rows = [zlib.crc32(piece.encode("utf-8", "surrogatepass")) % self.buckets for piece in (marked, *runs)]
            if len(self._known) >= _MOST_REMEMBERED:
                self._known.clear()
            self._known[word] = rows
        return rows

    def __call__(self, texts: Sequence[str]) -> Pieces:
        """Return the pieces of every text."""
        found = find_words(encode(texts))
        starts, at = [], 0
        for text in texts:
            starts.append(at)
            at += len(text)
        begin, owner = torch.from_numpy(found.begin), torch.from_numpy(found.owner)
        begin = begin - torch.tensor(starts, dtype=torch.int64)[owner]
        end = begin + torch.from_numpy(found.end - found.begin)
        place = torch.arange(len(owner)) - torch.from_numpy(found.first)[owner]
        spans = zip(owner.tolist(), begin.tolist(), end.tolist(), strict=True)
        words = [str(texts[text])[b:e].lower() for text, b, e in spans]
        rows = [self.rows_of(word) for word in words]
        lengths = torch.tensor([len(one) for one in rows], dtype=torch.int64)
        flat = torch.tensor([row for one in rows for row in one], dtype=torch.int64)
        return Pieces(flat, lengths.cumsum(0) - lengths, owner, place, begin, end, words)
