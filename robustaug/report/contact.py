"""A contact sheet: rows of small images with labels, as one PNG."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from robustaug import atomic
from robustaug.report.pictures import to_pil

_TILE, _GAP, _MARGIN, _FONT, _SMALL_FONT = 96, 8, 16, 16, 12
_PAPER, _INK = (255, 255, 255), (28, 32, 38)


def contact_sheet(
    originals: np.ndarray,
    rows: Sequence[tuple[str, np.ndarray]],
    path: str | Path,
    scale: int | None = None,
) -> Path:
    """Write a labelled grid of images as PNG: one column an image, the originals first, then one line a row.

    Images are enlarged by whole factors without smoothing, so a pixel stays a pixel.

    Args:
        originals: (N, C, H, W) uint8; three or more channels show the first three as RGB, fewer the first as grey.
        rows: (label, images) with images of the same N; sizes may differ from the originals'.
        path: the file to write; it is whole or absent.
        scale: enlargement, >= 1; left out, the smallest that makes a tile at least 96 px on its longer side.

    Returns:
        `path`.

    Raises:
        ValueError: wrong dtype or shape, differing N, or scale < 1.
    """
    from PIL import Image, ImageDraw, ImageFont

    lines = [("original", np.asarray(originals)), *((label, np.asarray(images)) for label, images in rows)]
    for label, images in lines:
        if images.ndim != 4 or images.dtype != np.uint8 or 0 in images.shape:
            raise ValueError(
                f"{label!r} must be uint8 of shape (N, C, H, W), got {images.dtype} of shape {images.shape}"
            )
        if len(images) != len(lines[0][1]):
            raise ValueError(f"{label!r} has {len(images)} images; the originals are {len(lines[0][1])}")
    if scale is not None and scale < 1:
        raise ValueError(f"scale must be >= 1, got {scale}")

    height, width = (max(images.shape[axis] for _, images in lines) for axis in (2, 3))
    scale = scale or max(1, -(-_TILE // max(height, width)))
    tile_height, tile_width = height * scale, width * scale
    font = ImageFont.load_default(_FONT)
    gutter = int(max(font.getlength(label) for label, _ in lines)) + 2 * _MARGIN
    columns = len(lines[0][1])
    sheet = Image.new(
        "RGB",
        (
            gutter + columns * (tile_width + _GAP) - _GAP + _MARGIN,
            # a label needs its line even where tiles are a few pixels high
            2 * _MARGIN + len(lines) * (max(tile_height, _FONT + 4) + _GAP) - _GAP,
        ),
        _PAPER,
    )
    draw = ImageDraw.Draw(sheet)
    top = _MARGIN
    for label, images in lines:
        draw.text((_MARGIN, top + max(tile_height, _FONT + 4) // 2), label, fill=_INK, font=font, anchor="lm")
        for column, image in enumerate(images):
            picture = to_pil(image)
            picture = picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)
            sheet.paste(picture, (gutter + column * (tile_width + _GAP), top))
        top += max(tile_height, _FONT + 4) + _GAP
    with atomic.replacing(path) as aside:
        sheet.save(aside, "PNG", optimize=True)
    return Path(path)


def gallery(pictures: Sequence[tuple[str, np.ndarray]], path: str | Path, columns: int = 8) -> Path:
    """Write labelled pictures as one PNG, row by row, each in a cell as large as the first picture.

    Args:
        pictures: (label, image), images (C, H, W) uint8; one larger than the first is shrunk into its cell.
        path: the file to write; it is whole or absent.
        columns: pictures a row.
    """
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(_SMALL_FONT)
    height, width = pictures[0][1].shape[1:]
    labels = [_in_lines(label, width, font.getlength) for label, _ in pictures]
    cell, line = width + 2 * _GAP, height + max(map(len, labels)) * (_SMALL_FONT + 2) + 2 * _GAP
    lines = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (2 * _MARGIN + columns * cell - _GAP, 2 * _MARGIN + lines * line - _GAP), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for place, (label, (_, image)) in enumerate(zip(labels, pictures, strict=True)):
        left, top = _MARGIN + place % columns * cell, _MARGIN + place // columns * line
        picture = to_pil(image)
        picture.thumbnail((width, height))
        sheet.paste(picture, (left, top))
        for row, text in enumerate(label):
            draw.text((left, top + height + 2 + row * (_SMALL_FONT + 2)), text, fill=_INK, font=font)
    with atomic.replacing(path) as aside:
        sheet.save(aside, "PNG", optimize=True)
    return Path(path)


def _in_lines(label: str, width: int, length: Callable[[str], float]) -> list[str]:
    """Break a name behind points and underscores where it would be wider than `width`."""
    lines = [""]
    for part in re.findall(r"[^._]+[._]?", label):
        if lines[-1] and length(lines[-1] + part) > width:
            lines.append("")
        lines[-1] += part
    return lines
