"""Patches of two real photographs that ship inside scikit-learn: foreign data without a download."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image

from robustaug.data.decode import check_form, to_pixels
from robustaug.data.fingerprint import digest
from robustaug.data.images import InMemory
from robustaug.data.source import Source
from robustaug.parameters import check_count
from robustaug.registry import register
from robustaug.rng import Keys


@register("data.photos")
def photos(size: int = 32, channels: int = 3, n: int = 500, seed: int = 0) -> Source:
    """Square patches of two photographs, a Chinese temple and a flower, at random places and scales.

    Sample i shows photo i mod 2 and is the same for any n. A patch is cut from a square of `size` px up to the photo's
    whole height, each side as likely, and shrunk.

    Args:
        size: side of a patch, px, at most 427.
        channels: 1 (grey) or 3 (colour).
        n: patches.
        seed: places and scales follow from it.

    Raises:
        ValueError: an argument out of range.
    """
    check_form(size, channels)
    check_count("data.photos", "n", n)
    from sklearn.datasets import load_sample_images

    data: Any = load_sample_images()
    pictures = [Image.fromarray(array) for array in data.images]
    least = min(min(picture.size) for picture in pictures)
    if size > least:
        raise ValueError(f"data.photos: size must be <= {least}, the height of the photographs, got {size}")
    draws = Keys.of(seed, n).fold("photos").uniform(3).double().numpy()
    pixels = torch.stack([_patch(pictures[i % 2], size, channels, draws[i]) for i in range(n)])
    labels = torch.arange(n) % 2
    return Source(
        "photos",
        InMemory(pixels, "photos"),
        labels,
        [name.removesuffix(".jpg").rpartition("/")[2] for name in data.filenames],
        fingerprint=digest("photos", pixels, labels),
    )


def _patch(picture: Image.Image, size: int, channels: int, draw: np.ndarray) -> torch.Tensor:
    width, height = picture.size
    side = size + int(draw[0] * (min(width, height) - size + 1))
    left, top = int(draw[1] * (width - side + 1)), int(draw[2] * (height - side + 1))
    return to_pixels(picture.crop((left, top, left + side, top + side)), channels, size)
