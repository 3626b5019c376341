"""Words and phrases for others by a list: misspellings, contractions, dialects, styles, names.

Legend: B samples, N code points, M words or phrases.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import Tensor

from robustaug.ops.text import characters, draws
from robustaug.ops.text.ragged import Ragged, bounds, gather, replace, table
from robustaug.ops.text.words import find_words

_POWERS = np.cumprod(np.full(64, 0x9E3779B97F4A7C15, np.uint64))
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
    """What may stand for a word or a phrase, looked up by a hash and then compared in full.

    Attributes:
        hashes: (R,) uint64, ascending; row by row with the next three.
        keys: R phrases in lower case.
        head, count: (R,) int64, the first of each row's alternatives and how many there are.
        forms: the alternatives, each three times: as written, with a capital, in capitals.
        sieve: (16384,) bool, which traits (see `_traits`) a key has: few words need to be looked up.
        longest: the most code points of a key, by its number of words.
        openers: by a key's number of words, which traits its first word has, as in `sieve`.
    """

    hashes: np.ndarray
    keys: Ragged
    head: np.ndarray
    count: np.ndarray
    forms: Ragged
    sieve: np.ndarray
    longest: dict[int, int]
    openers: dict[int, np.ndarray]


def lexicon(entries: Mapping[str, Sequence[str]], shared: bool = False) -> Lexicon:
    """Return the table for phrases in lower case and their alternatives.

    Args:
        entries: alternatives in lower case, or with the capitals they always have.
        shared: keep one copy of alternatives that several phrases share, which must be the same object.
    """
    keys = table(entries)
    hashes = _hashes(*_letters(keys.code, keys.start[:-1], keys.lengths))
    order = np.argsort(hashes, kind="stable")
    phrases = [[*entries][i] for i in order]
    keys = table(phrases)
    head, forms, seen = [], [], {}
    for phrase in phrases:
        options = entries[phrase]
        at = seen.setdefault(id(options) if shared else phrase, len(forms) // 3)
        head.append(at)
        if at == len(forms) // 3:
            forms += [form for one in options for form in (one, one[:1].upper() + one[1:], one.upper())]
    longest: dict[int, int] = {}
    openers: dict[int, np.ndarray] = {}
    for row, phrase in enumerate(phrases):
        n = phrase.count(" ") + 1
        longest[n] = max(longest.get(n, 0), len(phrase))
        begin, first = keys.start[row : row + 1], len(phrase.split(" ")[0])
        openers.setdefault(n, np.zeros(1 << 14, bool))[_traits(keys.code, begin, begin + first)] = True
    sieve = np.zeros(1 << 14, bool)
    sieve[_traits(keys.code, keys.start[:-1], keys.start[1:])] = True
    return Lexicon(
        hashes[order],
        keys,
        np.array(head, np.int64),
        np.array([len(entries[phrase]) for phrase in phrases], np.int64),
        table(forms),
        sieve,
        longest,
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
    found = []
    traits = _traits(ragged.code, begin[first], end[first])
    for n, longest in sorted(rows.longest.items(), reverse=True):  # long phrases before short ones
        start = first[rows.openers[n][traits]]
        start = start[start + n - 1 < len(begin)]
        for i in range(n - 1):  # words of a phrase are one space apart
            after = end[start + i]
            one = (begin[start + i + 1] == after + 1) & (owner[start + i + 1] == owner[start])
            start, after = start[one], after[one]
            start = start[ragged.code[after] == _SPACE]
        until = end[start + n - 1]
        likely = until - begin[start] <= longest
        if n > 1:
            likely &= rows.sieve[_traits(ragged.code, begin[start], until)]
        start, until = start[likely], until[likely]
        row = _rows(ragged.code, begin[start], until - begin[start], rows)
        found.append(np.stack([start, until, row])[:, row >= 0])
    word, until, row = np.concatenate(found, 1)
    order = np.argsort(word, kind="stable")
    word, until, row = word[order], until[order], row[order]
    reach = np.maximum.accumulate(until) if len(until) else until
    apart = np.append(True, begin[word[1:]] >= reach[:-1])[: len(word)]
    return word[apart], until[apart], row[apart]


def _rows(code: np.ndarray, begin: np.ndarray, length: np.ndarray, rows: Lexicon) -> np.ndarray:
    """Return the row of each span, (M,) int64, -1 where there is none."""
    if len(begin) == 0:
        return np.empty(0, np.int64)
    letters, place, at = _letters(code, begin, length)
    hashed = _hashes(letters, place, at)
    row = np.minimum(np.searchsorted(rows.hashes, hashed), len(rows.hashes) - 1)
    hit = (rows.hashes[row] == hashed) & (rows.keys.lengths[row] == length)
    place += np.repeat(rows.keys.start[row], length)
    same = letters == rows.keys.code.take(place, mode="clip")
    return np.where(hit & np.logical_and.reduceat(same, at), row, -1)


def _traits(code: np.ndarray, begin: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Return first letter, last letter and length of each span as one number < 2^14; capitals count as small."""
    return (code[begin] & 31) << 9 | (code[end - 1] & 31) << 4 | np.minimum(end - begin, 15)


def _letters(code: np.ndarray, begin: np.ndarray, length: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the spans' code points in lower case, each one's place in its span, and where the spans begin."""
    at = bounds(length)
    place = np.arange(at[-1]) - np.repeat(at[:-1], length)
    return _fold(code.take(place + np.repeat(begin, length))), place, at[:-1]


def _hashes(letters: np.ndarray, place: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Return a hash of each span, (M,) uint64, from `_letters`; spans have at least one code point."""
    return np.add.reduceat(letters * _POWERS.take(place, mode="clip"), at)


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
