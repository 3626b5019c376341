"""What kind a character is, by table; beyond the basic multilingual plane all are symbols.

The tables cover 65,536 code points and are made on first use.
"""

from __future__ import annotations

import unicodedata
from functools import cache

import numpy as np

_PLANE = 1 << 16
OTHER, LETTER, DIGIT, MARK, SPACE = range(5)


@cache
def kinds() -> np.ndarray:
    """Return (65536,) uint8: OTHER, LETTER, DIGIT, MARK (a combining one) or SPACE."""
    found = np.zeros(_PLANE, np.uint8)
    initials = {"L": LETTER, "M": MARK, "N": DIGIT, "Z": SPACE}
    for code in range(_PLANE - 1):  # the last one stands for all beyond
        character = chr(code)
        found[code] = SPACE if character.isspace() else initials.get(unicodedata.category(character)[0], OTHER)
    return found


@cache
def lower() -> np.ndarray:
    """Return (65536,) uint32: each character's lower case where that is one character, else itself."""
    return _cased(str.lower)


@cache
def upper() -> np.ndarray:
    """Return (65536,) uint32: each character's upper case where that is one character, else itself."""
    return _cased(str.upper)


def kind_of(code: np.ndarray) -> np.ndarray:
    """Return the kind of each code point, (N,) uint8."""
    return look_up(kinds(), code)


def look_up(values: np.ndarray, code: np.ndarray) -> np.ndarray:
    """Return values[code], the last value for all code points beyond the table."""
    return values.take(code, mode="clip")


def mapped(values: np.ndarray, code: np.ndarray) -> np.ndarray:
    """Return each code point's image under a table such as `lower`; those beyond the table stay."""
    return np.where(code < _PLANE, look_up(values, code), code)


def _cased(case) -> np.ndarray:
    same = np.arange(_PLANE, dtype=np.uint32)
    for code in range(_PLANE):
        if len(changed := case(chr(code))) == 1:
            same[code] = ord(changed)
    return same
