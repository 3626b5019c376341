"""What the web leaves in a text: emoji, HTML, addresses.

Legend: B samples, M words.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from torch import Tensor

from robustaug.ops.space import noise_key, uniform
from robustaug.ops.text import draws
from robustaug.ops.text.ragged import Ragged, decode, encode, replace, table
from robustaug.ops.text.texts import TextOperator
from robustaug.ops.text.words import Words, find_words
from robustaug.registry import register

GRADED = (0.02, 0.05, 0.1, 0.2, 0.4)

# things and signs, no faces: what shows no feeling leaves the label alone
_EMOJI = table(
    [
        " " + one
        for one in (
            "🎬", "🎥", "📽️", "🍿", "📌", "📎", "🔹", "🔸", "▪️", "➡️", "🕒", "📅", "🗓️", "📍", "🚗",
            "🚲", "🏠", "🌍", "☕", "🎧", "📷", "💻", "📱", "🔗", "#️⃣", "©️", "™️", "👩\u200d💻", "🇫🇷", "🇯🇵",
        )
    ]
)  # fmt: skip
_TAGS = (
    ("<b>", "</b>"), ("<i>", "</i>"), ("<p>", "</p>"), ("<span>", "</span>"), ('<a href="#">', "</a>"),
    ("", "<br />"), ("", "&nbsp;"), ("<!-- -->", ""),
)  # fmt: skip
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;", " ": "&nbsp;"}
_PIECES = table([*(opening for opening, _ in _TAGS), *(closing for _, closing in _TAGS), *_ENTITIES.values()])
_ADDRESSES = (" https://t.co/{}", " http://www.{}.com", " www.{}.org/index.html", " @{}", " {}@mail.com")
_SIGNS = "abcdefghijklmnopqrstuvwxyz0123456789"


def behind_words(ragged: Ragged, rate: Tensor, key: Tensor) -> tuple[Words, np.ndarray, np.ndarray]:
    """Return the words, those that are hit with chance `rate` (B,), and one more random word for each hit."""
    words = find_words(ragged)
    hit = np.flatnonzero(draws.chance(draws.each(draws.seeds(key), words.first), rate, words.first))
    return words, hit, draws.at(draws.seeds(key, 1)[words.owner[hit]], words.place(hit))


@register("text.emoji_noise", tags={"markup", "label_preserving"})
class EmojiNoise(TextOperator):
    """Put emoji behind words, some of them sequences of several code points.

    rate: chance that one follows a word. They show things and signs, no feelings, so the label stays.
    """

    rate = uniform(0.02, 0.15, identity=0.0, bounds=(0, 1), severity=GRADED)
    where = noise_key()

    def formula(self, texts: list[str], rate: Tensor, where: Tensor) -> list[str]:
        ragged = encode(texts)
        words, hit, luck = behind_words(ragged, rate, where)
        which = draws.below(luck, len(_EMOJI.lengths))
        return decode(replace(ragged, words.end[hit], words.end[hit], words.owner[hit], _EMOJI, which))


@cache
def _entity_rows() -> np.ndarray:
    """Return (65536,) int64: the row of `_PIECES` for a character's entity, -1 where it has none."""
    row = np.full(1 << 16, -1)
    row[[ord(sign) for sign in _ENTITIES]] = 2 * len(_TAGS) + np.arange(len(_ENTITIES))
    return row


@register("text.html_noise", tags={"markup", "label_preserving"})
class HtmlNoise(TextOperator):
    """Leave HTML in the text: tags around words, line breaks, spaces and signs as entities.

    rate: chance that a word gets a tag, and that a space, quote, apostrophe, & < or > is written as an entity. What
    a browser shows stays nearly the same, and so does the label.
    """

    rate = uniform(0.02, 0.15, identity=0.0, bounds=(0, 1), severity=GRADED)
    where = noise_key()
    signs = noise_key()

    def formula(self, texts: list[str], rate: Tensor, where: Tensor, signs: Tensor) -> list[str]:
        ragged = encode(texts)
        words, hit, luck = behind_words(ragged, rate, where)
        which = draws.below(luck, len(_TAGS))
        # tags and entities in one pass, else the signs of a tag would be written as entities
        row = _entity_rows().take(ragged.code, mode="clip")
        lot = draws.chance(draws.each(draws.seeds(signs), ragged.start), rate, ragged.start)
        sign = np.flatnonzero(lot & (row >= 0))
        begin = np.concatenate([words.end[hit], words.begin[hit], sign])
        end = np.concatenate([words.end[hit], words.begin[hit], sign + 1])
        owner = np.concatenate([words.owner[hit], words.owner[hit], ragged.owner(sign)])
        piece = np.concatenate([which + len(_TAGS), which, row[sign]])
        order = np.argsort(begin, kind="stable")  # where a text ends and the next begins, a tag closes, then one opens
        return decode(replace(ragged, begin[order], end[order], owner[order], _PIECES, piece[order]))


@register("text.url_noise", tags={"markup", "label_preserving"})
class UrlNoise(TextOperator):
    """Put web addresses, mentions and e-mail addresses behind words.

    rate: chance that one follows a word. They are made of random letters, so the label stays.
    """

    rate = uniform(0.01, 0.08, identity=0.0, bounds=(0, 1), severity=(0.01, 0.02, 0.05, 0.1, 0.2))
    where = noise_key()

    def formula(self, texts: list[str], rate: Tensor, where: Tensor) -> list[str]:
        ragged = encode(texts)
        words, hit, luck = behind_words(ragged, rate, where)
        pieces = table(address(word) for word in luck.tolist())
        at = words.end[hit]
        return decode(replace(ragged, at, at, words.owner[hit], pieces, np.arange(len(hit))))


def address(word: int) -> str:
    """Return an address made from a 64-bit word."""
    form, word = _ADDRESSES[word % len(_ADDRESSES)], word // len(_ADDRESSES)
    signs = ""
    for _ in range(8):
        word, sign = divmod(word, len(_SIGNS))
        signs += _SIGNS[sign]
    return form.format(signs)
