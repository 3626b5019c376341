"""What changes the meaning: negations, names, numbers. A label may change with it."""

from __future__ import annotations

from functools import cache

import numpy as np
from torch import Tensor

from robustaug.ops.space import noise_key, uniform
from robustaug.ops.text import draws
from robustaug.ops.text.lexicon import Lexicon, lexicon, rewrite, word_list
from robustaug.ops.text.ragged import Ragged, decode, encode
from robustaug.ops.text.rewriting import GRADED, reverse
from robustaug.ops.text.texts import TextOperator
from robustaug.ops.text.words import spans
from robustaug.registry import register


@cache
def _negations() -> Lexicon:
    words = word_list("negation")
    return lexicon(words | {key: full[:1] for key, full in reverse(words).items() if key not in words})


@cache
def _kinds(name: str) -> Lexicon:
    """Every member of a kind stands for every other; a draw of itself changes nothing."""
    entries: dict[str, list[str]] = {}
    for members in word_list(name).values():
        entries |= {member.lower(): members for member in members}
    return lexicon(entries, shared=True)


@register("text.negation", tags={"word"})
class Negation(TextOperator):
    """Deny what is affirmed and affirm what is denied: is becomes is not, don't becomes do.

    rate: chance that an auxiliary verb, or a word such as always or everyone, is turned. Not label-preserving: the
    sentence says the opposite.
    """

    rate = uniform(0.3, 1.0, identity=0.0, bounds=(0, 1), severity=GRADED)
    where = noise_key()

    def formula(self, texts: list[str], rate: Tensor, where: Tensor) -> list[str]:
        return decode(rewrite(encode(texts), _negations(), rate, where))


@register("text.swap_entities", tags={"word"})
class SwapEntities(TextOperator):
    """Swap names of people, countries, cities, companies, weekdays, months and languages for others of their kind.

    rate: chance that a name of our lists is swapped; it must begin with a capital. Not label-preserving where the
    label depends on who or where, such as in named-entity linking or question answering; sentiment stays.
    """

    rate = uniform(0.3, 1.0, identity=0.0, bounds=(0, 1), severity=GRADED)
    where = noise_key()

    def formula(self, texts: list[str], rate: Tensor, where: Tensor) -> list[str]:
        return decode(rewrite(encode(texts), _kinds("entities"), rate, where, capital=True))


@register("text.swap_numbers", tags={"word"})
class SwapNumbers(TextOperator):
    """Write other numbers: each digit of a number becomes another digit, a number word another word.

    rate: chance that a number changes. A number keeps its length and, where it has one, a first digit that is not 0.
    Not label-preserving where the label depends on amounts or dates.
    """

    rate = uniform(0.3, 1.0, identity=0.0, bounds=(0, 1), severity=GRADED)
    where = noise_key()

    def formula(self, texts: list[str], rate: Tensor, where: Tensor) -> list[str]:
        ragged = encode(texts)
        code = ragged.code
        digit = (code >= ord("0")) & (code <= ord("9"))
        numbers = spans(digit, ragged.start)
        chosen = draws.chance(draws.each(draws.seeds(where, 2), numbers.first), rate, numbers.first)
        hit = np.flatnonzero(digit)[np.repeat(chosen, numbers.end - numbers.begin)]
        leading = np.isin(hit, numbers.begin)
        value = code[hit].astype(np.int64) - ord("0")
        owner = ragged.owner(hit)
        word = draws.at(draws.seeds(where, 3)[owner], hit - ragged.start[owner])
        # one of the nine others; of the eight others where 1 to 9 must stay 1 to 9
        nonzero = leading & (value > 0)
        other = np.where(nonzero, 1 + (value + draws.below(word, 8)) % 9, (value + 1 + draws.below(word, 9)) % 10)
        out = code.copy()
        out[hit] = (other + ord("0")).astype(np.uint32)
        return decode(rewrite(Ragged(out, ragged.start), _kinds("numbers"), rate, where))
