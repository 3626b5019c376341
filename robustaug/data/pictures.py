"""Pictures without labels, in a folder or a zip: what arrives where a model is in use."""

from __future__ import annotations

from pathlib import Path

import torch

from robustaug.data.archive import FolderPictures, ZipPictures, list_folder, list_zip
from robustaug.data.fingerprint import digest
from robustaug.data.images import Decoded
from robustaug.data.source import Source
from robustaug.registry import register

UNLABELLED = "unlabelled"


@register("data.pictures")
def pictures(
    path: str, *, size: int | None = None, channels: int = 3, cache: bool | None = None, max_damaged: float = 1.0
) -> Source:
    """All pictures in a folder or a zip archive, at any depth, in sorted order; every label is the class "unlabelled".

    Hidden files and those without a picture's suffix are no samples.

    Args:
        path: the folder or the .zip file.
        size: side in px to resize and centre-crop to; needed where sizes differ.
        channels: 1 (grey) or 3 (colour).
        cache: remember decoded pixels; by default if all take less than 1 GB.
        max_damaged: share of damaged samples above which reading stops with an error.

    Raises:
        FileNotFoundError: no such folder or file.
        ValueError: no pictures, a path that leads out of the archive, or another argument refused.
    """
    root = Path(path)
    if not root.exists():
        raise FileNotFoundError(f"data.pictures: nothing at {root}; path names a folder or a .zip file")
    entries = list_folder(root) if root.is_dir() else list_zip(root)
    if not entries:
        raise ValueError(f"{root}: no pictures")
    paths = [entry.path for entry in entries]
    found = FolderPictures(root, paths) if root.is_dir() else ZipPictures(root, paths)
    listing = [f"{entry.path} {entry.size} {entry.crc}" for entry in entries]
    return Source(
        root.name,
        Decoded(found, channels, size, cache),
        torch.zeros(len(entries), dtype=torch.int64),
        [UNLABELLED],
        fingerprint=digest("pictures", *listing, size, channels),
        max_damaged=max_damaged,
    )
