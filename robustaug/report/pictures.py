"""Small pictures inside a page: uint8 arrays to PNG data URIs of bounded size.

Legend: C channels, H x W pixels.
"""

from __future__ import annotations

import base64
import io
from typing import NamedTuple

import numpy as np

PICTURES = 8  # samples shown a scenario: a page must not grow with the data
LONGEST_SIDE = 96  # a page with ninety tiles of a photograph stays within a few megabytes


class Picture(NamedTuple):
    """One tile.

    Attributes:
        src: a PNG as data URI.
        alt: what a reader who does not see it is told.
        note: a short caption under it, may be empty.
    """

    src: str
    alt: str
    note: str = ""


class Strip(NamedTuple):
    """Pictures in a row under a heading; groups of `group` tiles stay together."""

    heading: str
    pictures: list[Picture]
    group: int = 1


def to_pil(image: np.ndarray):
    """Return a PIL image of (C, H, W) uint8: the first three channels as RGB, or the first alone as grey.

    Raises:
        ValueError: not uint8 of shape (C, H, W).
    """
    from PIL import Image

    if image.ndim != 3 or image.dtype != np.uint8 or 0 in image.shape:
        raise ValueError(f"image must be uint8 of shape (C, H, W), got {image.dtype} of shape {tuple(image.shape)}")
    if len(image) >= 3:
        return Image.fromarray(np.ascontiguousarray(image[:3].transpose(1, 2, 0)), "RGB")
    return Image.fromarray(np.ascontiguousarray(image[0]), "L")


def data_uri(image: np.ndarray) -> str:
    """Return (C, H, W) uint8 as a PNG data URI; pictures above 96 px are scaled down, smaller ones stay as they are."""
    picture = to_pil(image)
    if max(picture.size) > LONGEST_SIDE:
        picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def change(before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, float]:
    """Return what changed as uint8 around mid-grey 128, and the factor it is amplified by; factor 0 for no change."""
    difference = after.astype(np.float64) - before.astype(np.float64)
    largest = float(np.abs(difference).max(initial=0.0))
    factor = 127 / largest if largest else 0.0
    return np.round(128 + difference * factor).astype(np.uint8), factor
