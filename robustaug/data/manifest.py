"""A table of paths and labels; its other columns are cohorts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from robustaug.data.archive import FolderPictures, leads_out
from robustaug.data.columns import check_columns, cohorts_of, read_columns, read_labels
from robustaug.data.delimited import place
from robustaug.data.fingerprint import digest
from robustaug.data.images import Decoded
from robustaug.data.source import Source
from robustaug.registry import register


@register("data.manifest")
def manifest(
    path: str,
    *,
    root: str | None = None,
    size: int | None = None,
    channels: int = 3,
    classes: Sequence[str] | None = None,
    cohorts: Sequence[str] | None = None,
    cache: bool | None = None,
    max_damaged: float = 0.05,
) -> Source:
    """A CSV or Parquet table with columns path and label; every other column is a cohort.

    Labels are names, sorted unless `classes` gives their order; or, where all are whole numbers that are no names
    in `classes`, the numbers of the classes. A numeric column with more than 20 values is cut into quarters. Files
    that are missing are quarantined.

    Args:
        path: the .csv (UTF-8, with header) or .parquet file.
        root: folder the paths start from; the manifest's own when left out. No path may lead out of it.
        size: side in px to resize and centre-crop to; needed where sizes differ.
        channels: 1 (grey) or 3 (colour).
        classes: class names in the order of the labels.
        cohorts: the metadata columns to keep; all when left out.
        cache: remember decoded pixels; by default if all take less than 1 GB.
        max_damaged: share of damaged samples above which reading stops with an error.

    Raises:
        FileNotFoundError: no such table or root.
        ValueError: a column is missing, the table is empty or malformed, a row's path or label is refused, or a path
            stands in two rows.
    """
    table = Path(path)
    if not table.is_file():
        raise FileNotFoundError(f"data.manifest: no file at {table}; path names a .csv or .parquet table")
    base = table.parent if root is None else Path(root)
    if not base.is_dir():
        raise FileNotFoundError(f"data.manifest: root {base} is no folder")
    columns = read_columns(table)
    check_columns(str(table), columns, ("path", "label", *(cohorts or ())))
    paths = columns["path"]
    if not paths:
        raise ValueError(f"{table}: no rows")
    _check_paths(table, base, paths)
    labels, names = read_labels(str(table), columns["label"], classes)
    kept = [column for column in columns if column not in ("path", "label")] if cohorts is None else cohorts
    metadata = cohorts_of(columns, kept)
    pictures = FolderPictures(base, [name.strip() for name in paths])
    sizes = [file.stat().st_size if (file := base / name).is_file() else -1 for name in pictures.paths]
    return Source(
        table.name,
        Decoded(pictures, channels, size, cache),
        labels,
        names,
        fingerprint=digest("manifest", *paths, sizes, labels, names, size, channels),
        cohorts=metadata,
        max_damaged=max_damaged,
    )


def _check_paths(table: Path, base: Path, paths: Sequence[str]) -> None:
    """Refuse a path that leads elsewhere, and one that stands twice: parts of the data would share its picture."""
    seen: dict[PurePosixPath, int] = {}
    for row, name in enumerate(paths):
        if not name.strip() or leads_out(name):
            raise ValueError(
                f"{table}: {place(row, 'path')} reads {name!r}, which must be a relative path inside {base}; "
                "root=... sets another folder"
            )
        first = seen.setdefault(PurePosixPath(name.strip()), row)
        if first != row:
            raise ValueError(f"{table}: {place(row, 'path')} reads {name!r}, as in row {first + 1}; keep one of them")
