"""What all plugs share: find the images and indices of a batch, draw by them, and put the result back.

Legend: B samples, C channels, H rows, W columns.
"""

from __future__ import annotations

import copy
import zlib
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from robustaug.data.decode import to_pixels
from robustaug.data.source import Damaged
from robustaug.ops.layout import check_layout
from robustaug.ops.operator import Operator, Params
from robustaug.rng import Keys

IndexKey = str | int | None
AUTO = "auto"


class Drawable(Protocol):
    """A pipeline or an operator: draws parameters, then applies them."""

    def sample(self, keys: Keys) -> Params: ...

    def apply(self, image: Tensor, params: Params) -> Tensor: ...


class Epoch:
    """An epoch number in shared memory: setting it reaches workers that live already."""

    def __init__(self) -> None:
        self._number = torch.zeros((), dtype=torch.int64).share_memory_()

    def get(self) -> int:
        return int(self._number)

    def set(self, epoch: int) -> None:
        """Set the number.

        Raises:
            ValueError: below 0, or not whole.
        """
        if not isinstance(epoch, int) or epoch < 0:
            raise ValueError(f"epoch must be a whole number >= 0, got {epoch!r}")
        self._number.fill_(epoch)


def check_seed(pipeline: Any, seed: int) -> None:
    """Refuse what cannot be drawn from, when the plug is made and not in a worker later on.

    Raises:
        TypeError: no pipeline or operator.
        ValueError: seed out of range.
    """
    if not callable(getattr(pipeline, "sample", None)) or not callable(getattr(pipeline, "apply", None)):
        raise TypeError(
            f"pipeline must be a Pipeline or an operator, got {type(pipeline).__name__}; "
            "robustaug.Pipeline([...]) makes one from a list"
        )
    Keys.of(seed, 0)


def run(pipeline: Drawable, image: Tensor, index: Tensor, seed: int, epoch: int) -> Tensor:
    """Augment a batch.

    Args:
        image: (B, C, H, W); uint8, or floating in [0, 1].
        index: (B,) int64, what each sample's draw goes by.

    Raises:
        Exception: whatever an operator raises, with a note that names the operator.
    """
    try:
        keys = Keys.of(seed, index, epoch).to(getattr(pipeline, "draws_on", image.device))
        return pipeline.apply(image, pipeline.sample(keys))
    except Exception as error:
        name = _failing_operator(error) or getattr(pipeline, "name", "") or type(pipeline).__name__
        error.add_note(f"in operator {name!r}, on images of shape {tuple(image.shape)} and dtype {image.dtype}")
        raise


def content_index(image: Tensor) -> Tensor:
    """Return (B,) int64 from the bytes of each image (B, C, H, W): the same image, the same number, anywhere.

    CRC-32: two different images in four billion share a number, which only makes them share a draw.
    """
    rows = image.detach().cpu().contiguous().reshape(len(image), -1).view(torch.uint8).numpy()
    return torch.tensor([zlib.crc32(row) for row in rows], dtype=torch.int64)


def to_chw(image: Any) -> Tensor:
    """Return one image as a (C, H, W) tensor.

    Args:
        image: a tensor, returned as it is; a Pillow picture, to uint8 with 1 channel if it is grey, else 3; or an
            array (H, W) or (H, W, C): uint8 stays, floating in [0, 1] becomes float32.

    Raises:
        TypeError: anything else.
    """
    if isinstance(image, Tensor):
        return image
    if hasattr(image, "convert") and hasattr(image, "getbands"):
        return to_pixels(image, 1 if image.mode in ("1", "L", "LA") or image.mode.startswith("I;16") else 3)
    if isinstance(image, np.ndarray) and image.ndim in (2, 3) and (image.dtype == np.uint8 or image.dtype.kind == "f"):
        array = image[:, :, None] if image.ndim == 2 else image
        dtype = np.uint8 if image.dtype == np.uint8 else np.float32
        return torch.from_numpy(np.ascontiguousarray(array.transpose(2, 0, 1), dtype=dtype))
    found = f"{image.dtype} array of shape {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
    raise TypeError(
        f"image must be a tensor, a Pillow picture, or an (H, W) or (H, W, C) array of uint8 or floats, got {found}"
    )


def find_image(item: Any, image_key: str) -> Any:
    """Return the image of a sample or the images of a batch.

    Raises:
        ValueError: a damaged sample, or a mapping without `image_key`.
        TypeError: not an image, a mapping or a sequence that starts with one.
    """
    if isinstance(item, Damaged):
        message = f"{item.path} is damaged ({item.reason}); source.readable() leaves such samples out"
        raise ValueError(message)  # noqa: TRY004 (the type is right, the file is not)
    if isinstance(item, Mapping):
        if image_key not in item:
            raise ValueError(f"no key {image_key!r} in the sample, it has {[*item]}; set image_key=...")
        return item[image_key]
    if isinstance(item, (tuple, list)):
        if not item:
            raise TypeError("a sample must start with its image, got an empty sequence")
        return getattr(item, image_key) if image_key in getattr(item, "_fields", ()) else item[0]
    return item


def with_image(item: Any, image_key: str, image: Any) -> Any:
    """Return a copy of a sample or batch with its image exchanged; the container stays of its type."""
    if isinstance(item, Mapping):
        return with_entries(item, {image_key: image})
    fields = getattr(item, "_fields", None)
    if fields is not None:
        return item._replace(**{image_key if image_key in fields else fields[0]: image})
    if isinstance(item, (tuple, list)):
        return type(item)([image, *item[1:]])
    return image


def with_entries(mapping: Mapping[Any, Any], entries: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """Return a copy of a mapping with some entries exchanged, of the same type if that can be changed."""
    if not isinstance(mapping, MutableMapping):
        return {**mapping, **entries}
    copied = copy.copy(mapping)
    copied.update(entries)
    return copied


def find_index(item: Any, index_key: IndexKey) -> Any:
    """Return the sample index or indices that a sample or batch carries, None if it has none.

    "auto" takes the key or field "index", or the third of exactly three entries if that holds whole numbers.

    Raises:
        ValueError: an `index_key` that is not there.
    """
    if index_key is None:
        return None
    fields = getattr(item, "_fields", ())
    if index_key == AUTO:
        if isinstance(item, Mapping):
            return item.get("index")
        if "index" in fields:
            return item.index
        third = item[2] if isinstance(item, (tuple, list)) and not fields and len(item) == 3 else None
        return third if _are_indices(third) else None
    try:
        return getattr(item, str(index_key)) if index_key in fields else item[index_key]
    except (KeyError, IndexError, TypeError):
        raise ValueError(f"no index under index_key={index_key!r} in a batch of type {type(item).__name__}") from None


def batch_index(batch: Any, image: Tensor, index_key: IndexKey) -> Tensor:
    """Return (B,) int64, what the draws of a batch go by: its own indices, or the content of its images.

    Raises:
        ValueError: indices of another length; or found by "auto" as the third entry, and not distinct.
    """
    found = find_index(batch, index_key)
    if found is None:
        return content_index(image)
    index = torch.as_tensor(found)
    if tuple(index.shape) != (len(image),) or index.is_floating_point():
        raise ValueError(
            f"sample indices must be {len(image)} whole numbers, got {index.dtype} of shape {tuple(index.shape)}; "
            "index_key=None draws by content"
        )
    guessed = index_key == AUTO and isinstance(batch, (tuple, list)) and not hasattr(batch, "_fields")
    if guessed and len(index.unique()) < len(index):
        raise ValueError(
            "the third entry of the batch repeats numbers, so it may be no sample index; "
            "index_key=2 says it is, index_key=None draws by content"
        )
    return index.to(torch.int64)


def augment_batch(batch: Any, draw: Callable[[Tensor, Tensor], Tensor], image_key: str, index_key: IndexKey) -> Any:
    """Return the batch with `draw(images, indices)` in place of its images (B, C, H, W)."""
    image = find_image(batch, image_key)
    check_layout(image)
    if image.ndim != 4:
        raise ValueError(f"a batch of images must have shape (B, C, H, W), got {tuple(image.shape)}")
    return with_image(batch, image_key, draw(image, batch_index(batch, image, index_key)))


def _are_indices(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.dtype == torch.int64 and value.ndim <= 1
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _failing_operator(error: Exception) -> str | None:
    """The innermost operator on the way to where the error was raised."""
    name, trace = None, error.__traceback__
    while trace is not None:
        owner = trace.tb_frame.f_locals.get("self")
        name = owner.name if isinstance(owner, Operator) and owner.name else name
        trace = trace.tb_next
    return name
