"""What is no picture, as one: series as curves, texts as lines, tables as cells; what changed stands out.

Legend: C channels, T steps, H x W pixels, B rows, F columns.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

_INK, _PALE, _CHANGED, _PAPER = (28, 32, 38), (176, 182, 190), (190, 30, 45), (255, 255, 255)
_LINE, _FONT = 18, 13
_SERIES_WIDTH, _STRIP = 256, 56
_TEXT_WIDTH = 340
_CELL_GAP = 12
_LEAST_SIDE = 96  # below, a contact sheet would enlarge it


def draw_series(series: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Return (3, H, W) uint8: each channel a curve over the pale one it was before; a gap is a gap.

    Args:
        series, before: (C, T); a curve that leaves the strip, half again as high as `before`, is cut off there.
    """
    from PIL import Image, ImageDraw

    picture = Image.new("RGB", (_SERIES_WIDTH, max(_LEAST_SIDE, _STRIP * len(series))), _PAPER)
    draw = ImageDraw.Draw(picture)
    for channel, (now, then) in enumerate(zip(series, before, strict=True)):
        low, high = float(np.nanmin(then)), float(np.nanmax(then))
        middle, reach = (low + high) / 2, max(high - low, 1e-12) * 0.75
        for values, colour in ((then, _PALE), (now, _INK)):
            down = _STRIP * (channel + 0.5 - np.clip((values - middle) / reach, -1, 1) * 0.48)
            across = np.linspace(0, _SERIES_WIDTH - 1, len(values))
            for run in np.ma.clump_unmasked(np.ma.masked_invalid(down)):
                draw.line([*zip(across[run].tolist(), down[run].tolist(), strict=True)], fill=colour)
    return _array(picture)


def draw_text(text: str, before: str) -> np.ndarray:
    """Return (3, H, W) uint8: the text in lines, red what `before` did not have; <> holds what the font has not."""
    from PIL import Image, ImageDraw

    old, new = (re.findall(r"\s+|\S+", one) for one in (before, text))
    changed = np.ones(len(new), bool)
    for block in difflib.SequenceMatcher(None, old, new, autojunk=False).get_matching_blocks():
        changed[block.b : block.b + block.size] = False
    font, across, row, placed = _font(), 0.0, 0, []
    for word, marked in zip(map(_legible, new), changed, strict=True):
        for piece in _pieces(word, font):
            length = font.getlength(piece)
            if across + length > _TEXT_WIDTH and across > 0:
                across, row = 0.0, row + 1
                if piece.isspace():
                    continue
            placed.append((across, row, piece, _CHANGED if marked else _INK))
            across += length
    picture = Image.new("RGB", (_TEXT_WIDTH, max(_LEAST_SIDE, (row + 1) * _LINE)), _PAPER)
    draw = ImageDraw.Draw(picture)
    for left, row, piece, colour in placed:
        draw.text((left, row * _LINE), piece, fill=colour, font=font)
    return _array(picture)


def draw_table(names: Sequence[Any], cells: Sequence[Sequence[str]], before: Sequence[Sequence[str]]) -> np.ndarray:
    """Return (3, H, W) uint8: a table of B rows and F columns, red the cells that `before` had otherwise."""
    from PIL import Image, ImageDraw

    font = _font()
    columns = [[str(name), *column] for name, column in zip(names, zip(*cells, strict=True), strict=True)]
    widths = [int(max(font.getlength(_legible(cell)) for cell in column)) + _CELL_GAP for column in columns]
    picture = Image.new("RGB", (max(_LEAST_SIDE, sum(widths)), (len(cells) + 1) * _LINE), _PAPER)
    draw = ImageDraw.Draw(picture)
    for f, column in enumerate(columns):
        left = sum(widths[:f])
        for b, cell in enumerate(column):
            colour = _PALE if b == 0 else _INK if before[b - 1][f] == cell else _CHANGED
            draw.text((left, b * _LINE), _legible(cell), fill=colour, font=font)
    return _array(picture)


def of_one_size(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Return (N, 3, H, W): pictures (3, h, w) with paper added at the right and below."""
    height, width = (max(one.shape[axis] for one in pictures) for axis in (1, 2))
    margins = (((0, 0), (0, height - one.shape[1]), (0, width - one.shape[2])) for one in pictures)
    return np.stack(
        [np.pad(one, margin, constant_values=_PAPER[0]) for one, margin in zip(pictures, margins, strict=True)]
    )


@cache
def _font() -> FreeTypeFont:
    from PIL import ImageFont

    return ImageFont.load_default(_FONT)  # type: ignore[return-value]


@cache
def _has_glyph(character: str) -> bool:
    drawn, without = (_font().getmask(one) for one in (character, "\U0010fffe"))
    return bytes(drawn) != bytes(without)  # type: ignore[arg-type]


def _legible(text: str) -> str:
    shown = text.replace("\n", "<a>").replace("\t", " ")
    return "".join(c if c == " " or _has_glyph(c) else f"<{ord(c):x}>" for c in shown)


def _pieces(word: str, font: FreeTypeFont) -> list[str]:
    """Cut a word that is longer than a line."""
    pieces, start = [], 0
    for end in range(1, len(word) + 1):
        if font.getlength(word[start:end]) > _TEXT_WIDTH:
            pieces.append(word[start : end - 1])
            start = end - 1
    return [*pieces, word[start:]]


def _array(picture: Any) -> np.ndarray:
    return np.asarray(picture).transpose(2, 0, 1)
