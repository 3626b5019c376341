"""Characters for characters by a table of alternatives: slips of the keyboard, misreadings, lookalikes.

Legend: B samples, N code points, M edits.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from robustaug.ops.space import noise_key, uniform
from robustaug.ops.text import characters, draws
from robustaug.ops.text.ragged import Ragged, decode, encode, replace, table
from robustaug.ops.text.texts import TextOperator
from robustaug.registry import register

_PLANE = 1 << 16
SEVERITY = (0.02, 0.05, 0.1, 0.2, 0.4)


@cache
def word_list(name: str) -> Any:
    """Return the content of `data/<name>.json` of this package."""
    return json.loads((Path(__file__).parent / "data" / f"{name}.json").read_text(encoding="utf-8"))


class Alternatives(NamedTuple):
    """What may stand for a character.

    Attributes:
        head: (65536,) int64, the first of a character's pieces.
        count: (65536,) int64, how many it has; 0 for a character that stays.
        pieces: the texts that may be put in.
    """

    head: np.ndarray
    count: np.ndarray
    pieces: Ragged


def alternatives(mapping: Mapping[str, Sequence[str]]) -> Alternatives:
    """Return the table for `mapping`, from a character to the pieces that may replace it."""
    head, count = np.zeros(_PLANE, np.int64), np.zeros(_PLANE, np.int64)
    rows: list[str] = []
    for character, pieces in mapping.items():
        head[ord(character)], count[ord(character)] = len(rows), len(pieces)
        rows += pieces
    return Alternatives(head, count, table(rows))


def substitute(ragged: Ragged, options: Alternatives, rate: Tensor, key: Tensor) -> Ragged:
    """Replace each character that has alternatives by one of them, with chance `rate` (B,)."""
    code = ragged.code
    fits = characters.look_up(options.count, code) > 0
    hit = np.flatnonzero(fits & draws.chance(draws.each(draws.seeds(key), ragged.start), rate, ragged.start))
    owner = ragged.owner(hit)
    word = draws.at(draws.seeds(key, 1)[owner], hit - ragged.start[owner])
    which = options.head[code[hit]] + draws.below(word, options.count[code[hit]])
    if len(hit) and int(options.pieces.lengths.max()) == 1:  # no text changes its length
        out = code.copy()
        out[hit] = options.pieces.code[which]
        return Ragged(out, ragged.start)
    return replace(ragged, hit, hit + 1, owner, options.pieces, which)


def both_cases(mapping: Mapping[str, str]) -> dict[str, list[str]]:
    """Return `mapping` from letters to their alternatives, with the same for capitals."""
    return {key: [*near] for key, near in mapping.items()} | {
        key.upper(): [*near.upper()] for key, near in mapping.items() if key.upper() != key
    }


@cache
def keyboard_neighbours() -> dict[str, list[str]]:
    """Return the keys around each letter and digit of a US QWERTY keyboard, in its case."""
    rows = ("1234567890", "qwertyuiop", "asdfghjkl;", "zxcvbnm,./")
    near: dict[str, str] = {}
    for y, row in enumerate(rows):
        for x, key in enumerate(row):
            # each row of keys lies a part of a key to the right of the one above
            around = [(y, x - 1), (y, x + 1), (y - 1, x), (y - 1, x + 1), (y + 1, x - 1), (y + 1, x)]
            near[key] = "".join(rows[j][i] for j, i in around if 0 <= j < 4 and 0 <= i < 10)
    return both_cases({key: found for key, found in near.items() if key.isalnum()})


@cache
def _keyboard() -> Alternatives:
    return alternatives(keyboard_neighbours())


@cache
def _confusions(name: str) -> Alternatives:
    return alternatives(word_list("confusions")[name])


@register("text.keyboard", tags={"character", "label_preserving"})
class Keyboard(TextOperator):
    """Replace letters and digits by a neighbouring key of a US QWERTY keyboard; the case is kept.

    rate: chance that a letter or digit is hit. A reader still understands, so the label stays.
    """

    rate = uniform(0.02, 0.1, identity=0.0, bounds=(0, 1), severity=SEVERITY)
    where = noise_key()

    def formula(self, texts: list[str], rate: Tensor, where: Tensor) -> list[str]:
        return decode(substitute(encode(texts), _keyboard(), rate, where))


@register("text.ocr", tags={"character", "label_preserving"})
class Ocr(TextOperator):
    """Replace characters as optical character recognition misreads them: l and 1, O and 0, m and rn.

    rate: chance that a character with a known confusion is misread. The label stays.
    """

    rate = uniform(0.02, 0.1, identity=0.0, bounds=(0, 1), severity=SEVERITY)
    where = noise_key()

    def formula(self, texts: list[str], rate: Tensor, where: Tensor) -> list[str]:
        return decode(substitute(encode(texts), _confusions("ocr"), rate, where))


@register("text.homoglyphs", tags={"character", "label_preserving"})
class Homoglyphs(TextOperator):
    """Replace Latin letters by Cyrillic, Greek or Armenian ones that look the same (Boucher et al., arXiv 2106.09898).

    rate: chance that a letter with a lookalike is replaced. A reader sees no difference, so the label stays.
    """

    rate = uniform(0.02, 0.1, identity=0.0, bounds=(0, 1), severity=SEVERITY)
    where = noise_key()

    def formula(self, texts: list[str], rate: Tensor, where: Tensor) -> list[str]:
        return decode(substitute(encode(texts), _confusions("homoglyphs"), rate, where))


@register("text.leet", tags={"character", "label_preserving"})
class Leet(TextOperator):
    """Write letters as digits and signs: e as 3, a as 4 or @, s as 5 or $.

    rate: chance that a letter with such a form is replaced. The label stays.
    """

    rate = uniform(0.05, 0.3, identity=0.0, bounds=(0, 1), severity=(0.05, 0.1, 0.2, 0.4, 0.8))
    where = noise_key()

    def formula(self, texts: list[str], rate: Tensor, where: Tensor) -> list[str]:
        return decode(substitute(encode(texts), _confusions("leet"), rate, where))
