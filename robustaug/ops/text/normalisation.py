"""Other code points for the same text: what NFKC, the usual normalisation, folds back."""

from __future__ import annotations

import unicodedata
from functools import cache

from torch import Tensor

from robustaug.ops.space import noise_key, uniform
from robustaug.ops.text.ragged import decode, encode
from robustaug.ops.text.substitution import Alternatives, alternatives, substitute
from robustaug.ops.text.texts import TextOperator
from robustaug.registry import register

_PLANE, _ASTRAL = 1 << 16, (0x1D400, 0x1D7FF)  # the mathematical letters and digits lie there


@cache
def _forms() -> Alternatives:
    """Characters by what they are compatible with, and composed characters taken apart (NFD)."""
    forms: dict[str, list[str]] = {}
    for code in (*range(0x80, 0xD800), *range(0xE000, _PLANE), *range(_ASTRAL[0], _ASTRAL[1] + 1)):
        character = chr(code)
        parts = unicodedata.decomposition(character).split()
        if not parts:
            continue
        apart = unicodedata.normalize("NFD", character)
        if apart != character and apart != unicodedata.normalize("NFC", character) and len(apart) > 1:
            forms.setdefault(character, []).append(apart)
        whole = unicodedata.normalize("NFKC", character)
        if len(whole) == 1 and whole != character and 0x20 < ord(whole) < 0x180:
            forms.setdefault(whole, []).append(character)
    return alternatives(forms)


@register("text.unicode_normalisation", tags={"character", "label_preserving"})
class UnicodeNormalisation(TextOperator):
    """Replace characters by compatible ones: full-width and mathematical letters, é as e with a combining accent.

    rate: chance that a character with such a form is replaced. NFKC makes the same text of both (Unicode Standard
    Annex 15), so the label stays; a model that does not normalise sees unknown words.
    """

    rate = uniform(0.02, 0.1, identity=0.0, bounds=(0, 1), severity=(0.02, 0.05, 0.1, 0.3, 0.8))
    where = noise_key()

    def formula(self, texts: list[str], rate: Tensor, where: Tensor) -> list[str]:
        return decode(substitute(encode(texts), _forms(), rate, where))
