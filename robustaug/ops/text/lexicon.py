"""Words and phrases for others by a list: misspellings, contractions, dialects, styles, names.

Legend: B samples, N code points, M words or phrases.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import Tensor

from robustaug.ops.text import characters, draws
from robustaug.ops.text.ragged import Ragged, replace, table
from robustaug.ops.text.words import find_words

_BASE = 0x9E3779B97F4A7C15
_TOP = np.uint64(48)  # a hash's upper 16 bits
_SPACE = 0x20


def word_list(name: str) -> dict[str, list[str]]:
    """Return `data/<name>.txt` of this package: lines of `key: alternative, alternative`; # begins a comment."""
    entries: dict[str, list[str]] = {}
    for line in (Path(__file__).parent / "data" / f"{name}.txt").read_text(encoding="utf-8").splitlines():
        key, colon, rest = line.partition(":")
        if colon and not line.startswith("#"):
            entries.setdefault(key.strip(), []).extend(part.strip() for part in rest.split(","))
    return entries


class Lexicon(NamedTuple):
    """What may stand for a word or a phrase, looked up by its hash of 64 bits, which no two words share by chance.

    Attributes:
        hashes: (R,) uint64, ascending; row by row with the next two.
        head, count: (R,) int64, the first of each row's alternatives and how many there are.
        forms: the alternatives, each three times: as written, with a capital, in capitals.
        slot: (65536,) int64, the first row whose hash has these upper 16 bits or greater ones.
        crowd: the most rows that share their upper 16 bits.
        openers: by a phrase's number of words, (65536,) bool: the upper bits of the first words' hashes.
    """

    hashes: np.ndarray
    head: np.ndarray
    count: np.ndarray
    forms: Ragged
    slot: np.ndarray
    crowd: int
    openers: dict[int, np.ndarray]


def lexicon(entries: Mapping[str, Sequence[str]], shared: bool = False) -> Lexicon:
    """Return the table for phrases in lower case and their alternatives.

    Args:
        entries: alternatives in lower case, or with the capitals they always have.
        shared: keep one copy of alternatives that several phrases share, which must be the same object.
    """
    hashes = _hashes_of(entries)
    order = np.argsort(hashes, kind="stable")
    hashes, phrases = hashes[order], [[*entries][i] for i in order]
    assert (hashes[1:] > hashes[:-1]).all(), "two phrases of one hash"
    head, forms, seen = [], [], {}
    for phrase in phrases:
        options = entries[phrase]
        at = seen.setdefault(id(options) if shared else phrase, len(forms) // 3)
        head.append(at)
        if at == len(forms) // 3:
            forms += [form for one in options for form in (one, one[:1].upper() + one[1:], one.upper())]
    first = _hashes_of(phrase.split(" ")[0] for phrase in phrases)
    words = np.array([phrase.count(" ") + 1 for phrase in phrases])
    openers = {int(n): np.zeros(1 << 16, bool) for n in np.unique(words)}
    for n, opens in openers.items():
        opens[first[words == n] >> _TOP] = True
    return Lexicon(
        hashes,
        np.array(head, np.int64),
        np.array([len(entries[phrase]) for phrase in phrases], np.int64),
        table(forms),
        np.searchsorted(hashes >> _TOP, np.arange(1 << 16)),
        int(np.unique(hashes >> _TOP, return_counts=True)[1].max()),
        openers,
    )


def rewrite(ragged: Ragged, rows: Lexicon, rate: Tensor, key: Tensor, capital: bool = False) -> Ragged:
    """Replace each word or phrase of the lexicon by one of its alternatives, with chance `rate` (B,).

    The case is kept: lower, with a capital, all capitals. Of phrases that overlap the first and longest counts.

    Args:
        capital: take only words that begin with a capital, as names do.
    """
    words = find_words(ragged)
    lucky = np.flatnonzero(draws.chance(draws.each(draws.seeds(key), words.first), rate, words.first))
    if capital:
        first = ragged.code[words.begin[lucky]]
        lucky = lucky[first != characters.mapped(characters.lower(), first)]
    word, end, row = _found(ragged, words.begin, words.end, words.owner, lucky, rows)
    begin, owner = words.begin[word], words.owner[word]
    luck = draws.at(draws.seeds(key, 1)[owner], words.place(word))
    which = 3 * (rows.head[row] + draws.below(luck, rows.count[row])) + _case(ragged.code, begin, end)
    return replace(ragged, begin, end, owner, rows.forms, which)


def _found(
    ragged: Ragged, begin: np.ndarray, end: np.ndarray, owner: np.ndarray, first: np.ndarray, rows: Lexicon
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the phrases that begin with one of the words `first` as (word, end, row), ascending and apart."""
    sums = _sums(ragged.code)
    opening = _hashes(sums, begin[first], end[first])
    row, until = np.full(len(first), -1), end[first]
    for n, opens in sorted(rows.openers.items()):  # long phrases after short ones, which they replace
        at = np.flatnonzero(opens[opening >> _TOP])
        at = at[first[at] + n - 1 < len(begin)]
        for i in range(n - 1):  # words of a phrase are one space apart
            word = first[at] + i
            one = (begin[word + 1] == end[word] + 1) & (owner[word + 1] == owner[word])
            at, after = at[one], end[word[one]]
            at = at[ragged.code[after] == _SPACE]
        stop = end[first[at] + n - 1]
        found = _rows(_hashes(sums, begin[first[at]], stop), rows)
        at, stop, found = at[found >= 0], stop[found >= 0], found[found >= 0]
        row[at], until[at] = found, stop
    hit = np.flatnonzero(row >= 0)
    word, until = first[hit], until[hit]
    reach = np.maximum.accumulate(until) if len(until) else until
    apart = np.append(True, begin[word[1:]] >= reach[:-1])[: len(word)]
    return word[apart], until[apart], row[hit[apart]]


def _rows(hashes: np.ndarray, rows: Lexicon) -> np.ndarray:
    """Return the row of each hash, (M,) int64, -1 where there is none."""
    last = len(rows.hashes) - 1
    row = np.minimum(rows.slot[hashes >> _TOP], last)
    for _ in range(rows.crowd - 1):
        row = np.minimum(row + (rows.hashes[row] < hashes), last)
    return np.where(rows.hashes[row] == hashes, row, -1)


def _sums(code: np.ndarray) -> np.ndarray:
    """Return (N + 1,) uint64, the sums of the code points before each place, of which `_hashes` takes differences.

    A code point counts in lower case, times the power of `_BASE` for its place.
    """
    sums = np.zeros(len(code) + 1, np.uint64)
    np.cumsum(_fold(code) * _powers(_BASE, 1 << len(code).bit_length())[1 : len(code) + 1], out=sums[1:])
    return sums


def _hashes(sums: np.ndarray, begin: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Return a hash of each span, (M,) uint64: the same wherever it lies and without regard to case."""
    back = _powers(pow(_BASE, -1, 1 << 64), 1 << (len(sums) - 1).bit_length())
    return (sums[end] - sums[begin]) * back[begin]


@cache
def _powers(base: int, n: int) -> np.ndarray:
    """Return base^0 to base^(n - 1) modulo 2^64; asked for powers of two, so that few are kept."""
    powers = np.full(n, base, np.uint64)
    powers[0] = 1
    return np.cumprod(powers)


def _hashes_of(phrases: Iterable[str]) -> np.ndarray:
    keys = table(phrases)
    return _hashes(_sums(keys.code), keys.start[:-1], keys.start[1:])


def _fold(code: np.ndarray) -> np.ndarray:
    return characters.look_up(_folding(), code)  # beyond the plane there are no keys


@cache
def _folding() -> np.ndarray:
    """Return the table to lower case that also makes ’ a plain apostrophe."""
    folded = characters.lower().copy()
    folded[0x2019] = ord("'")
    return folded


def _case(code: np.ndarray, begin: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Return 0 for lower case, 1 for a capital, 2 for capitals, judged by the first and the last letter."""
    first, last = code[begin], code[end - 1]
    lower = characters.lower()
    capital = first != characters.mapped(lower, first)
    loud = capital & (last != characters.mapped(lower, last)) & (end - begin > 1)
    return capital.astype(np.int64) + loud
