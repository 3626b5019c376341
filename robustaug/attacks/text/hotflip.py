"""Flipping the words whose embeddings' gradient promises most.

Legend: T tokens, V words of the vocabulary, D numbers of an embedding, P places.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor

from robustaug.attacks.text import synonyms
from robustaug.attacks.text.asking import Slope, TextAsk, Vocabulary
from robustaug.attacks.text.attack import TextAttack
from robustaug.attacks.text.search import Candidate, Task, replaced
from robustaug.ops.text.wordnet import cased
from robustaug.parameters import check_number
from robustaug.registry import register


@register("attack.text_hotflip", tags={"gradient", "word"}, modality="text")
@dataclass(frozen=True, kw_only=True, repr=False)
class TextHotFlip(TextAttack):
    """Replace the words for which the gradient promises most, by other words of the model's vocabulary.

    Ebrahimi et al. 2018, arXiv:1712.06751, equation 4 for words: a flip from word a to b promises (e_b - e_a) . g with
    g the gradient at a's embedding. The model is asked about the most promising flips of all words; with width above 1
    this is their beam search. Words that the model reads as several tokens stay. Without synonyms and without
    `min_cosine` any word may take the place of any other, so the meaning may change with it.

    Attributes:
        synonyms: where replacements come from, as for attack.text_word; the whole vocabulary when left out.
        min_cosine: the least cosine between the two embeddings; the paper takes 0.8.
        candidates: how many flips of each text the model is asked about in a round.
    """

    guided: ClassVar[bool] = True
    synonyms: str | Mapping[str, Sequence[str]] | synonyms.Source | None = None
    min_cosine: float | None = None
    candidates: int = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_count("candidates")
        if self.min_cosine is not None and not -1 <= check_number(self.name, "min_cosine", self.min_cosine) <= 1:
            raise ValueError(f"{self.name}: min_cosine must be in [-1, 1], got {self.min_cosine!r}")
        if self.synonyms is not None:
            synonyms.read_source(self.name, self.synonyms)

    @cached_property
    def source(self) -> synonyms.Source | None:
        """What may stand for a word in lower case; None for anything."""
        return None if self.synonyms is None else synonyms.read_source(self.name, self.synonyms)

    def prepare(self, model: Any) -> None:
        synonyms.require(self.name, self.synonyms)
        lacks = [part for part in _PROTOCOL if not hasattr(model, part)]
        if lacks:
            raise TypeError(
                f"{self.name}: the model must offer {', '.join(_PROTOCOL)} as robustaug.attacks.text.asking.TokenModel "
                f"says; {type(model).__name__} lacks {', '.join(lacks)}; attack.text_word needs none of them"
            )

    def moves(self, task: Task, candidate: Candidate, places: Sequence[int], slope: Slope) -> list[Candidate]:
        """Return the most promising flips."""
        token = _single_tokens(task, candidate, slope)
        free = [place for place in places if place in token]
        if not free:
            return []
        gain = self._promise(candidate, free, torch.tensor([token[place] for place in free]), slope)
        promising = int((gain > -torch.inf).sum())
        wanted = self.candidates
        while True:
            found = self._flips(task, candidate, free, gain.flatten().topk(min(wanted, promising)).indices, slope)
            if len(found) >= self.candidates or wanted >= promising:
                return found[: self.candidates]
            wanted *= 4  # some broke a limit

    def _promise(self, candidate: Candidate, places: list[int], token: Tensor, slope: Slope) -> Tensor:
        """Return (P, V) what every flip promises; minus infinity where it is not allowed."""
        vocabulary = slope.vocabulary
        grad, own = slope.grad[token], slope.ids[token]
        gain = grad @ vocabulary.embeddings.T - (grad * vocabulary.embeddings[own]).sum(1, keepdim=True)
        allowed = torch.stack([self._allowed(candidate.words[place], vocabulary) for place in places])
        return gain.masked_fill(~allowed, -torch.inf)

    def _allowed(self, word: str, vocabulary: Vocabulary) -> Tensor:
        """Return (V,) bool: what may take the place of a word."""
        allowed = vocabulary.usable & ~vocabulary.rows_of([word])
        if self.source is not None:
            allowed &= vocabulary.rows_of(self.source(word.lower()))
        if self.min_cosine is not None:
            allowed &= vocabulary.cosine(word) >= self.min_cosine
        return allowed

    def _flips(
        self, task: Task, candidate: Candidate, places: list[int], order: Tensor, slope: Slope
    ) -> list[Candidate]:
        found = []
        for at in order.tolist():
            place, row = places[at // len(slope.vocabulary.words)], at % len(slope.vocabulary.words)
            piece = cased(slope.vocabulary.words[row], candidate.words[place])
            found += replaced(task, candidate, place, [piece], self.edits)
        return found

    def allows(self, old: str, new: str, ask: TextAsk) -> bool:
        return bool((self._allowed(old, ask.vocabulary) & ask.vocabulary.rows_of([new])).any())


_PROTOCOL = ("vocabulary", "embeddings", "tokens", "logits_from_embeddings")


def _single_tokens(task: Task, candidate: Candidate, slope: Slope) -> dict[int, int]:
    """Return the token of each word that is exactly one."""
    spans = {span: t for t, span in enumerate(zip(slope.begin.tolist(), slope.end.tolist(), strict=True))}
    found, at = {}, 0
    for place, (gap, word) in enumerate(zip(task.sentence.gaps, candidate.words, strict=False)):
        at += len(gap)
        if (t := spans.get((at, at + len(word)))) is not None:
            found[place] = t
        at += len(word)
    return found
