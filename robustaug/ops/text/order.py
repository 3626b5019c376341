"""Whole words dropped, swapped, split, repeated; whole sentences shuffled and dropped.

Legend: B samples, N code points, M words or sentences.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from robustaug.ops.space import noise_key, uniform
from robustaug.ops.text import characters, draws
from robustaug.ops.text.characters import SPACE
from robustaug.ops.text.ragged import Ragged, bounds, decode, encode, remove, replace, splice, table
from robustaug.ops.text.texts import TextOperator
from robustaug.ops.text.words import Words, find_words, spans, without_some
from robustaug.registry import register

_NOTHING = np.empty(0, np.uint32)
_SPACE = table([" "])
_GRADED = (0.05, 0.1, 0.2, 0.4, 0.7)


def drop(ragged: Ragged, words: Words, rate: Tensor, key: Tensor) -> Ragged:
    """Cut each word with chance `rate` (B,), but the luckiest of each text stays."""
    luck = draws.each(draws.seeds(key), words.first)
    return remove(ragged, *without_some(ragged, words, draws.chance(luck, rate, words.first), luck))


def trade(ragged: Ragged, words: Words, at: np.ndarray, to: np.ndarray) -> Ragged:
    """Put the words `to` (K,) at the places of the words `at` (K,), ascending."""
    begin, end = words.begin, words.end
    return splice(ragged, begin[at], end[at], words.owner[at], begin[to], (end - begin)[to], _NOTHING)


@register("text.drop_words", tags={"word"})
class DropWords(TextOperator):
    """Drop words, each with one space beside it; at least one word stays (Wei and Zou, arXiv 1901.11196).

    rate: chance that a word is dropped. Not label-preserving: the word may be "not", or the one that carries the
    label.
    """

    rate = uniform(0.02, 0.15, identity=0.0, bounds=(0, 1), severity=_GRADED)
    where = noise_key()

    def formula(self, texts: list[str], rate: Tensor, where: Tensor) -> list[str]:
        ragged = encode(texts)
        return decode(drop(ragged, find_words(ragged), rate, where))


@register("text.swap_words", tags={"word"})
class SwapWords(TextOperator):
    """Swap neighbouring words; punctuation and spaces stay in place (Wei and Zou, arXiv 1901.11196).

    rate: chance that a pair is swapped. The pairs begin at the text's first or second word, at random, so no word
    moves twice. Not label-preserving: "not good, bad" may become "good not, bad".
    """

    rate = uniform(0.05, 0.3, identity=0.0, bounds=(0, 1), severity=(0.05, 0.1, 0.2, 0.5, 1.0))
    where = noise_key()

    def formula(self, texts: list[str], rate: Tensor, where: Tensor) -> list[str]:
        ragged = encode(texts)
        words = find_words(ragged)
        count = np.diff(words.first)
        # with two words there is but one way to pair them
        shift = np.where(count > 2, (draws.seeds(where, 1) & np.uint64(1)).astype(np.int64), 0)
        offset = np.arange(len(words.begin)) - np.repeat(words.first[:-1] + shift, count)
        last = np.append(words.owner[1:] != words.owner[:-1], True)[: len(offset)]
        pair = (offset >= 0) & (offset % 2 == 0) & ~last
        left = np.flatnonzero(pair & draws.chance(draws.each(draws.seeds(where), words.first), rate, words.first))
        at = np.stack([left, left + 1], 1).ravel()
        return decode(trade(ragged, words, at, np.stack([left + 1, left], 1).ravel()))


@register("text.split_words", tags={"word", "label_preserving"})
class SplitWords(TextOperator):
    """Split words in two by a space.

    rate: chance that a word of two or more characters is split, anywhere inside. The label stays.
    """

    rate = uniform(0.05, 0.3, identity=0.0, bounds=(0, 1), severity=(0.05, 0.1, 0.2, 0.5, 1.0))
    where = noise_key()

    def formula(self, texts: list[str], rate: Tensor, where: Tensor) -> list[str]:
        ragged = encode(texts)
        words = find_words(ragged)
        length = words.end - words.begin
        chosen = draws.chance(draws.each(draws.seeds(where), words.first), rate, words.first) & (length > 1)
        hit = np.flatnonzero(chosen)
        owner = words.owner[hit]
        word = draws.at(draws.seeds(where, 1)[owner], words.place(hit))
        cut = words.begin[hit] + 1 + draws.below(word, length[hit] - 1)
        return decode(replace(ragged, cut, cut, owner, _SPACE, np.zeros(len(hit), np.int64)))


@register("text.repeat_words", tags={"word", "label_preserving"})
class RepeatWords(TextOperator):
    """Write words twice: the the film.

    rate: chance that a word is repeated. The label stays.
    """

    rate = uniform(0.02, 0.15, identity=0.0, bounds=(0, 1), severity=_GRADED)
    where = noise_key()

    def formula(self, texts: list[str], rate: Tensor, where: Tensor) -> list[str]:
        ragged = encode(texts)
        words = find_words(ragged)
        chosen = draws.chance(draws.each(draws.seeds(where), words.first), rate, words.first)
        begin, end, owner = words.begin[chosen], words.end[chosen], words.owner[chosen]
        size = end - begin + 1
        pieces = np.repeat(begin - bounds(size)[:-1], size) + np.arange(size.sum())
        extra = ragged.code[np.minimum(pieces, len(ragged.code) - 1)]
        extra[bounds(size)[1:] - 1] = ord(" ")  # each piece is the word and a space, put before it
        return decode(splice(ragged, begin, begin, owner, len(ragged.code) + bounds(size)[:-1], size, extra))


def find_sentences(ragged: Ragged) -> Words:
    """Return the sentences: up to . ! ? or … that white space follows, or to the end of a line or the text."""
    code, start = ragged
    space = characters.kind_of(code) == SPACE
    mark, closing = np.isin(code, _ENDS), np.isin(code, _CLOSERS)
    for _ in range(2):  # a quote or a bracket behind the mark belongs to the sentence
        mark |= closing & behind(mark, start)
    gap = (space & behind(mark, start)) | np.isin(code, _BREAKS)
    for _ in range(4):  # further spaces belong to the gap
        gap |= space & behind(gap, start)
    return spans(~gap, start)


def behind(flag: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Return (N,) bool: whether the character before, in the same text, has the flag."""
    moved = np.append(False, flag[:-1])[: len(flag)]
    moved[start[:-1][start[:-1] < len(flag)]] = False
    return moved


_ENDS = np.array([ord(c) for c in ".!?…。！？"], np.uint32)
_CLOSERS = np.array([ord(c) for c in "\"')]”’»"], np.uint32)
_BREAKS = np.array([ord(c) for c in "\n\r\u2028\u2029"], np.uint32)


@register("text.shuffle_sentences", tags={"sentence", "label_preserving"})
class ShuffleSentences(TextOperator):
    """Let sentences trade places; what is between them stays.

    rate: chance that a sentence leaves its place; those that do move round by a random number of places. The label
    of a whole text stays where it does not lie in the order, as it does in stories and arguments.
    """

    rate = uniform(0.3, 1.0, identity=0.0, bounds=(0, 1), severity=(0.3, 0.5, 0.7, 0.85, 1.0))
    where = noise_key()

    def formula(self, texts: list[str], rate: Tensor, where: Tensor) -> list[str]:
        ragged = encode(texts)
        found = find_sentences(ragged)
        at = np.flatnonzero(draws.chance(draws.each(draws.seeds(where), found.first), rate, found.first))
        owner = found.owner[at]
        movers = np.bincount(owner, minlength=len(texts))
        turn = 1 + draws.below(draws.seeds(where, 1), np.maximum(movers - 1, 1))
        head = bounds(movers)[:-1]
        place = np.arange(len(at)) - head[owner]
        to = at[head[owner] + (place + turn[owner]) % np.maximum(movers, 1)[owner]]
        return decode(trade(ragged, found, at, to))


@register("text.drop_sentences", tags={"sentence"})
class DropSentences(TextOperator):
    """Drop sentences; at least one stays.

    rate: chance that a sentence is dropped. Not label-preserving: it may be the one that carries the label.
    """

    rate = uniform(0.1, 0.4, identity=0.0, bounds=(0, 1), severity=(0.1, 0.2, 0.4, 0.6, 0.8))
    where = noise_key()

    def formula(self, texts: list[str], rate: Tensor, where: Tensor) -> list[str]:
        ragged = encode(texts)
        return decode(drop(ragged, find_sentences(ragged), rate, where))
