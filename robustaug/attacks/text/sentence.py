"""A text as words and what lies between them, which no attack touches.

Words are those of our text operators: runs of letters, digits and combining marks, with apostrophes between letters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from robustaug.ops.text.ragged import encode
from robustaug.ops.text.words import find_words


class Sentence(NamedTuple):
    """A text cut up; `written(words)` puts it together again.

    Attributes:
        words: N words.
        gaps: N + 1 texts: before the first word, between words, behind the last.
    """

    words: tuple[str, ...]
    gaps: tuple[str, ...]

    def written(self, words: Sequence[str]) -> str:
        """Return the text with `words` (N) in place of its own."""
        return "".join(part for pair in zip(self.gaps, words, strict=False) for part in pair) + self.gaps[-1]

    def without(self, place: int) -> str:
        """Return the text without one word, and without one of the two spaces that would then meet."""
        before, after = self.gaps[place], self.gaps[place + 1]
        if before.endswith(" ") and (after.startswith(" ") or not after):
            before = before[:-1]
        rest = Sentence(
            self.words[:place] + self.words[place + 1 :],
            (*self.gaps[:place], before + after, *self.gaps[place + 2 :]),
        )
        return rest.written(rest.words)

    def keeping(self, words: Sequence[str], place: int, pieces: Sequence[str]) -> list[str]:
        """Return those pieces that are one word where they stand: with `words` around them, no word grows or splits.

        A word's ends depend on two characters to each side: an apostrophe, and whether a letter is beyond it.
        """
        left = ((words[place - 1] if place else "") + self.gaps[place])[-2:]
        right = (self.gaps[place + 1] + (words[place + 1] if place + 1 < len(words) else ""))[:2]
        found = split([left + piece + right for piece in pieces])
        return [piece for piece, one in zip(pieces, found, strict=True) if _stands(one, left, piece)]


def _stands(found: Sentence, left: str, piece: str) -> bool:
    at = 0
    for gap, word in zip(found.gaps, found.words, strict=False):
        at += len(gap)
        if at == len(left):
            return word == piece
        at += len(word)
    return False


def one_words(pieces: Sequence[str]) -> list[str]:
    """Return those pieces that are exactly one word, in their order."""
    return [piece for piece, one in zip(pieces, split(pieces), strict=True) if one.words == (piece,)]


def split(texts: Sequence[str]) -> list[Sentence]:
    """Return every text cut up into words and gaps."""
    found = find_words(encode(texts))
    begins, ends, first = found.begin.tolist(), found.end.tolist(), found.first.tolist()
    out, start = [], 0
    for row, text in enumerate(texts):
        words, gaps, at = [], [], 0
        for begin, end in zip(begins[first[row] : first[row + 1]], ends[first[row] : first[row + 1]], strict=True):
            gaps.append(text[at : begin - start])
            words.append(text[begin - start : end - start])
            at = end - start
        out.append(Sentence(tuple(words), (*gaps, text[at:])))
        start += len(text)
    return out
