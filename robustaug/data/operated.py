"""Images of which some went through an operator, whenever they are read.

Legend: N samples.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from robustaug.data.images import Images, Shape
from robustaug.pipeline import Pipeline
from robustaug.rng import Keys


@dataclass(frozen=True)
class Operated:
    """Images of which some went through an operator.

    Attributes:
        name: of the source, for messages.
        of: the images as they were.
        there: (N,) bool, which ones.
        pipeline: what they go through.
        seed: of its draws, one a row.

    Raises:
        ValueError: the operator changes the images' shape.
    """

    name: str
    of: Images
    there: Tensor
    pipeline: Pipeline
    seed: int

    def __post_init__(self) -> None:
        size = self.pipeline.size_after(self.shape[1:])
        if size != self.shape[1:]:
            raise ValueError(f"{self.name}: the operator makes images of {self.shape[1:]} {size}; it must keep them")

    @property
    def shape(self) -> Shape:
        return self.of.shape

    def __len__(self) -> int:
        return len(self.of)

    def path(self, row: int) -> str:
        return self.of.path(row)

    def gather(self, rows: Tensor) -> tuple[Tensor, dict[int, str]]:
        pixels, reasons = self.of.gather(rows)
        chosen = self.there[rows].nonzero()[:, 0]
        if len(chosen):
            keys = Keys.of(self.seed, rows[chosen]).fold("operator")
            pixels = pixels.index_copy(0, chosen, self.pipeline.apply(pixels[chosen], self.pipeline.sample(keys)))
        return pixels, reasons
