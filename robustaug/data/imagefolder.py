"""A folder of class folders, or a zip of one, read in place."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from robustaug.data.archive import Entry, FolderPictures, ZipPictures, list_folder, list_zip
from robustaug.data.fingerprint import digest
from robustaug.data.images import Decoded
from robustaug.data.source import Source
from robustaug.data.splits import hold_out, limit
from robustaug.registry import did_you_mean, register

_VALIDATION = ("val", "valid", "validation")
_SPLITS = frozenset({"train", "test", *_VALIDATION})


@register("data.imagefolder")
def imagefolder(
    path: str,
    split: str | None = None,
    *,
    size: int | None = None,
    channels: int = 3,
    val_share: float = 0.1,
    limit_per_class: int | None = None,
    classes: Sequence[str] | None = None,
    cache: bool | None = None,
    max_damaged: float = 0.05,
) -> Source:
    """A folder of class folders (`cat/1.jpg`), or a zip archive of one, read without unpacking.

    Files are numbered in sorted order. Those without a picture's suffix, hidden ones, and files outside a class
    folder are no samples. A single folder around everything is looked through. Where split folders stand above the
    class folders (`train/cat/1.jpg`), `split` picks one. Without a folder for validation, "train" and "val" are
    disjoint random parts of what there is to train on, the same everywhere.

    Args:
        path: the folder or the .zip file.
        split: a split folder, or "train" or "val" as above; everything when left out.
        size: side in px to resize and centre-crop to; needed where sizes differ.
        channels: 1 (grey) or 3 (colour).
        val_share: share of each class in the "val" part, between 0 and 1; 0 leaves nothing out of "train".
        limit_per_class: at most this many random samples of each class.
        classes: names in the order of the labels; sorted folder names when left out.
        cache: remember decoded pixels; by default if all take less than 1 GB.
        max_damaged: share of damaged samples above which reading stops with an error.

    Raises:
        FileNotFoundError: no such folder or file.
        ValueError: no pictures, unknown split or class, a path that leads out of the archive, or another argument
            refused.
    """
    root = Path(path)
    if not root.exists():
        raise FileNotFoundError(f"data.imagefolder: nothing at {root}; path names a folder or a .zip file")
    entries = list_folder(root) if root.is_dir() else list_zip(root)
    folders = _split_folders(str(root), entries)
    names = _class_names(str(root), folders, classes)
    chosen, part = _choose(str(root), folders, split, val_share)
    samples = folders[chosen]

    paths = [entry.path for entry, _ in samples]
    pictures = FolderPictures(root, paths) if root.is_dir() else ZipPictures(root, paths)
    labels = torch.tensor([names.index(name) for _, name in samples])
    listing = [f"{entry.path} {entry.size} {entry.crc}" for entry, _ in samples]
    source = Source(
        f"{root.name}/{split}" if split else root.name,
        Decoded(pictures, channels, size, cache),
        labels,
        names,
        fingerprint=digest("imagefolder", *listing, labels, names, size, channels),
        max_damaged=max_damaged,
    )
    if part is not None:
        source = source.subset(hold_out("data.imagefolder", source.labels, names, val_share)[part])
    if limit_per_class is not None:
        source = source.subset(limit(source.labels, names, limit_per_class))
    return source


Listing = list[tuple[Entry, str]]
"""Files with the name of their class."""


def _split_folders(root: str, entries: list[Entry]) -> dict[str, Listing]:
    """Sort files under split folders, or under "" where there are none."""
    placed = [(entry, entry.path.split("/")[:-1]) for entry in entries]
    placed = [(entry, folders) for entry, folders in placed if folders]
    if not placed:
        raise ValueError(f"{root}: no pictures in class folders; expected files such as cat/1.jpg")
    while all(len(folders) > 1 for _, folders in placed):
        tops = {folders[0] for _, folders in placed}
        if tops <= _SPLITS:
            return {top: [(entry, f[1]) for entry, f in placed if f[0] == top] for top in sorted(tops)}
        if len(tops) > 1:
            break
        placed = [(entry, folders[1:]) for entry, folders in placed]
    return {"": [(entry, folders[0]) for entry, folders in placed]}


def _class_names(root: str, folders: dict[str, Listing], given: Sequence[str] | None) -> list[str]:
    # over all splits: a class that one split lacks must not shift the labels of the others
    found = sorted({name for listing in folders.values() for _, name in listing})
    if given is None:
        return found
    for name in found:
        if name not in given:
            raise ValueError(f"{root}: class folder {name!r} is not in classes={[*given]}{did_you_mean(name, given)}")
    return [*given]


def _choose(root: str, folders: dict[str, Listing], split: str | None, val_share: float) -> tuple[str, int | None]:
    """Return the split folder to read, and 0 or 1 for its kept or held-out part, None for all of it."""
    if split is None:
        if len(folders) > 1:
            raise ValueError(f"{root} has splits {[*folders]}; choose one with split=...")
        return next(iter(folders)), None
    named = next((name for name in folders if name == split or {name, split} <= {*_VALIDATION}), None)
    has_validation = any(name in _VALIDATION for name in folders)
    if named is not None and (split != "train" or has_validation or val_share == 0):
        return named, None
    base = "train" if "train" in folders else ""
    if split not in ("train", "val") or has_validation or base not in folders:
        known = sorted({*folders} - {""} | ({"train", "val"} if base in folders and not has_validation else set()))
        raise ValueError(f"{root} has no split {split!r}{did_you_mean(split, known)}; splits: {known}")
    if split == "train" and val_share == 0:
        return base, None
    return base, 0 if split == "train" else 1
