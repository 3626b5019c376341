"""Files that are either whole or absent: write aside, flush to disk, rename."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path in the same folder; on success it replaces `path` in one step.

    On any error the temporary file is removed and what stood at `path` is untouched.

    Raises:
        OSError: what the disk said, with the name `path`, which not every library tells.

    >>> with replacing("/tmp/robustaug-doctest.txt") as aside:
    ...     _ = aside.write_text("whole")
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
    os.close(handle)
    aside = Path(name)
    try:
        yield aside
        with aside.open("rb") as written:
            os.fsync(written.fileno())
        aside.chmod(0o666 & ~_umask())  # mkstemp makes files that only their owner may read
        aside.replace(target)
    except (OSError, SafetensorError) as error:  # safetensors raises its own kind, whatever the disk said
        raise OSError(f"{target} cannot be written ({error})") from error
    finally:
        aside.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove what writes that were killed left in `folder` and below; nobody may be writing there."""
    for aside in folder.rglob(".*.part"):
        aside.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write UTF-8 text so that `path` holds all of it or what it held before."""
    with replacing(path) as aside:
        aside.write_text(text, encoding="utf-8")


def sha256_file(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file's content, as hex."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
