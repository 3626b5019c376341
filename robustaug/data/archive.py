"""Picture files by name, in a folder or straight out of a zip archive; no name leads out of either."""

from __future__ import annotations

import os
import posixpath
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from robustaug.data.decode import MAX_FILE_BYTES, SUFFIXES, UnreadableError, decode


class Entry(NamedTuple):
    """One file: its path inside, with forward slashes, its size in bytes, and its CRC-32 where one is stored."""

    path: str
    size: int
    crc: int = 0


class FolderPictures:
    """Pictures that are files under one folder."""

    def __init__(self, folder: Path, paths: Sequence[str]) -> None:
        self.folder, self.paths = folder, [*paths]

    def __len__(self) -> int:
        return len(self.paths)

    def path(self, row: int) -> str:
        return str(self.folder / self.paths[row])

    def picture(self, row: int) -> Image.Image:
        path = self.folder / self.paths[row]
        if not path.is_file():
            raise UnreadableError("missing file")
        _check_size(path.stat().st_size)
        return decode(path.read_bytes())


class ZipPictures:
    """Pictures that are members of a zip archive, read without unpacking it."""

    def __init__(self, archive: Path, paths: Sequence[str]) -> None:
        self.archive, self.paths = archive, [*paths]
        self._open: tuple[int, zipfile.ZipFile] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_open": None}

    def __len__(self) -> int:
        return len(self.paths)

    def path(self, row: int) -> str:
        return f"{self.archive}/{self.paths[row]}"

    def picture(self, row: int) -> Image.Image:
        # a forked worker must open its own: a shared file has one shared position
        if self._open is None or self._open[0] != os.getpid():
            self._open = (os.getpid(), zipfile.ZipFile(self.archive))
        member = self._open[1].getinfo(self.paths[row])
        _check_size(member.file_size)
        try:
            return decode(self._open[1].read(member))  # reads no more than file_size, and checks the CRC
        except zipfile.BadZipFile as error:
            raise UnreadableError(f"damaged in the archive: {error}") from None


def list_folder(folder: Path) -> list[Entry]:
    """Return the picture files under `folder`, sorted; hidden ones are passed over."""
    found: list[Entry] = []
    for parent, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        base = Path(parent)
        for name in files:
            if is_picture(name):
                path = base / name
                size = path.stat().st_size if path.exists() else 0  # a dangling link is damaged, not fatal
                found.append(Entry(path.relative_to(folder).as_posix(), size))
    return sorted(found)


def list_zip(archive: Path) -> list[Entry]:
    """Return the picture members of a zip archive, sorted; hidden ones are passed over.

    Raises:
        ValueError: not a zip archive, or a member whose path leads out of it.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            members = opened.infolist()
    except zipfile.BadZipFile as error:
        raise ValueError(f"{archive} is not a readable zip archive: {error}") from None
    for member in members:
        if leads_out(member.filename):
            raise ValueError(f"{archive}: member {member.filename!r} leads out of the archive; refused")
    files = (m for m in members if not m.is_dir() and is_picture(m.filename) and "__MACOSX/" not in m.filename)
    return sorted(Entry(m.filename, m.file_size, m.CRC) for m in files)


def is_picture(name: str) -> bool:
    """Whether the last part of a path has a picture's suffix and is not hidden."""
    last = posixpath.basename(name)
    return not last.startswith(".") and posixpath.splitext(last)[1].lower() in SUFFIXES


def leads_out(path: str) -> bool:
    """Whether a relative path is absolute after all, on any system, or climbs above where it starts.

    >>> [leads_out(path) for path in ("a/b.png", "a/../b.png", "../b.png", "/b.png", r"C:\\b.png")]
    [False, False, True, True, True]
    """
    plain = path.replace("\\", "/")
    return plain.startswith("/") or bool(re.match("[A-Za-z]:", plain)) or posixpath.normpath(plain).startswith("..")


def _check_size(size: int) -> None:
    if size > MAX_FILE_BYTES:
        raise UnreadableError(f"{size:,} bytes is more than a picture may have ({MAX_FILE_BYTES:,})")
