"""Where a source's pixels are: in memory, or decoded when they are asked for and remembered.

Legend: N pictures, C channels, H rows, W columns.
"""

from __future__ import annotations

import mmap
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from robustaug.data.decode import UnreadableError, check_form, to_pixels

CACHE_LIMIT_BYTES = 1_000_000_000
_PROBES = 16

Shape = tuple[int, int, int]


class Images(Protocol):
    """Pixels by row. Implementations can be pickled, so that workers may be forked or spawned."""

    @property
    def shape(self) -> Shape:
        """(C, H, W) of every picture."""
        ...

    def __len__(self) -> int: ...

    def gather(self, rows: Tensor) -> tuple[Tensor, dict[int, str]]:
        """Return (n, C, H, W) uint8 for n rows, and {position in rows: reason} for those that cannot be read."""
        ...

    def path(self, row: int) -> str:
        """Return what a person would look for: a file, an archive member, a row."""
        ...


def as_unit(image: Tensor) -> Tensor:
    """Return uint8 images as float32 in [0, 1], floating ones as they are."""
    return image.to(torch.float32) / 255 if image.dtype == torch.uint8 else image


class Pictures(Protocol):
    """Encoded pictures by row: a folder, an archive, someone else's data set."""

    def __len__(self) -> int: ...

    def picture(self, row: int) -> Image.Image:
        """Open and decode one; may raise anything."""
        ...

    def path(self, row: int) -> str: ...


class InMemory:
    """Pixels held as one tensor.

    Args:
        pixels: (N, C, H, W) uint8.
        name: shown in paths.
    """

    def __init__(self, pixels: Tensor, name: str) -> None:
        self.pixels, self.name = pixels, name

    @property
    def shape(self) -> Shape:
        channels, height, width = self.pixels.shape[1:]
        return channels, height, width

    def __len__(self) -> int:
        return len(self.pixels)

    def gather(self, rows: Tensor) -> tuple[Tensor, dict[int, str]]:
        return self.pixels[rows], {}

    def path(self, row: int) -> str:
        return f"{self.name}#{row}"


class Decoded:
    """Pictures decoded on demand, brought to one shape, and remembered if they fit.

    Args:
        pictures: where they come from.
        channels: 1 or 3.
        size: side in pixels to resize and crop to; without it all must have the size that most of them have.
        cache: whether to remember decoded pixels; by default if all of them take less than 1 GB. The memory is
            shared with forked workers, so the second epoch decodes nothing; a spawned worker has no cache.

    Raises:
        ValueError: size or channels refused, or none of the pictures looked at first can be read.
    """

    def __init__(self, pictures: Pictures, channels: int, size: int | None, cache: bool | None = None) -> None:
        check_form(size, channels)
        self.pictures, self.channels, self.size = pictures, channels, size
        self.shape: Shape = (channels, size, size) if size is not None else _common_shape(pictures, channels)
        if cache is None:
            cache = len(pictures) * int(np.prod(self.shape)) < CACHE_LIMIT_BYTES
        self.cache = _Cache.of(len(pictures), self.shape) if cache else None

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"cache": None}  # anonymous shared memory reaches forks only

    def __len__(self) -> int:
        return len(self.pictures)

    def path(self, row: int) -> str:
        return self.pictures.path(row)

    def gather(self, rows: Tensor) -> tuple[Tensor, dict[int, str]]:
        if self.cache is None:
            pixels = torch.zeros((len(rows), *self.shape), dtype=torch.uint8)
            return pixels, self._decode(rows, range(len(rows)), pixels.__setitem__)
        cache = self.cache
        missing = (cache.filled[rows] == 0).nonzero()[:, 0].tolist()
        reasons = self._decode(rows, missing, lambda at, picture: cache.store(int(rows[at]), picture))
        return cache.pixels[rows], reasons

    def _decode(self, rows: Tensor, positions: Sequence[int], keep: Callable[[int, Tensor], None]) -> dict[int, str]:
        reasons: dict[int, str] = {}
        for at in positions:
            try:
                pixels = to_pixels(self.pictures.picture(int(rows[at])), self.channels, self.size)
                if tuple(pixels.shape) != self.shape:
                    found, common = (f"{w}x{h}" for _, h, w in (pixels.shape, self.shape))
                    raise UnreadableError(f"is {found} pixels, the others {common}; size=... resizes them all")
                keep(at, pixels)
            except UnreadableError as error:
                reasons[at] = str(error)
            except Exception as error:  # whatever one file does, the others must come through
                reasons[at] = f"{type(error).__name__}: {error}"
        return reasons


class _Cache(NamedTuple):
    """Pixels (N, C, H, W) and whether each is there (N,), both uint8 in memory that forks share.

    Two workers may store the same picture: they write the same bytes.
    """

    pixels: Tensor
    filled: Tensor

    @classmethod
    def of(cls, n: int, shape: Shape) -> _Cache:
        # not torch's shared memory: that lives in /dev/shm, which containers keep small
        sizes = ((n, *shape), (n,))
        return cls(*(torch.from_numpy(np.ndarray(s, np.uint8, mmap.mmap(-1, int(np.prod(s))))) for s in sizes))

    def store(self, row: int, picture: Tensor) -> None:
        self.pixels[row] = picture
        self.filled[row] = 1


def _common_shape(pictures: Pictures, channels: int) -> Shape:
    """The shape most of a few evenly spaced pictures have."""
    found: Counter[Shape] = Counter()
    reason = ""
    for row in np.unique(np.linspace(0, len(pictures) - 1, _PROBES).astype(int)).tolist():
        try:
            width, height = pictures.picture(row).size
            found[channels, height, width] += 1
        except Exception as error:  # damaged ones are quarantined when they are read
            reason = reason or f"{pictures.path(row)}: {error}"
    if not found:
        raise ValueError(f"none of the pictures looked at can be read; the first is {reason}")
    return found.most_common(1)[0][0]
