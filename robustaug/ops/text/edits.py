"""Characters swapped, inserted, deleted, repeated: slips of the fingers.

Legend: B samples, N code points, M edits.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from robustaug.ops.space import noise_key, uniform
from robustaug.ops.text import characters, draws
from robustaug.ops.text.characters import LETTER, MARK, SPACE
from robustaug.ops.text.ragged import Ragged, decode, encode, remove, replace, table
from robustaug.ops.text.substitution import SEVERITY
from robustaug.ops.text.texts import TextOperator
from robustaug.ops.text.words import find_words, inside_words, spans
from robustaug.registry import register

_LETTERS = table("abcdefghijklmnopqrstuvwxyz")


def drawn(ragged: Ragged, candidate: np.ndarray, rate: Tensor, key: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return the candidate positions that are hit with chance `rate` (B,), ascending, and their samples."""
    hit = np.flatnonzero(candidate & draws.chance(draws.each(draws.seeds(key), ragged.start), rate, ragged.start))
    return hit, ragged.owner(hit)


def drawn_again(ragged: Ragged, hit: np.ndarray, owner: np.ndarray, key: Tensor, stream: int = 1) -> np.ndarray:
    """Return another random word, uint64, for each hit."""
    return draws.at(draws.seeds(key, stream)[owner], hit - ragged.start[owner])


@register("text.swap_characters", tags={"character", "label_preserving"})
class SwapCharacters(TextOperator):
    """Swap neighbouring characters of a word.

    rate: chance that a pair is swapped. In each word the pairs begin at its first or second character, at random, so
    no character moves twice. The label stays.
    """

    rate = uniform(0.02, 0.15, identity=0.0, bounds=(0, 1), severity=(0.04, 0.1, 0.2, 0.4, 0.8))
    where = noise_key()

    def formula(self, texts: list[str], rate: Tensor, where: Tensor) -> list[str]:
        ragged = encode(texts)
        inside = inside_words(ragged)
        words = spans(inside, ragged.start)
        parity = draws.at(draws.seeds(where, 1)[words.owner], words.begin - ragged.start[words.owner]) & np.uint64(1)
        # within a word the left ones of the pairs are those whose position is odd or even as the word's first is
        first = (words.begin + parity.astype(np.int64)) & 1
        odd = np.repeat(first.astype(bool), words.end - words.begin)
        candidate = inside
        candidate[inside] = odd == (np.flatnonzero(inside) & 1)
        candidate[words.begin[parity == 1]] = False
        candidate[words.end - 1] = False
        hit, _ = drawn(ragged, candidate, rate, where)
        code = ragged.code.copy()
        code[hit], code[hit + 1] = ragged.code[hit + 1], ragged.code[hit]
        return decode(Ragged(code, ragged.start))


@register("text.insert_characters", tags={"character", "label_preserving"})
class InsertCharacters(TextOperator):
    """Insert random letters a to z into words.

    rate: chance that one is inserted after a character of a word. The label stays.
    """

    rate = uniform(0.02, 0.1, identity=0.0, bounds=(0, 1), severity=SEVERITY)
    where = noise_key()

    def formula(self, texts: list[str], rate: Tensor, where: Tensor) -> list[str]:
        ragged = encode(texts)
        hit, owner = drawn(ragged, inside_words(ragged), rate, where)
        which = draws.below(drawn_again(ragged, hit, owner, where), 26)
        return decode(replace(ragged, hit + 1, hit + 1, owner, _LETTERS, which))


@register("text.delete_characters", tags={"character", "label_preserving"})
class DeleteCharacters(TextOperator):
    """Delete characters of words.

    rate: chance that a character of a word is deleted. The label stays while the words can be guessed, up to about
    severity 3.
    """

    rate = uniform(0.02, 0.1, identity=0.0, bounds=(0, 1), severity=SEVERITY)
    where = noise_key()

    def formula(self, texts: list[str], rate: Tensor, where: Tensor) -> list[str]:
        ragged = encode(texts)
        hit, owner = drawn(ragged, inside_words(ragged), rate, where)
        return decode(remove(ragged, hit, hit + 1, owner))


@register("text.repeat_characters", tags={"character", "label_preserving"})
class RepeatCharacters(TextOperator):
    """Write letters two to four times: soo goood.

    rate: chance that a letter is repeated. The label stays.
    """

    rate = uniform(0.02, 0.1, identity=0.0, bounds=(0, 1), severity=SEVERITY)
    where = noise_key()

    def formula(self, texts: list[str], rate: Tensor, where: Tensor) -> list[str]:
        ragged = encode(texts)
        hit, owner = drawn(ragged, characters.kind_of(ragged.code) == LETTER, rate, where)
        more = 1 + draws.below(drawn_again(ragged, hit, owner, where), 3)
        pieces = Ragged(np.repeat(ragged.code[hit], more), np.append(0, np.cumsum(more)))
        return decode(replace(ragged, hit + 1, hit + 1, owner, pieces, np.arange(len(hit))))


@register("text.spacing", tags={"character", "label_preserving"})
class Spacing(TextOperator):
    """Lose spaces or double them.

    rate: chance that a space is hit; two of three hits lose it, the third doubles it. The label stays.
    """

    rate = uniform(0.05, 0.3, identity=0.0, bounds=(0, 1), severity=(0.05, 0.1, 0.2, 0.4, 0.8))
    where = noise_key()

    def formula(self, texts: list[str], rate: Tensor, where: Tensor) -> list[str]:
        ragged = encode(texts)
        hit, owner = drawn(ragged, characters.kind_of(ragged.code) == SPACE, rate, where)
        doubled = (draws.below(drawn_again(ragged, hit, owner, where), 3) == 0).astype(np.int64)
        pieces = Ragged(np.repeat(ragged.code[hit], 2 * doubled), np.append(0, np.cumsum(2 * doubled)))
        return decode(replace(ragged, hit, hit + 1, owner, pieces, np.arange(len(hit))))


@register("text.punctuation", tags={"character", "label_preserving"})
class Punctuation(TextOperator):
    """Lose punctuation marks, exchange them, or put commas and points where none belong.

    rate: chance that a mark is lost or exchanged; a quarter of it is the chance of a new mark behind a word. The
    label stays, though a lost question mark may turn a question into a statement.
    """

    rate = uniform(0.1, 0.5, identity=0.0, bounds=(0, 1), severity=(0.1, 0.2, 0.4, 0.6, 0.9))
    where = noise_key()

    def formula(self, texts: list[str], rate: Tensor, where: Tensor) -> list[str]:
        ragged = encode(texts)
        hit, owner = drawn(ragged, characters.look_up(_marks(), ragged.code), rate, where)
        which = np.minimum(draws.below(drawn_again(ragged, hit, owner, where), 2 * len(_NEW)), len(_NEW))
        same = _PIECES.code[np.minimum(which, len(_NEW) - 1)] == ragged.code[hit]
        which[same] = len(_NEW)  # the last piece is empty: half of the marks are lost
        words = find_words(ragged)
        end, behind = words.end, words.owner
        new = draws.at(draws.seeds(where, 2)[behind], end - ragged.start[behind])
        added = draws.unit(new) < rate.double().numpy()[behind] / 4
        mark = draws.below(draws.at(draws.seeds(where, 3)[behind], end - ragged.start[behind]), 2)
        # an insertion comes before what stands at its place
        begin = np.concatenate([end[added], hit])
        order = np.argsort(begin, kind="stable")
        until, sample = np.concatenate([end[added], hit + 1]), np.concatenate([behind[added], owner])
        chosen = np.concatenate([mark[added], which])
        return decode(replace(ragged, begin[order], until[order], sample[order], _PIECES, chosen[order]))


_NEW = (",", ".", "!", "?", ";", ":", "-")
_PIECES = table([*_NEW, ""])


def _marks() -> np.ndarray:
    found = np.zeros(1 << 16, bool)
    found[[ord(mark) for mark in ",.!?;:-\"'()…–—"]] = True
    return found


@register("text.casing", tags={"character", "label_preserving"})
class Casing(TextOperator):
    """Flip the case of single letters, and write whole words in capitals.

    rate: chance that a letter's case is flipped; word_rate: chance that a word is written in capitals. The label
    stays. Letters whose other case is more than one character (ß) stay as they are.
    """

    rate = uniform(0.0, 0.1, identity=0.0, bounds=(0, 1), severity=(0.02, 0.05, 0.1, 0.2, 0.4))
    word_rate = uniform(0.05, 0.2, identity=0.0, bounds=(0, 1), severity=(0.05, 0.1, 0.2, 0.3, 0.5))
    where = noise_key()
    which = noise_key()

    def formula(
        self, texts: list[str], rate: Tensor, word_rate: Tensor, where: Tensor, which: Tensor
    ) -> list[str]:  # fmt: skip
        ragged = encode(texts)
        code = ragged.code
        words = find_words(ragged)
        loud = draws.chance(draws.each(draws.seeds(which), words.first), word_rate, words.first)
        covered = np.zeros(len(code) + 1, np.int8)
        covered[words.begin[loud]] += 1
        covered[words.end[loud]] -= 1
        small, capital = characters.mapped(characters.lower(), code), characters.mapped(characters.upper(), code)
        flipped = draws.chance(draws.each(draws.seeds(where), ragged.start), rate, ragged.start)
        out = np.where(flipped, np.where(code == small, capital, small), code)
        return decode(Ragged(np.where(np.cumsum(covered[:-1]) > 0, capital, out), ragged.start))


@register("text.invisible_characters", tags={"character", "label_preserving"})
class InvisibleCharacters(TextOperator):
    """Insert characters without width: zero-width spaces and joiners, soft hyphens (Boucher et al., arXiv 2106.09898).

    rate: chance that one is inserted after a letter. Nothing can be seen, so the label stays.
    """

    rate = uniform(0.02, 0.1, identity=0.0, bounds=(0, 1), severity=(0.02, 0.05, 0.1, 0.3, 0.8))
    where = noise_key()

    def formula(self, texts: list[str], rate: Tensor, where: Tensor) -> list[str]:
        ragged = encode(texts)
        kind = characters.kind_of(ragged.code)
        free = kind == LETTER
        mark = np.flatnonzero(kind == MARK)
        free[mark[mark > 0] - 1] &= np.isin(mark[mark > 0], ragged.start)  # nothing may tear a mark off its letter
        hit, owner = drawn(ragged, free, rate, where)
        which = draws.below(drawn_again(ragged, hit, owner, where), len(_INVISIBLE.start) - 1)
        return decode(replace(ragged, hit + 1, hit + 1, owner, _INVISIBLE, which))


_INVISIBLE = table("\u200b\u200c\u200d\u2060\ufeff\u00ad")
