"""Putting synonyms in place of the words that matter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from robustaug.attacks.text import synonyms
from robustaug.attacks.text.asking import TextAsk
from robustaug.attacks.text.attack import TextAttack
from robustaug.attacks.text.search import Task
from robustaug.registry import register


@register("attack.text_word", tags={"score", "word"}, modality="text")
@dataclass(frozen=True, kw_only=True, repr=False)
class TextWord(TextAttack):
    """Replace words by synonyms, those first that matter most to the model.

    Jin et al. 2020 (TextFooler), arXiv:1907.11932, section 3; their sentence similarity is `similarity` here, and no
    part of speech is checked. The meaning stays as far as the source of synonyms is right.

    Attributes:
        synonyms: "wordnet" for each word's most frequent sense (through nltk and its data), a mapping from words to
            lists, or a callable such as `synonyms.Neighbours(words, vectors)`; words are looked up in lower case.
            Synonyms of several words are left out.
        candidates: most synonyms tried a word, the source's first ones.
        ranking: what tells how much a word matters: the text without it ("delete"), with an unknown word in its place
            ("unk"), or "none": every word is tried in every round, at many more queries.
        unknown: the unknown word, "[UNK]" when left out.
    """

    synonyms: str | Mapping[str, Sequence[str]] | synonyms.Source = "wordnet"
    candidates: int = 50
    ranking: str = "delete"  # type: ignore[misc]
    unknown: str | None = None  # type: ignore[misc]

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_count("candidates")
        synonyms.read_source(self.name, self.synonyms)

    @cached_property
    def source(self) -> synonyms.Source:
        """What may stand for a word in lower case."""
        return synonyms.read_source(self.name, self.synonyms)

    def prepare(self, model: Any) -> None:
        synonyms.require(self.name, self.synonyms)

    def variants(self, task: Task, place: int, moves: int, word: str) -> Sequence[str]:
        return synonyms.alternatives(self.source, word)[: self.candidates]

    def allows(self, old: str, new: str, ask: TextAsk) -> bool:
        return new in synonyms.alternatives(self.source, old)[: self.candidates]
