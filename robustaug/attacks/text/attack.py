"""The face of text attacks: the limits they share, and what each one has to say for itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor

from robustaug.attacks.losses import margin
from robustaug.attacks.text import driver
from robustaug.attacks.text.asking import TextAsk
from robustaug.attacks.text.distance import damerau
from robustaug.attacks.text.driver import TextAttackResult
from robustaug.attacks.text.search import Candidate, Task, replaced
from robustaug.attacks.text.sentence import Sentence
from robustaug.ops.text.wordnet import FUNCTION_WORDS
from robustaug.parameters import check_choice, check_count, check_number, created, spec_of
from robustaug.registry import check_parameters
from robustaug.rng import Keys

UNITS = ("word", "character")
RANKINGS = ("delete", "unk", "none")

Similarity = Callable[[list[str], list[str]], Any]
"""From N texts and N changed texts to N numbers, greater is more alike; a tensor, an array or a list."""


@dataclass(frozen=True, kw_only=True, repr=False)
class TextAttack:
    """Base of text attacks. A subclass is a registered dataclass with `variants` and `allows`, or `moves`.

    Every attack changes words one by one and leaves what is between them: a word stays one word. So the original and
    the result have the same number of words, and what was changed is seen word by word.

    Attributes:
        unit: what edits are counted in: "word", words that differ, or "character", insertions, deletions,
            substitutions and swaps within words.
        max_rate: most edits as a share of the text's words or characters, 0 to 1; rounded down.
        max_edits: most edits in number; no limit but the rate when left out.
        stop_words: words that stay: "english" for function words, or a list; case does not matter.
        protected: more words that stay, such as names or terms.
        similarity: tells how alike two texts are, for lists of them: (originals, changed) -> (N,).
        min_similarity: the least that `similarity` must return, which both go together.
        targeted: lead each text towards a class instead of away from its own.
        width: how many texts the search keeps; 1 is greedy, more is a beam search.
    """

    name: ClassVar[str] = ""
    guided: ClassVar[bool] = False
    """Needs gradients: `moves` is given the slope at the candidate."""
    ranking: ClassVar[str] = "none"
    unknown: ClassVar[str | None] = None
    moves_per_word: ClassVar[int] = 1

    unit: str = "word"
    max_rate: float = 0.2
    max_edits: int | None = None
    stop_words: str | Sequence[str] = "english"
    protected: Sequence[str] = ()
    similarity: Similarity | None = None
    min_similarity: float | None = None
    targeted: bool = False
    width: int = 1

    def __new__(cls, *args: Any, **params: Any) -> TextAttack:
        check_parameters(cls.name, params, [f.name for f in fields(cls)])
        return super().__new__(cls)

    def __post_init__(self) -> None:
        """Check every value.

        Raises:
            ValueError: names the parameter, its value and what is allowed.
        """
        check_choice(self.name, "unit", self.unit, UNITS)
        check_choice(self.name, "ranking", self.ranking, RANKINGS)
        if self.unknown is not None and (self.ranking != "unk" or not isinstance(self.unknown, str)):
            raise ValueError(f"{self.name}: unknown is the text that ranking='unk' puts in, got {self.unknown!r}")
        rate = check_number(self.name, "max_rate", self.max_rate)
        if not 0 <= rate <= 1:
            raise ValueError(f"{self.name}: max_rate must be a share in [0, 1], got {self.max_rate!r}")
        object.__setattr__(self, "max_rate", rate)
        if self.max_edits is not None:
            self.check_count("max_edits", 0)
        self.check_count("width")
        if self.targeted not in (True, False):
            raise ValueError(f"{self.name}: targeted must be true or false, got {self.targeted!r}")
        self._check_words()
        if (self.similarity is None) != (self.min_similarity is None):
            raise ValueError(f"{self.name}: similarity and min_similarity go together; give both or neither")
        if self.similarity is not None and not callable(self.similarity):
            raise ValueError(f"{self.name}: similarity must be callable, got {self.similarity!r}")
        if self.min_similarity is not None:
            object.__setattr__(self, "min_similarity", check_number(self.name, "min_similarity", self.min_similarity))

    def _check_words(self) -> None:
        for key in ("stop_words", "protected"):
            words = getattr(self, key)
            if key == "stop_words" and words == "english":
                continue
            if isinstance(words, str) or not all(isinstance(word, str) for word in words):
                kinds = '"english" or a list of words' if key == "stop_words" else "a list of words"
                raise ValueError(f"{self.name}: {key} must be {kinds}, got {words!r}")
            object.__setattr__(self, key, tuple(words))

    def check_count(self, key: str, least: int = 1) -> None:
        """Refuse what is no whole number >= `least`."""
        check_count(self.name, key, getattr(self, key), least)

    def prepare(self, model: Any) -> None:
        """Refuse what the attack cannot work with, before any search.

        Raises:
            TypeError, ValueError, ImportError or FileNotFoundError: says what is missing.
        """

    def variants(self, task: Task, place: int, moves: int, word: str) -> Sequence[str]:
        """Return what may stand for `word`, the form of the word `place` after `moves` changes."""
        raise NotImplementedError(f"{type(self).__name__} must define variants(task, place, moves, word)")

    def allows(self, old: str, new: str, ask: TextAsk) -> bool:
        """Whether `new` may stand for `old` in the end; the check of results asks it."""
        raise NotImplementedError(f"{type(self).__name__} must define allows(old, new, ask)")

    def moves(self, task: Task, candidate: Candidate, places: Sequence[int], slope: Any) -> list[Candidate]:
        """Return the candidate with one more word changed, in every way that may be tried.

        Args:
            places: the words that may be changed once more.
            slope: the `asking.Slope` at the candidate for guided attacks, else None.
        """
        del slope
        found = []
        for place in places:
            pieces = self.variants(task, place, candidate.moves[place], candidate.words[place])
            found += replaced(task, candidate, place, pieces, self.edits)
        return found

    def stays(self, word: str) -> bool:
        """Whether a word is a stop word or protected."""
        return word.lower() in self._kept

    @cached_property
    def _kept(self) -> frozenset[str]:
        stop = FUNCTION_WORDS if self.stop_words == "english" else self.stop_words
        return frozenset(word.lower() for word in (*stop, *self.protected))

    def edits(self, old: str, new: str) -> int:
        """Return the edits that make `new` of a word, in the attack's unit."""
        return int(old != new) if self.unit == "word" else damerau(old, new)

    def size(self, sentence: Sentence) -> int:
        """Return how many words or characters a text has."""
        if self.unit == "word":
            return len(sentence.words)
        return sum(map(len, sentence.words)) + sum(map(len, sentence.gaps))

    def limit(self, sentence: Sentence) -> int:
        """Return how many edits a text may suffer."""
        share = int(self.max_rate * self.size(sentence) + 1e-9)  # 0.29 * 100 is 28.999999999999996
        return share if self.max_edits is None else min(share, self.max_edits)

    def masked(self, sentence: Sentence, place: int) -> str:
        """Return the text that tells how much one word matters: without it, or with an unknown one."""
        if self.ranking == "delete":
            return sentence.without(place)
        unknown = "[UNK]" if self.unknown is None else self.unknown
        return sentence.written([*sentence.words[:place], unknown, *sentence.words[place + 1 :]])

    def alike(self, originals: list[str], changed: list[str]) -> list[bool]:
        """Return for each pair whether it is alike enough; all are where the attack measures no similarity.

        Raises:
            ValueError: the similarity returns not one number a pair.
        """
        if self.similarity is None or self.min_similarity is None or not originals:
            return [True] * len(originals)
        values = torch.as_tensor(self.similarity([*originals], [*changed])).detach().cpu().double()
        if values.shape != (len(originals),):
            raise ValueError(
                f"{self.name}: similarity must return one number a pair: {len(originals)} pairs, "
                f"got shape {tuple(values.shape)}"
            )
        return (values >= self.min_similarity).tolist()  # false for NaN

    def objective(self, logits: Tensor, label: Tensor) -> Tensor:
        """Return what to push up for each text, (B,) float64: the margin of the best other class, or of the target."""
        loss = margin(logits, label)
        return -loss if self.targeted else loss

    def __call__(
        self,
        model: Callable[[list[str]], Any],
        texts: list[str],
        labels: Tensor | Sequence[int],
        keys: Keys | None = None,
        target: Tensor | Sequence[int] | None = None,
        batch_size: int = 256,
        budget: int | None = None,
    ) -> TextAttackResult:
        """Attack a list of texts; see `driver.run`."""
        return driver.run(self, model, texts, labels, keys, target, batch_size, budget)

    def spec(self) -> dict[str, Any]:
        """Return {name: parameters that differ from the defaults}."""
        return spec_of(self)

    def __repr__(self) -> str:
        return created(self.spec())
