"""Synonyms and antonyms from WordNet (Miller, "WordNet: a lexical database for English", CACM 1995).

The data are read by nltk, which looks for `corpora/wordnet` in its own places (`nltk.data.path`: the NLTK_DATA
variable, nltk_data in the home folder, /usr/share/nltk_data, ...). Nothing is downloaded here.

Legend: B samples, M words.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from torch import Tensor

from robustaug.ops.space import noise_key, uniform
from robustaug.ops.text import draws
from robustaug.ops.text.ragged import decode, encode, replace, table
from robustaug.ops.text.rewriting import GRADED
from robustaug.ops.text.texts import TextOperator
from robustaug.ops.text.words import find_words
from robustaug.registry import register

# their senses in WordNet are not what they mean in a sentence: "a" is a vitamin, "in" is an inch
FUNCTION_WORDS = frozenset(
    [
        "a",
        "an",
        "and",
        "are",
        "as",
        "at",
        "be",
        "been",
        "but",
        "by",
        "can",
        "do",
        "does",
        "for",
        "had",
        "has",
        "have",
        "he",
        "her",
        "his",
        "how",
        "i",
        "if",
        "in",
        "is",
        "it",
        "its",
        "may",
        "might",
        "more",
        "most",
        "must",
        "no",
        "nor",
        "not",
        "of",
        "on",
        "one",
        "or",
        "our",
        "out",
        "over",
        "she",
        "should",
        "so",
        "some",
        "such",
        "than",
        "that",
        "the",
        "their",
        "them",
        "then",
        "there",
        "they",
        "this",
        "to",
        "too",
        "up",
        "us",
        "was",
        "we",
        "were",
        "what",
        "when",
        "where",
        "which",
        "who",
        "will",
        "with",
        "would",
        "you",
        "your",
    ]
)


def corpus() -> Any:
    """Return nltk's reader of WordNet.

    Raises:
        ImportError: nltk is not installed.
        FileNotFoundError: nltk does not find the data; the message tells where it looked.
    """
    try:
        import nltk
        from nltk.corpus import wordnet
    except ImportError:
        raise ImportError(
            "text.synonyms and text.antonyms need nltk to read WordNet: pip install 'robustaug[text]'"
        ) from None
    try:
        wordnet.ensure_loaded()
    except LookupError:
        raise FileNotFoundError(
            "WordNet's data are not there: python -m nltk.downloader wordnet, or set NLTK_DATA to the folder that "
            f"holds corpora/wordnet; nltk looked in {', '.join(nltk.data.path)}"
        ) from None
    return wordnet


def main_sense(wordnet: Any, word: str) -> Any | None:
    """Return the lemma of `word`'s most frequent sense, or None: inflected forms (films, went) have none."""
    lemmas = [one for one in wordnet.lemmas(word) if one.name().lower() == word]
    return max(lemmas, key=lambda one: one.count(), default=None)  # of equals the first, as WordNet orders them


@cache
def synonyms(word: str) -> tuple[str, ...]:
    """Return the other words of the most frequent sense, in alphabetical order."""
    lemma = main_sense(corpus(), word)
    names = [] if lemma is None else lemma.synset().lemma_names()
    return tuple(sorted({name.replace("_", " ") for name in names if name.lower() != word}))


@cache
def antonyms(word: str) -> tuple[str, ...]:
    """Return the opposites of the word in any of its senses, in alphabetical order."""
    lemmas = [one for one in corpus().lemmas(word) if one.name().lower() == word]
    return tuple(sorted({other.name().replace("_", " ") for one in lemmas for other in one.antonyms()}))


def reword(texts: list[str], find: Callable[[str], tuple[str, ...]], rate: Tensor, key: Tensor) -> list[str]:
    """Replace words by one of what `find` returns for them in lower case, with chance `rate` (B,)."""
    ragged = encode(texts)
    words = find_words(ragged)
    lucky = np.flatnonzero(draws.chance(draws.each(draws.seeds(key), words.first), rate, words.first))
    owner = words.owner[lucky]
    luck = draws.unit(draws.at(draws.seeds(key, 1)[owner], words.place(lucky))).tolist()
    at = ragged.start[owner]
    hits, pieces = [], []
    spans = zip(owner.tolist(), (words.begin[lucky] - at).tolist(), (words.end[lucky] - at).tolist(), strict=True)
    for position, (text, begin, end) in enumerate(spans):
        word = texts[text][begin:end]
        if not word.isascii() or not word.isalpha() or word.lower() in FUNCTION_WORDS:
            continue
        if found := find(word.lower()):
            hits.append(position)
            pieces.append(cased(found[int(luck[position] * len(found))], word))
    chosen = lucky[np.array(hits, np.int64)]
    begin, end, owner = words.begin[chosen], words.end[chosen], words.owner[chosen]
    return decode(replace(ragged, begin, end, owner, table(pieces), np.arange(len(chosen))))


def cased(new: str, old: str) -> str:
    """Return `new` in the case of `old`: capitals, a capital, or as it is."""
    if old.isupper() and len(old) > 1:
        return new.upper()
    return new[:1].upper() + new[1:] if old[:1].isupper() else new


@register("text.synonyms", tags={"word", "label_preserving"})
class Synonyms(TextOperator):
    """Replace words by synonyms from WordNet, in each word's most frequent sense.

    rate: chance that a word is replaced, if WordNet has it in this very form; function words stay. The label stays
    as far as the sense is the right one, which nothing here checks. Needs nltk and its data: see `corpus`.
    """

    rate = uniform(0.1, 0.4, identity=0.0, bounds=(0, 1), severity=GRADED)
    where = noise_key()

    def formula(self, texts: list[str], rate: Tensor, where: Tensor) -> list[str]:
        corpus()  # without WordNet this fails, even on texts in which no word would be looked up
        return reword(texts, synonyms, rate, where)


@register("text.antonyms", tags={"word"})
class Antonyms(TextOperator):
    """Replace words by their antonyms from WordNet: good becomes bad.

    rate: chance that a word that has an antonym is replaced. Not label-preserving: the text may say the opposite.
    Needs nltk and its data: see `corpus`.
    """

    rate = uniform(0.3, 1.0, identity=0.0, bounds=(0, 1), severity=GRADED)
    where = noise_key()

    def formula(self, texts: list[str], rate: Tensor, where: Tensor) -> list[str]:
        corpus()
        return reword(texts, antonyms, rate, where)
