"""Plugs that put a pipeline where data is loaded: around a data set, as a collate_fn, a transform, or a loader.

A sample's draw depends on (seed, epoch, sample) alone. Where an index is at hand it stands for the sample; else
the bytes of the image do, so that the same image gets the same draw whatever the batch size, order or worker (and
identical copies of an image get the same draw).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from robustaug.data.keyed import (
    AUTO,
    Drawable,
    Epoch,
    IndexKey,
    augment_batch,
    check_seed,
    content_index,
    find_image,
    find_index,
    run,
    to_chw,
    with_image,
)
from robustaug.data.loader import AugmentedLoader

__all__ = ["AugmentedCollate", "AugmentedDataset", "AugmentedLoader", "AugmentedTransform"]


class _Plug:
    """A pipeline, a seed, and an epoch that reaches persistent workers."""

    def __init__(self, pipeline: Drawable, seed: int) -> None:
        check_seed(pipeline, seed)
        self.pipeline, self.seed = pipeline, seed
        self._epoch = Epoch()

    def set_epoch(self, epoch: int) -> None:
        """Use other draws from the next batch on; call it before iterating, as with DistributedSampler.

        Raises:
            ValueError: below 0.
        """
        self._epoch.set(epoch)

    def _draw(self, image: Tensor, index: Tensor) -> Tensor:
        return run(self.pipeline, image, index, self.seed, self._epoch.get())


class AugmentedDataset(_Plug, Dataset[Any]):
    """A map-style data set whose images are augmented one by one, in the worker that loads them.

    >>> import robustaug
    >>> digits = robustaug.create("data.digits")
    >>> AugmentedDataset(digits, robustaug.create("image.gaussian_noise"))[0].image.shape
    torch.Size([1, 8, 8])

    Args:
        dataset: samples are tuples that start with the image, named tuples or mappings with `image_key`, or images.
            Images are (C, H, W) tensors, Pillow pictures or (H, W, C) arrays; see `keyed.to_chw`.
        pipeline: a Pipeline or an operator.
        seed: in [0, 2^64).
        image_key: key or field of the image.
        index_key: key, field or position of a sample's own index. "auto" takes the key or field "index", or the
            third of three entries if it is a whole number. A sample without one goes by its position; so does
            every sample with None.
    """

    def __init__(
        self,
        dataset: Any,
        pipeline: Drawable,
        seed: int = 0,
        image_key: str = "image",
        index_key: IndexKey = AUTO,
    ) -> None:
        super().__init__(pipeline, seed)
        self.dataset, self.image_key, self.index_key = dataset, image_key, index_key

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, position: int) -> Any:
        item = self.dataset[position]
        image = to_chw(find_image(item, self.image_key))
        own = find_index(item, self.index_key)
        index = position % len(self.dataset) if own is None else int(own)
        return with_image(item, self.image_key, self._draw(image[None], torch.tensor([index]))[0])


class AugmentedCollate(_Plug):
    """A collate_fn that augments whole batches in the worker.

    Draws go by the batch's indices if it has them, as in `AugmentedLoader`; otherwise by the content of its images.

    Args:
        pipeline: a Pipeline or an operator.
        seed: in [0, 2^64).
        collate_fn: makes the batch; torch's default when left out, which then also takes Pillow pictures and arrays.
        image_key: key or field of the images.
        index_key: key, field or position of the indices; "auto" as in `AugmentedDataset`; None goes by content.
    """

    def __init__(
        self,
        pipeline: Drawable,
        seed: int = 0,
        collate_fn: Callable[[Any], Any] | None = None,
        image_key: str = "image",
        index_key: IndexKey = AUTO,
    ) -> None:
        super().__init__(pipeline, seed)
        self.collate_fn, self.image_key, self.index_key = collate_fn, image_key, index_key

    def __call__(self, items: Sequence[Any]) -> Any:
        if self.collate_fn is None:
            tensors = (with_image(item, self.image_key, to_chw(find_image(item, self.image_key))) for item in items)
            batch = default_collate([*tensors])
        else:
            batch = self.collate_fn(items)
        return augment_batch(batch, self._draw, self.image_key, self.index_key)


class AugmentedTransform(_Plug):
    """A `transform=` for data sets in torchvision's manner: one image in, one out; draws go by its content.

    >>> import robustaug, torch
    >>> transform = AugmentedTransform(robustaug.create("image.brightness"))
    >>> transform(torch.zeros(3, 4, 4, dtype=torch.uint8)).shape
    torch.Size([3, 4, 4])

    Args:
        pipeline: a Pipeline or an operator.
        seed: in [0, 2^64).
    """

    def __init__(self, pipeline: Drawable, seed: int = 0) -> None:
        super().__init__(pipeline, seed)

    def __call__(self, image: Any) -> Tensor:
        batch = to_chw(image)[None]
        return self._draw(batch, content_index(batch))[0]
