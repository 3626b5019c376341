"""Sources of labelled samples: one face for all of them, and the one way to read them in batches.

Samples are images, or else texts, rows of a table or series: what `Source.layout` says.

Legend: N samples, B samples of a batch, C channels, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from robustaug.data.fingerprint import digest
from robustaug.data.images import as_unit
from robustaug.data.quarantine import Damaged, Quarantine
from robustaug.data.store import Store
from robustaug.ops.layout import IMAGES, Layout
from robustaug.parameters import check_share

__all__ = ["Batch", "Damaged", "Quarantine", "Sample", "Source", "batches", "read"]


class Sample(NamedTuple):
    """One readable sample: image (C, H, W) uint8, label, and index in the root source.

    Of other layouts `image` is a str, a series (C, T) or a `Table` of one row.
    """

    image: Any
    label: int
    index: int


class Batch(NamedTuple):
    """Readable samples.

    Attributes:
        image: (B, C, H, W) uint8; of other layouts a list of B str, series (B, C, T) or a `Table` of B rows.
        label: (B,) int64.
        index: (B,) int64, indices in the root source: what random keys and records go by.
        position: (B,) int64, positions in the source that was read.
    """

    image: Any
    label: Tensor
    index: Tensor
    position: Tensor


class Source(Dataset[Any]):
    """Labelled samples, images most of all; also a map-style data set that torch's DataLoader reads.

    >>> import robustaug
    >>> source = robustaug.create("data.digits", split="test")
    >>> len(source), source.shape, source[0].label == int(source.labels[0])
    (500, (1, 8, 8), True)

    Args:
        name: for messages and reports.
        images: where the samples are: pixels, or a `store.Held` of another layout.
        labels: (N,) whole numbers in [0, number of classes).
        classes: names, in the order of the labels.
        fingerprint: hex of a SHA-256 over what the source holds; see `fingerprint.digest`.
        cohorts: metadata by column, (N,) values each, kept as text; "class" is added.
        max_damaged: the share of samples that may be damaged before reading stops with an error; a single damaged
            sample is let pass at any share above 0.

    Raises:
        ValueError: no samples, labels out of range, lengths that differ, or max_damaged outside [0, 1].
    """

    def __init__(
        self,
        name: str,
        images: Store,
        labels: Tensor | Sequence[int],
        classes: Sequence[str],
        *,
        fingerprint: str,
        cohorts: Mapping[str, Sequence[Any] | np.ndarray] | None = None,
        max_damaged: float = 0.05,
    ) -> None:
        n = len(images)
        if n == 0:
            raise ValueError(f"{name}: no samples")
        self.labels = _checked_labels(name, torch.as_tensor(labels), classes, n)
        check_share(name, "max_damaged", max_damaged)
        self.name, self.images, self.classes = name, images, [str(c) for c in classes]
        self.fingerprint, self.max_damaged = fingerprint, float(max_damaged)
        self.cohorts = _text_columns(name, cohorts or {}, self.classes, self.labels)
        self.sample_index = torch.arange(n)
        self.quarantine = Quarantine()

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W) of every image, (C, T) of every series, (F,) of a row as models take it, () of texts."""
        return self.images.shape

    @property
    def layout(self) -> Layout:
        """What kind of data the samples are, as operators know it."""
        return getattr(self.images, "layout", IMAGES)

    @property
    def encoding(self) -> str:
        """Hex that tells apart by which means, spreads and categories samples become inputs; empty where by none."""
        return getattr(self.images, "encoding", "")

    def check_images(self, name: str) -> None:
        """Refuse samples of another kind, for what works on pixels.

        Raises:
            ValueError: names both.
        """
        if self.layout is not IMAGES:
            raise ValueError(f"{name} is for images, {self.name} holds samples of kind {self.layout.name!r}")

    def as_input(self, samples: Any, device: torch.device) -> Any:
        """Return samples of this source, changed by operators or not, as models take them.

        Returns:
            uint8 images as float32 in [0, 1] and floating ones as they are; series with gaps filled; rows of a table
            as numbers; all of them on the device. Texts as they are.
        """
        if self.layout is IMAGES:
            return as_unit(samples.to(device))
        encoded = self.images.encode(samples)  # type: ignore[attr-defined]
        return encoded.to(device) if isinstance(encoded, Tensor) else encoded

    def __len__(self) -> int:
        return len(self.sample_index)

    def __repr__(self) -> str:
        return f"<Source {self.name}: {len(self)} samples, {len(self.classes)} classes, {self.shape}>"

    def __getitem__(self, position: int) -> Sample | Damaged:
        if not -len(self) <= position < len(self):
            raise IndexError(f"{self.name} has {len(self)} samples, got position {position}")
        batch, damaged = self.fetch([position % len(self)])
        if damaged:
            return damaged[0]
        image = self.layout.pick(batch.image, torch.tensor([0])) if self.layout.name == "tabular" else batch.image[0]
        return Sample(image, int(batch.label[0]), int(batch.index[0]))

    def fetch(self, positions: Sequence[int]) -> tuple[Batch, list[Damaged]]:
        """Read the samples at `positions`, those that cannot be read kept apart."""
        rows = torch.as_tensor(positions, dtype=torch.int64)
        index = self.sample_index[rows]
        image, reasons = self.images.gather(index)
        damaged = [Damaged(int(index[at]), self.images.path(int(index[at])), reasons[at]) for at in sorted(reasons)]
        batch = Batch(image, self.labels[rows], index, rows)
        if damaged:
            keep = torch.tensor([at for at in range(len(rows)) if at not in reasons], dtype=torch.int64)
            batch = Batch(self.layout.pick(batch.image, keep), *(part[keep] for part in batch[1:]))
        return batch, damaged

    def subset(self, indices: Sequence[int] | Tensor, name: str | None = None) -> Source:
        """Return the samples at these positions, in this order; they keep their indices in the root source.

        Raises:
            ValueError: no position, one out of range, or one given twice.
        """
        rows = torch.as_tensor(indices, dtype=torch.int64)
        _check_positions(self, rows)
        if len(rows) == 0 or len(rows.unique()) != len(rows):
            raise ValueError(f"{self.name}: a subset needs at least one position and none twice, got {len(rows)}")
        part = object.__new__(type(self))
        vars(part).update(vars(self))
        part.name = name or self.name
        part.labels, part.sample_index = self.labels[rows], self.sample_index[rows]
        part.cohorts = {column: values[rows.numpy()] for column, values in self.cohorts.items()}
        part.fingerprint = digest(self.fingerprint, rows)
        return part

    def changed(
        self,
        name: str,
        *how: Any,
        images: Store | None = None,
        labels: Tensor | None = None,
        cohorts: Mapping[str, Sequence[Any] | np.ndarray] | None = None,
    ) -> Source:
        """Return the same samples with other pixels, other labels or further metadata.

        Args:
            name: of the result.
            how: texts, numbers and tensors that tell what changed apart, for the fingerprint.
            images: of every sample of the root source, in its order and of the same shape.
            labels: (N,) whole numbers in [0, number of classes).
            cohorts: (N,) values each, besides those there are.

        Raises:
            ValueError: lengths that differ, or labels out of range.
        """
        made = object.__new__(type(self))
        vars(made).update(vars(self))
        made.name, made.fingerprint = name, digest(self.fingerprint, *how)
        if images is not None:
            made.images = images
        if labels is not None:
            made.labels = _checked_labels(name, labels, self.classes, len(self))
        made.cohorts = _text_columns(name, {**self.cohorts, **(cohorts or {})}, self.classes, made.labels)
        return made

    def readable(self, workers: int = 0) -> Source:
        """Read every sample once and return those that can be read; the others are in `quarantine`.

        For code that hands the source to a plain DataLoader, whose collate knows nothing of damaged samples.

        Raises:
            ValueError: more than `max_damaged` of the samples are damaged.
        """
        kept = torch.cat([batch.position for batch in batches(self, 64, workers=workers)])
        return self if len(kept) == len(self) else self.subset(kept)

    def note(self, damaged: Sequence[Damaged], found: dict[int, Damaged]) -> None:
        """Add damaged samples of a batch to the quarantine, and to those that one reading has found so far.

        Raises:
            ValueError: these are more than `max_damaged` allows.
        """
        if damaged:
            found.update((row.index, row) for row in damaged)
            self.quarantine.add(damaged)
            self.check_damage(found)

    def check_damage(self, damaged: Mapping[int, Damaged]) -> None:
        """Refuse to go on when more samples are damaged than `max_damaged` allows."""
        allowed = max(int(self.max_damaged * len(self)), int(self.max_damaged > 0))
        if len(damaged) > allowed or len(damaged) == len(self):
            shown = "; ".join(f"{row.path} ({row.reason})" for row in [*damaged.values()][:3])
            raise ValueError(
                f"{self.name}: {len(damaged)} of {len(self)} samples are damaged, max_damaged={self.max_damaged:g} "
                f"allows {allowed}: {shown}; repair or remove them, or raise max_damaged"
            )


def batches(
    source: Source, batch_size: int, order: Tensor | Sequence[int] | None = None, workers: int = 0
) -> Iterator[Batch]:
    """Read a source in batches; damaged samples are left out and added to its quarantine.

    The batches are the same for any number of workers, and torch's global random state is not touched.

    Args:
        batch_size: positions read at a time; a batch is smaller where samples are damaged, and left out where all are.
        order: positions in the source; all of them, ascending, when left out.
        workers: processes that read ahead; 0 reads in this one.

    Raises:
        ValueError: batch_size or workers out of range, a position that does not exist, or, while reading, more
            damaged samples than `source.max_damaged` allows.
        RuntimeError: a worker died.
    """
    if workers < 0:
        raise ValueError(f"workers must be >= 0, got {workers!r}")
    chunks = chunked(source, batch_size, order)
    return (batch for batch in read(source, chunks, workers) if len(batch.label))


def chunked(source: Source, batch_size: int, order: Tensor | Sequence[int] | None = None) -> list[list[int]]:
    """Return the positions of each batch that `batches` reads.

    Raises:
        ValueError: batch_size out of range, or a position that does not exist.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be >= 1, got {batch_size!r}")
    positions = torch.arange(len(source)) if order is None else torch.as_tensor(order, dtype=torch.int64)
    _check_positions(source, positions)
    return [chunk.tolist() for chunk in positions.split(batch_size) if len(chunk)]


def read(source: Source, chunks: Sequence[Sequence[int]], workers: int = 0) -> Iterator[Batch]:
    """Read the samples at each chunk of positions as one batch; as `batches`, but a batch may be empty."""
    # a generator of its own: DataLoader would otherwise draw its workers' seed from torch's global one
    loader = DataLoader(
        _Chunks(source),
        batch_size=None,
        sampler=chunks,
        collate_fn=_unchanged,
        num_workers=workers,
        generator=torch.Generator(),
    )
    found: dict[int, Damaged] = {}
    for batch, damaged in _received(loader):
        source.note(damaged, found)
        yield batch


def _received(loader: DataLoader[Any]) -> Iterator[Any]:
    items = iter(loader)
    while True:
        try:
            item = next(items)
        except StopIteration:
            return
        except (ConnectionError, EOFError) as error:
            raise RuntimeError(f"DataLoader worker ended while it sent a batch ({error})") from error
        yield item


class _Chunks(Dataset[tuple[Batch, list[Damaged]]]):
    """A data set whose items are read a whole batch at a time."""

    def __init__(self, source: Source) -> None:
        self.source = source

    def __getitem__(self, positions: Any) -> tuple[Batch, list[Damaged]]:
        return self.source.fetch(positions)


def _unchanged(item: Any) -> Any:
    return item


def _check_positions(source: Source, positions: Tensor) -> None:
    if positions.ndim != 1:
        raise ValueError(f"{source.name}: positions must have shape (N,), got {tuple(positions.shape)}")
    if len(positions) and not (positions.min() >= 0 and positions.max() < len(source)):
        wrong = int(positions[(positions < 0) | (positions >= len(source))][0])
        raise ValueError(f"{source.name} has {len(source)} samples, got position {wrong}")


def _text_columns(
    name: str, cohorts: Mapping[str, Sequence[Any] | np.ndarray], classes: list[str], labels: Tensor
) -> dict[str, np.ndarray]:
    """Return every column as text, and "class"."""
    columns = {**cohorts, "class": np.array(classes)[labels.numpy()]}
    for column, values in columns.items():
        if len(values) != len(labels):
            raise ValueError(f"{name}: cohort {column!r} has {len(values)} values for {len(labels)} samples")
    return {column: np.array([str(value) for value in values]) for column, values in columns.items()}


def _checked_labels(name: str, labels: Tensor, classes: Sequence[str], n: int) -> Tensor:
    if tuple(labels.shape) != (n,) or labels.is_floating_point() or labels.dtype == torch.bool:
        raise ValueError(f"{name}: labels must be {n} whole numbers, got {labels.dtype} of shape {tuple(labels.shape)}")
    if len(set(classes)) != len(classes):
        raise ValueError(f"{name}: class names must differ, got {[*classes]}")
    wrong = ((labels < 0) | (labels >= len(classes))).nonzero()[:, 0]
    if len(wrong):
        raise ValueError(
            f"{name}: labels must be in [0, {len(classes)}) for {len(classes)} classes, "
            f"got {int(labels[wrong[0]])} at sample {int(wrong[0])}"
        )
    return labels.to(torch.int64)
