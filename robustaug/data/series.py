"""Labelled series of one length, in one or more channels.

Legend: N series, C channels, T steps.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robustaug.data.columns import check_columns, read_columns, read_labels
from robustaug.data.fingerprint import digest
from robustaug.data.source import Source
from robustaug.data.splits import choose, parts_of
from robustaug.data.store import Held
from robustaug.ops.signal.series import SERIES
from robustaug.registry import register


@dataclass(frozen=True)
class FilledGaps:
    """Series as models take them: a gap reads as the training mean of its channel, which is `level` (C, 1)."""

    level: Tensor

    def __call__(self, series: Tensor) -> Tensor:
        level = self.level.to(series)
        return torch.where(series.isnan(), level, series)


@register("data.series")
def series(
    path: str,
    split: str = "all",
    *,
    values: str = "x",
    label: str | None = None,
    labels: str | None = None,
    channels: int = 1,
    standardise: bool = True,
    classes: Sequence[str] | None = None,
    val_share: float = 0.1,
    test_share: float = 0.2,
    seed: int = 0,
) -> Source:
    """Series of equal length from .npz, .npy or .csv; nothing in the file can run code.

    An .npz holds an array of series (N, T) or (N, C, T) and one of labels (N,); an .npy the series alone, with the
    labels in a second one. A row of a .csv is one series beside its label: T columns, or C times T, channel by channel.
    NaN and empty cells are gaps, which operators keep and models see as the channel's mean.

    Args:
        path: the file.
        split: "train", "val" or "test", disjoint random parts with the classes in proportion; or "all".
        values, label: names of an .npz's arrays, "y" is the usual label; of a .csv the label's column, usually "label".
        labels: the second file, for an .npy.
        channels: C, for a .csv.
        standardise: bring each channel to mean 0 and standard deviation 1 of the training part.
        classes: names in the order of the labels.
        val_share, test_share: of all series; 0 leaves the part out.
        seed: of the parts.

    Raises:
        FileNotFoundError: no such file.
        ValueError: series of different lengths, values that are no finite numbers, labels that are missing or not as
            many, a damaged file, or another argument refused.
    """
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"data.series: no file at {file}; path names an .npz, .npy or .csv")
    if file.suffix == ".npz":
        raw, told = _of_npz(file, values, label or "y")
    elif file.suffix == ".npy":
        if labels is None:
            raise ValueError(f"{file}: an .npy holds series alone; labels=... names the .npy of their labels")
        raw, told = _array(file), _array(Path(labels))
    else:
        raw, told = _of_table(file, label or "label", channels)
    held = _checked(str(file), raw)
    if told.shape != (len(held),):
        raise ValueError(f"{file}: labels must have shape ({len(held)},), one a series, got {told.shape}")
    numbers, names = read_labels(str(file), [_word(value) for value in told.tolist()], classes)
    parts = {} if split == "all" else parts_of("data.series", numbers, names, val_share, test_share, seed)
    training = held[parts["train"]] if parts else held
    level = training.nanmean(dim=(0, 2)).nan_to_num(0.0)[:, None]
    if standardise:
        spread = (training - level).square().nanmean(dim=(0, 2)).nan_to_num(0.0).sqrt()[:, None]
        held, level = (held - level) / torch.where(spread > 0, spread, 1.0), torch.zeros_like(level)
    whole = Source(
        file.name,
        Held(held.float(), SERIES, tuple(held.shape[1:]), file.name, FilledGaps(level.float())),
        numbers,
        names,
        fingerprint=digest("series", held.float(), level, numbers, names),
    )
    return whole if split == "all" else whole.subset(choose("data.series", parts, split), f"{file.name}/{split}")


def _array(file: Path) -> np.ndarray:
    if not file.is_file():
        raise FileNotFoundError(f"data.series: no file at {file}")
    try:
        return np.load(file, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise _refused(file, error) from None


def _of_npz(file: Path, values: str, label: str) -> tuple[np.ndarray, np.ndarray]:
    try:
        with np.load(file, allow_pickle=False) as arrays:
            check_columns(str(file), [*arrays.files], (values, label))
            return arrays[values], arrays[label]
    except (EOFError, OSError, zipfile.BadZipFile) as error:
        raise _refused(file, error) from None
    except ValueError as error:
        raise (_refused(file, error) if "allow_pickle" in str(error) else error) from None


def _refused(file: Path, error: Exception) -> ValueError:
    if "Object arrays" in str(error):
        return ValueError(f"{file}: holds Python objects, as series of different lengths do; store one array (N, C, T)")
    return ValueError(f"{file} is damaged or no NumPy file")


def _of_table(file: Path, label: str, channels: int) -> tuple[np.ndarray, np.ndarray]:
    columns = read_columns(file)
    check_columns(str(file), columns, (label,))
    told = np.array(columns.pop(label))
    if isinstance(channels, bool) or not isinstance(channels, int) or channels < 1 or len(columns) % channels:
        raise ValueError(f"{file}: channels must divide its {len(columns)} columns of values, got {channels!r}")
    rows = np.empty((len(told), len(columns)))
    for at, (name, cells) in enumerate(columns.items()):
        for row, cell in enumerate(cells):
            try:
                rows[row, at] = float(cell) if cell.strip() else np.nan
            except ValueError:
                raise ValueError(f"{file}: row {row + 1}: column {name!r} reads {cell!r}, which is no number") from None
    return rows.reshape(len(told), channels, -1), told


def _checked(where: str, raw: np.ndarray) -> Tensor:
    if raw.dtype.kind not in "fiu" or raw.ndim not in (2, 3) or 0 in raw.shape:
        raise ValueError(
            f"{where}: series must be one array of numbers (N, T) or (N, C, T), got {raw.dtype} of shape {raw.shape}"
        )
    held = torch.from_numpy(raw.astype(np.float64))
    held = held if held.ndim == 3 else held[:, None]
    wrong = held.isinf().flatten(1).any(1).nonzero()[:, 0]
    if len(wrong):
        raise ValueError(f"{where}: series {int(wrong[0]) + 1} holds infinite values; a gap is NaN")
    return held


def _word(value: Any) -> str:
    """Return a label as text; whole numbers stored as floats as whole numbers."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
