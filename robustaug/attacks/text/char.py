"""Misspelling the words that matter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, zip_longest
from string import ascii_lowercase

import numpy as np

from robustaug.attacks.text.asking import TextAsk
from robustaug.attacks.text.attack import TextAttack
from robustaug.attacks.text.distance import damerau
from robustaug.attacks.text.search import Task
from robustaug.attacks.text.sentence import one_words
from robustaug.ops.text import draws
from robustaug.ops.text.substitution import keyboard_neighbours, word_list
from robustaug.registry import register

SLIPS = ("swap", "delete", "insert", "keyboard", "homoglyph")


@register("attack.text_char", tags={"score", "character"}, modality="text")
@dataclass(frozen=True, kw_only=True, repr=False)
class TextChar(TextAttack):
    """Misspell words, those first that matter most to the model.

    Gao et al. 2018 (DeepWordBug), arXiv:1801.04354, sections III.B and III.C: a word's score is how much the model
    loses without it, then one of a few slips is made in it. We ask the model about several slips of each kind and take
    the best, where they take one of each at random; and homoglyphs come from our `text.homoglyphs`.

    Attributes:
        slips: kinds of edits: "swap" neighbours, "delete" a character, "insert" a letter a to z, "keyboard" for a
            neighbouring key, "homoglyph" for a letter that looks the same.
        candidates: most misspellings tried a word, drawn by the text's key in equal parts from the kinds.
        slips_per_word: most slips in one word.
        ranking: what tells how much a word matters: the text without it ("delete"), with an unknown word in its place
            ("unk"), or "none": every word is tried in every round, at many more queries.
        unknown: the unknown word, "[UNK]" when left out.
    """

    slips: Sequence[str] = SLIPS
    candidates: int = 20
    slips_per_word: int = 1
    ranking: str = "delete"  # type: ignore[misc]
    unknown: str | None = None  # type: ignore[misc]

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_count("candidates")
        self.check_count("slips_per_word")
        kinds = () if isinstance(self.slips, str) else tuple(self.slips)
        if not kinds or not set(kinds) <= {*SLIPS}:
            raise ValueError(f"{self.name}: slips must be some of {', '.join(map(repr, SLIPS))}, got {self.slips!r}")
        object.__setattr__(self, "slips", tuple(dict.fromkeys(kinds)))

    @property
    def moves_per_word(self) -> int:  # type: ignore[override]
        return self.slips_per_word

    def variants(self, task: Task, place: int, moves: int, word: str) -> Sequence[str]:
        kinds = misspellings(word, tuple(self.slips))
        total = sum(map(len, kinds))
        if total <= self.candidates:
            return [*chain.from_iterable(kinds)]
        seed = np.array([task.seed], np.uint64)
        luck = draws.at(np.repeat(seed, total), (place << 32) + (moves << 24) + np.arange(total))
        ends = np.cumsum([len(kind) for kind in kinds])[:-1]
        mixed = [
            [kind[at] for at in np.argsort(part, kind="stable")[: self.candidates]]
            for kind, part in zip(kinds, np.split(luck, ends), strict=True)
        ]
        in_turn = (piece for row in zip_longest(*mixed) for piece in row if piece is not None)
        return [*in_turn][: self.candidates]

    def allows(self, old: str, new: str, ask: TextAsk) -> bool:
        return damerau(old, new) <= self.slips_per_word


@lru_cache(maxsize=1 << 14)
def misspellings(word: str, slips: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    """Return what one slip of each kind makes of a word, each misspelling once and each a word."""
    ends = range(len(word) + 1)
    made = {
        "swap": [word[: i - 1] + word[i] + word[i - 1] + word[i + 1 :] for i in ends[1:-1]],
        "delete": [word[:i] + word[i + 1 :] for i in ends[:-1]],
        "insert": [word[:i] + letter + word[i:] for i in ends for letter in ascii_lowercase],
        "keyboard": _exchanged(word, keyboard_neighbours()),
        "homoglyph": _exchanged(word, word_list("confusions")["homoglyphs"]),
    }
    seen, kinds = {word}, []
    for kind in slips:
        fresh = dict.fromkeys(piece for piece in made[kind] if piece not in seen)
        seen.update(fresh)
        kinds.append(tuple(one_words([*fresh])))
    return tuple(kinds)


def _exchanged(word: str, table: dict[str, list[str]]) -> list[str]:
    return [word[:i] + piece + word[i + 1 :] for i, letter in enumerate(word) for piece in table.get(letter, ())]
