"""Files to pixels: decode foreign bytes with care, and bring pictures to one shape.

Legend: C channels, H rows, W columns.
"""

from __future__ import annotations

import io
import warnings

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm"})
MAX_FILE_BYTES = 1 << 28
# Pillow knows many more, some of which start other programs (EPS runs Ghostscript) on whatever the file holds.
_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM")


class UnreadableError(Exception):
    """One picture cannot be used; the message says why."""


def check_form(size: int | None, channels: int) -> None:
    """Refuse a size below 1 or channels other than 1 and 3.

    Raises:
        ValueError: one of the two; the message names it.
    """
    if size is not None and (not isinstance(size, int) or isinstance(size, bool) or size < 1):
        raise ValueError(f"size must be a whole number of pixels >= 1, got {size!r}")
    if channels not in (1, 3):
        raise ValueError(f"channels must be 1 (grey) or 3 (colour), got {channels!r}")


def decode(content: bytes) -> Image.Image:
    """Decode a whole picture, turned as its EXIF orientation says.

    Raises:
        UnreadableError: empty, not a picture of a known format, cut short, or more pixels than Pillow's limit
            (`PIL.Image.MAX_IMAGE_PIXELS`): a small file may unpack to gigabytes.
    """
    if not content:
        raise UnreadableError("empty file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            picture = Image.open(io.BytesIO(content), formats=_FORMATS)
        picture.load()
        return ImageOps.exif_transpose(picture)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise UnreadableError(f"too many pixels: {error}") from None
    except Image.UnidentifiedImageError:
        raise UnreadableError(f"not a picture of a known format ({', '.join(_FORMATS)})") from None
    except Exception as error:  # a decoder may raise anything on damaged bytes
        raise UnreadableError(f"cannot be decoded: {error or type(error).__name__}") from None


def to_pixels(picture: Image.Image, channels: int, size: int | None = None) -> Tensor:
    """Return a picture as (channels, H, W) uint8.

    Alpha is dropped, 16-bit grey is scaled to 8 bits. With `size`, the centred square is resized to (size, size)
    with antialiasing.

    Raises:
        UnreadableError: floating or 32-bit pixels, whose range nothing declares.
    """
    if picture.mode.startswith("I;16"):
        picture = Image.fromarray(((np.asarray(picture).astype(np.uint32) + 128) // 257).astype(np.uint8))
    elif picture.mode in ("F", "I"):
        raise UnreadableError(f"pixels of mode {picture.mode!r} have no declared range; save as 8 or 16 bits")
    picture = picture.convert("L" if channels == 1 else "RGB")
    if size is not None and picture.size != (size, size):
        side = min(picture.size)
        left, top = ((extent - side) / 2 for extent in picture.size)
        box = (left, top, left + side, top + side)
        picture = picture.resize((size, size), Image.Resampling.BILINEAR, box=box)
    array = np.array(picture)
    return torch.from_numpy(array[None] if channels == 1 else array.transpose(2, 0, 1).copy())
