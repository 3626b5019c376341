"""Where a source's samples are, whatever they are; images have more ways, see `images`.

Legend: N samples, n of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from robustaug.ops.layout import Layout


class Store(Protocol):
    """Samples by row. Implementations can be pickled, so that workers may be forked or spawned."""

    @property
    def shape(self) -> tuple[int, ...]:
        """What every sample has in common as a tensor; () for texts."""
        ...

    def __len__(self) -> int: ...

    def gather(self, rows: Tensor) -> tuple[Any, dict[int, str]]:
        """Return n samples as their layout's operators take them, and {position in rows: reason} of unreadable ones."""
        ...

    def path(self, row: int) -> str:
        """Return what a person would look for: a file, an archive member, a row."""
        ...


@dataclass(frozen=True)
class Held:
    """Samples in memory.

    Attributes:
        samples: N texts as a list, N series (N, C, T), or a `Table` of N rows.
        layout: of the samples.
        shape: as models take them.
        name: shown in paths.
        encode: from samples to what models take: a tensor, or texts.
        encoding: hex that tells ways to encode apart; empty where nothing was measured for it.
    """

    samples: Any
    layout: Layout
    shape: tuple[int, ...]
    name: str
    encode: Callable[[Any], Any]
    encoding: str = ""

    def __len__(self) -> int:
        return len(self.samples)

    def gather(self, rows: Tensor) -> tuple[Any, dict[int, str]]:
        return self.layout.pick(self.samples, rows), {}

    def path(self, row: int) -> str:
        return f"{self.name}#{row}"
