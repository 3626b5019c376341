"""A DataLoader whose batches are augmented whole, on the device.

Legend: B samples, C channels, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from robustaug.data.keyed import AUTO, Drawable, IndexKey, augment_batch, check_seed, find_image, run, with_entries
from robustaug.ops.layout import check_range


class AugmentedLoader:
    """Drop-in around any DataLoader: the same batches, augmented on `device`.

    `len`, iteration and attributes (dataset, batch_size, sampler, ...) are the loader's. Batches are images;
    sequences that start with them, such as (x, y) or (x, y, index); named tuples or mappings with `image_key`. A
    sample's draw goes by its index if the batch has it, which costs nothing; otherwise by the bytes of its image,
    because the position in a shuffled epoch says nothing about the sample. On CUDA one batch is copied and
    augmented ahead, on a stream of its own.

    >>> import robustaug
    >>> from torch.utils.data import DataLoader
    >>> digits = robustaug.create("data.digits")
    >>> loader = AugmentedLoader(DataLoader(digits, batch_size=100), robustaug.create("image.rotate"))
    >>> len(loader), next(iter(loader)).image.shape
    (10, torch.Size([100, 1, 8, 8]))

    Args:
        loader: a DataLoader, or any iterable of batches.
        pipeline: a Pipeline or an operator.
        device: where batches are moved and augmented; each stays where it is when left out.
        seed: in [0, 2^64).
        progress: show a progress bar over each epoch.
        image_key: key or field of the images.
        index_key: key, field or position of the indices. "auto" takes the key or field "index", or the third of
            three entries if it holds whole numbers; None goes by content.
    """

    def __init__(
        self,
        loader: Iterable[Any],
        pipeline: Drawable,
        device: torch.device | str | None = None,
        seed: int = 0,
        progress: bool = False,
        image_key: str = "image",
        index_key: IndexKey = AUTO,
    ) -> None:
        check_seed(pipeline, seed)
        self.loader, self.pipeline, self.seed, self.progress = loader, pipeline, seed, progress
        self.device = None if device is None else torch.device(device)
        self.image_key, self.index_key = image_key, index_key
        self._next_epoch = 0

    def __len__(self) -> int:
        return len(self.loader)  # type: ignore[arg-type]

    def __getattr__(self, name: str) -> Any:
        if name == "loader":  # not there yet while unpickling
            raise AttributeError(name)
        return getattr(self.loader, name)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration; each iteration advances it by one.

        Raises:
            ValueError: below 0.
        """
        if not isinstance(epoch, int) or epoch < 0:
            raise ValueError(f"epoch must be a whole number >= 0, got {epoch!r}")
        self._next_epoch = epoch

    def __iter__(self) -> Iterator[Any]:
        epoch, self._next_epoch = self._next_epoch, self._next_epoch + 1
        on_cuda = self.device is not None and self.device.type == "cuda"
        ready = self._ahead(epoch) if on_cuda else (self._prepare(batch, epoch) for batch in self._checked())
        return self._shown(ready, epoch) if self.progress else ready

    def _checked(self) -> Iterator[Any]:
        """The loader's batches; the first one's range is checked, the others' would cost a read each."""
        for number, batch in enumerate(self.loader):
            if number == 0:
                check_range(find_image(batch, self.image_key))
            yield batch

    def _prepare(self, batch: Any, epoch: int) -> Any:
        # indices are taken before the move: content is read where the loader left it
        def draw(image: Tensor, index: Tensor) -> Tensor:
            return run(self.pipeline, self._moved(image), index, self.seed, epoch)

        return _map_tensors(augment_batch(batch, draw, self.image_key, self.index_key), self._moved)

    def _moved(self, tensor: Tensor) -> Tensor:
        if self.device is None or tensor.device == self.device:
            return tensor
        if self.device.type == "cuda" and tensor.device.type == "cpu":
            # only a copy from pinned memory returns at once
            return (tensor if tensor.is_pinned() else tensor.pin_memory()).to(self.device, non_blocking=True)
        return tensor.to(self.device)

    def _ahead(self, epoch: int) -> Iterator[Any]:
        """Batches on CUDA, each staged on a side stream while the consumer works on the one before."""
        assert self.device is not None
        side = torch.cuda.Stream(self.device)

        def stage(batch: Any) -> tuple[Any, Any]:
            side.wait_stream(torch.cuda.current_stream(self.device))  # what is on the device already must be whole
            with torch.cuda.stream(side):
                _map_tensors(batch, lambda tensor: _in_use(tensor, side))
                return self._prepare(batch, epoch), side.record_event()

        staged: tuple[Any, Any] | None = None
        for batch in self._checked():
            following = stage(batch)
            if staged is not None:
                yield _handed_over(staged, self.device)
            staged = following
        if staged is not None:
            yield _handed_over(staged, self.device)

    def _shown(self, ready: Iterator[Any], epoch: int) -> Iterator[Any]:
        from rich.progress import Progress

        try:
            total = len(self)
        except TypeError:  # a stream does not know its end
            total = None
        with Progress() as bar:  # closing the generator ends the bar's thread too
            yield from bar.track(ready, total=total, description=f"epoch {epoch}")


def _handed_over(staged: tuple[Any, Any], device: torch.device) -> Any:
    """Let the consumer's stream wait for a staged batch, and keep its memory while that stream uses it."""
    batch, done = staged
    stream = torch.cuda.current_stream(device)
    stream.wait_event(done)
    return _map_tensors(batch, lambda tensor: _in_use(tensor, stream))


def _in_use(tensor: Tensor, stream: torch.cuda.Stream) -> Tensor:
    """Tell the allocator that `stream` reads the tensor too."""
    if tensor.is_cuda:
        tensor.record_stream(stream)
    return tensor


def _map_tensors(item: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """Apply a function to every tensor in nested mappings and sequences; what is no tensor stays."""
    if isinstance(item, Tensor):
        return function(item)
    if isinstance(item, Mapping):
        mapped = {key: _map_tensors(value, function) for key, value in item.items()}
        return with_entries(item, mapped)
    if isinstance(item, tuple) and hasattr(item, "_fields"):
        return type(item)(*(_map_tensors(value, function) for value in item))
    if isinstance(item, (tuple, list)):
        return type(item)([_map_tensors(value, function) for value in item])
    return item
