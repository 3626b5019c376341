"""Words and phrases rewritten by the lists in `data/`, without a change of the label.

Legend: B samples.
"""

from __future__ import annotations

from functools import cache

from torch import Tensor

from robustaug.ops.space import choice, noise_key, uniform
from robustaug.ops.text.lexicon import Lexicon, lexicon, rewrite, word_list
from robustaug.ops.text.ragged import decode, encode
from robustaug.ops.text.texts import TextOperator
from robustaug.registry import register

GRADED = (0.1, 0.25, 0.5, 0.75, 1.0)


@cache
def _misspellings() -> Lexicon:
    return lexicon(word_list("misspellings"))


@cache
def _contractions() -> Lexicon:
    return lexicon(word_list("contractions"))


@cache
def _expansions() -> Lexicon:
    return lexicon({short: full[:1] for short, full in reverse(word_list("contractions")).items()})


@cache
def _dialects() -> Lexicon:
    pairs = word_list("dialect")
    return lexicon(reverse(pairs) | pairs)  # a word that is both, such as "dialogue", goes as American


@cache
def _styles(formal: bool) -> Lexicon:
    words = word_list("style")
    # what may be meant in many ways ("so", "2") is no sign of informal speech
    return lexicon({key: full[:1] for key, full in reverse(words).items() if len(full) == 1} if formal else words)


def reverse(entries: dict[str, list[str]]) -> dict[str, list[str]]:
    """Return the lists read backwards: every alternative in lower case with the keys that it stands for."""
    backwards: dict[str, list[str]] = {}
    for key, alternatives in entries.items():
        for one in alternatives:
            backwards.setdefault(one.lower(), []).append("I" + key[1:] if key.startswith("i ") else key)
    return backwards


class _Rewrite(TextOperator):
    """Base: a rate, and a key that says where."""

    rate = uniform(0.3, 1.0, identity=0.0, bounds=(0, 1), severity=GRADED)
    where = noise_key()


@register("text.misspelling", tags={"word", "label_preserving"})
class Misspelling(_Rewrite):
    """Write common words as they are often misspelt: definately, recieve, teh.

    rate: chance that a word of our list of 560 English words is misspelt. A reader still understands: the label
    stays.
    """

    rate = uniform(0.1, 0.4, identity=0.0, bounds=(0, 1), severity=GRADED)

    def formula(self, texts: list[str], rate: Tensor, where: Tensor) -> list[str]:
        return decode(rewrite(encode(texts), _misspellings(), rate, where))


@register("text.contractions", tags={"word", "label_preserving"})
class Contractions(_Rewrite):
    """Contract: do not becomes don't, it is becomes it's.

    rate: chance that a phrase that has a contraction is contracted. The label stays.
    """

    def formula(self, texts: list[str], rate: Tensor, where: Tensor) -> list[str]:
        return decode(rewrite(encode(texts), _contractions(), rate, where))


@register("text.expand_contractions", tags={"word", "label_preserving"})
class ExpandContractions(_Rewrite):
    """Write contractions out: don't becomes do not, it's becomes it is.

    rate: chance that a contraction is written out. The label stays; "it's been" wrongly becomes "it is been", for
    no list tells the two apart.
    """

    def formula(self, texts: list[str], rate: Tensor, where: Tensor) -> list[str]:
        return decode(rewrite(encode(texts), _expansions(), rate, where))


@register("text.dialect", tags={"word", "label_preserving"})
class Dialect(_Rewrite):
    """Write American spellings and words as British ones, and British as American: colour, theater, lorry.

    rate: chance that a word of our list is rewritten. The label stays, though a word with a second sense (tire,
    draft) may be taken in the wrong one.
    """

    def formula(self, texts: list[str], rate: Tensor, where: Tensor) -> list[str]:
        return decode(rewrite(encode(texts), _dialects(), rate, where))


@register("text.style", tags={"word", "label_preserving"})
class Style(_Rewrite):
    """Write as in a chat (gonna, u, pls), or the other way round as in a letter.

    rate: chance that a word or phrase of our list is rewritten; formal: which way, drawn for each text. The label
    stays.
    """

    formal = choice((False, True))

    def formula(self, texts: list[str], rate: Tensor, where: Tensor, formal: Tensor) -> list[str]:
        out = texts
        for way in (False, True):
            chosen = (formal.bool() == way).nonzero()[:, 0]
            part = rewrite(encode(self.layout.pick(texts, chosen)), _styles(way), rate[chosen], where[chosen])
            out = self.layout.put(out, chosen, decode(part))
        return out
