"""Labelled series of one length, in one or more channels.

Legend: N series, C channels, T steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robustaug.data.columns import check_columns, read_arrays, read_columns, read_labels, read_numbers
from robustaug.data.fingerprint import as_scales, digest
from robustaug.data.source import Source
from robustaug.data.splits import part_of, parts_of
from robustaug.data.store import Held
from robustaug.ops.signal.series import SERIES
from robustaug.ops.tabular.operator import mean_and_spread
from robustaug.parameters import check_count
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
    values: str | None = None,
    label: str | None = None,
    labels: str | None = None,
    channels: int | None = None,
    standardise: bool = True,
    classes: Sequence[str] | None = None,
    fit: str | None = None,
    val_share: float = 0.1,
    test_share: float = 0.2,
    seed: int = 0,
) -> Source:
    """Series of equal length from .npz, .npy or a table such as .csv; nothing in the file can run code.

    An .npz holds an array of series (N, T) or (N, C, T) and one of labels (N,); an .npy the series alone, with the
    labels in a second one. A row of a table is one series beside its label: T columns, or C times T, channel by
    channel. NaN and empty cells are gaps, which operators keep and models see as the channel's mean.

    Args:
        path: the file.
        split: "train", "val" or "test", disjoint random parts with the classes in proportion; or "all" of the
            series, which then are their own training part unless `fit` is given: not for series to be judged.
        values: name of an .npz's array of series; "x" when left out.
        label: name of an .npz's array of labels, "y" when left out; or a table's column of them, "label".
        labels: the second file, for an .npy.
        channels: C of a table; 1 when left out.
        standardise: bring each channel to mean 0 and standard deviation 1 of the training part.
        classes: names in the order of the labels.
        fit: another .npz or table, read by the same arguments, whose training part counts instead of this one's: for a
            file that holds test series only. Both shares 0 where all of it was trained on.
        val_share, test_share: of all series; 0 leaves the part out.
        seed: of the parts.

    Raises:
        FileNotFoundError: no such file.
        ValueError: series of different lengths, values that are no finite numbers, labels that are missing or not as
            many, a damaged file, an argument for files of another kind, other channels than those of `fit`, or another
            argument refused.
    """
    options = {"values": values, "label": label, "labels": labels, "channels": channels}
    files = [Path(path), *([] if fit is None else [Path(fit)])]
    _check_options(options, {_kind(file) for file in files})
    held, words = _read(files[0], options)
    base, base_words = (held, words) if fit is None else _read(files[1], options | {"labels": None})
    if base.shape[1] != held.shape[1]:
        raise ValueError(f"{path}: has {held.shape[1]} channels, but {fit} has {base.shape[1]}; fit another file")
    base_labels, names = read_labels(fit or path, base_words, classes, *_origin(files[-1], label))
    numbers = base_labels if fit is None else read_labels(path, words, names, *_origin(files[0], label))[0]
    shares = (0.0, 0.0) if fit is None and split == "all" else (val_share, test_share)
    training = base[parts_of("data.series", base_labels, names, *shares, seed)["train"]]
    mean, spread = mean_and_spread(training.mT.flatten(0, 1))  # of (N T, C)
    level, spread = mean[:, None], torch.where(spread > 0, spread, 1.0)[:, None]
    encoding = digest("series", standardise, as_scales(level, spread))
    if standardise:
        held, level = (held - level) / spread, torch.zeros_like(level)
    name, fill = files[0].name, FilledGaps(level.float())
    whole = Source(
        name,
        Held(held.float(), SERIES, tuple(held.shape[1:]), name, fill, encoding),
        numbers,
        names,
        fingerprint=digest("series", held.float(), level, numbers, names),
    )
    return part_of(whole, "data.series", split, val_share, test_share, seed)


_FOR = {"values": (".npz",), "label": (".npz", "table"), "labels": (".npy",), "channels": ("table",)}


def _kind(file: Path) -> str:
    return suffix if (suffix := file.suffix.lower()) in (".npz", ".npy") else "table"


def _origin(file: Path, label: str | None) -> tuple[str, str]:
    """Return where a file's labels are, for messages."""
    return (label or "label", "column") if _kind(file) == "table" else (label or "y", "array")


def _check_options(options: Mapping[str, Any], kinds: set[str]) -> None:
    for key, value in options.items():
        if value is not None and not kinds & {*_FOR[key]}:
            raise ValueError(
                f"data.series: {key} is for {' and '.join(_FOR[key])} files, path is of kind {min(kinds)}; leave it out"
            )


def _read(file: Path, options: Mapping[str, Any]) -> tuple[Tensor, list[str]]:
    """Return series (N, C, T) and the words of their labels."""
    kind, label = _kind(file), options["label"]
    if kind == ".npz":
        raw, told = read_arrays(file, (options["values"] or "x", label or "y"))
    elif kind == ".npy":
        if options["labels"] is None:
            raise ValueError(
                f"{file}: an .npy holds series alone; labels=... names the .npy of their labels, and as fit an .npz is "
                "needed, which holds both"
            )
        [raw], [told] = read_arrays(file), read_arrays(Path(options["labels"]))
    else:
        raw, told = _of_table(file, label or "label", 1 if options["channels"] is None else options["channels"])
    held = _checked(str(file), raw)
    if told.shape != (len(held),):
        raise ValueError(f"{file}: labels must have shape ({len(held)},), one a series, got {told.shape}")
    return held, [_word(value) for value in told.tolist()]


def _of_table(file: Path, label: str, channels: int) -> tuple[np.ndarray, np.ndarray]:
    columns = read_columns(file)
    check_columns(str(file), columns, (label,))
    told = np.array(columns.pop(label))
    check_count("data.series", "channels", channels)
    if len(columns) % channels:
        raise ValueError(f"{file}: channels must divide its {len(columns)} columns of values, got {channels!r}")
    rows = np.empty((len(told), len(columns)))
    for at, (name, cells) in enumerate(columns.items()):
        rows[:, at] = read_numbers(str(file), name, [cell.strip() for cell in cells], ("",), "; a gap is empty")
    return rows.reshape(len(told), channels, -1), told


def _checked(where: str, raw: np.ndarray) -> Tensor:
    if raw.dtype.kind not in "fiu" or raw.ndim not in (2, 3) or 0 in raw.shape:
        raise ValueError(
            f"{where}: series must be one array of numbers (N, T) or (N, C, T), got {raw.dtype} of shape {raw.shape}"
        )
    held = torch.from_numpy(raw.astype(np.float64))
    held = held if held.ndim == 3 else held[:, None]
    wrong = held.isinf().nonzero()
    if len(wrong):
        row, channel, step = (wrong[0] + 1).tolist()
        raise ValueError(f"{where}: series {row} is infinite at step {step} of channel {channel}; a gap is NaN")
    return held


def _word(value: Any) -> str:
    """Return a label as text; whole numbers stored as floats as whole numbers."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
