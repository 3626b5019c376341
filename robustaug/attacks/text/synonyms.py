"""Where synonyms come from: WordNet, a list, or the neighbours in an embedding of words.

Legend: V words, D numbers a word.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch

from robustaug.attacks.text.sentence import one_words
from robustaug.ops.text import wordnet

Source = Callable[[str], Sequence[str]]
"""From a word in lower case to what may stand for it, best first."""


class Neighbours:
    """The nearest words in an embedding, by cosine.

    Jin et al. 2020, arXiv:1907.11932, take the 50 nearest above 0.7 in counter-fitted vectors (Mrkšić et al. 2016,
    arXiv:1603.00892). In other vectors opposites are neighbours too: good is near bad.

    Args:
        words: V words in lower case.
        vectors: (V, D), an array or a tensor.
        most: how many neighbours at most.
        least: the least cosine.

    >>> near = Neighbours(["good", "fine", "bad"], [[1.0, 0.0], [0.9, 0.1], [-1.0, 0.0]], least=0.5)
    >>> near("good"), near("unheard")
    (('fine',), ())

    Raises:
        ValueError: not one vector a word, a word twice, or values out of range.
    """

    def __init__(self, words: Sequence[str], vectors: Any, most: int = 50, least: float = 0.7) -> None:
        rows = torch.as_tensor(vectors).detach().double().cpu()
        if rows.ndim != 2 or len(rows) != len(words):
            raise ValueError(f"vectors must have one row a word: {len(words)} words, got shape {tuple(rows.shape)}")
        if isinstance(most, bool) or not isinstance(most, int) or most < 1:
            raise ValueError(f"most must be a whole number >= 1, got {most!r}")
        if not -1 <= least <= 1:
            raise ValueError(f"least must be a cosine in [-1, 1], got {least!r}")
        self.words = [*words]
        self.row = {word: at for at, word in enumerate(self.words)}
        if len(self.row) < len(self.words):
            twice = next(word for at, word in enumerate(self.words) if self.row[word] != at)
            raise ValueError(f"words must differ, got {twice!r} twice")
        self.directions = rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-300)
        self.most, self.least = most, least
        self._known: dict[str, tuple[str, ...]] = {}

    def __call__(self, word: str) -> tuple[str, ...]:
        """Return the neighbours of a word, nearest first; none of a word that is not known."""
        if word not in self._known:
            self._known[word] = self._near(self.row[word]) if word in self.row else ()
        return self._known[word]

    def _near(self, at: int) -> tuple[str, ...]:
        cosine = self.directions @ self.directions[at]
        cosine[at] = -torch.inf
        order = cosine.argsort(descending=True, stable=True)[: self.most]
        return tuple(self.words[row] for row in order[cosine[order] >= self.least].tolist())

    def __repr__(self) -> str:
        return f"Neighbours({len(self.words)} words, most={self.most}, least={self.least})"


def read_source(name: str, synonyms: Any) -> Source:
    """Return the source that a parameter stands for: "wordnet", a mapping from words, or a callable.

    Raises:
        ValueError: anything else.
    """
    if synonyms == "wordnet":
        return wordnet.synonyms
    if isinstance(synonyms, Mapping):
        lists = {key.lower(): tuple(found) for key, found in synonyms.items()}
        return lambda word: lists.get(word, ())
    if callable(synonyms):
        return cast(Source, synonyms)
    raise ValueError(
        f'{name}: synonyms must be "wordnet", a mapping from words to lists, or callable, got {synonyms!r}'
    )


def require(name: str, synonyms: Any) -> None:
    """Refuse WordNet where it cannot be read.

    Raises:
        ImportError: nltk is not installed.
        FileNotFoundError: its data are not there.
    """
    if synonyms != "wordnet":
        return
    try:
        wordnet.corpus()
    except (ImportError, FileNotFoundError) as error:
        raise type(error)(
            f"{name}: no source of synonyms. {error}. Or pass synonyms: a mapping from words to lists, or "
            "robustaug.attacks.text.synonyms.Neighbours(words, vectors)"
        ) from None


def alternatives(source: Source, word: str) -> list[str]:
    """Return what may stand for a word, in its case, each once; what is not one word is left out."""
    found = dict.fromkeys(wordnet.cased(other, word) for other in source(word.lower()))
    found.pop(word, None)
    return one_words([*found])
