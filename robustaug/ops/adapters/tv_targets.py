"""Samples of torchvision's detection and segmentation: one image and the tv_tensors that belong to it.

Legend: N boxes or points, M masks, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as tv

from robustaug.ops.operator import Operator
from robustaug.ops.targets import carry_boxes, read_masks
from robustaug.rng import Keys

_INDICES = 1 << 31


def travel(operator: Operator, sample: Any) -> Any:
    """Return the sample, of the same form, after the operator; draws come from torch's generator.

    Raises:
        TypeError: no tv_tensors.Image, or more than one.
        ValueError: rotated boxes, which have no place in `Targets`.
    """
    leaves = [*_leaves(sample)]
    images = [leaf for leaf in leaves if isinstance(leaf, tv_tensors.Image)]
    if len(images) != 1:
        raise TypeError(
            f"robustaug takes a tensor, or a sample with one tv_tensors.Image, got {len(images)} images in a "
            f"{type(sample).__name__}; put v2.ToImage() before it"
        )
    plain = images[0].as_subclass(Tensor)[None]
    operator.layout.check(plain)
    params = operator.sample(Keys.of(0, torch.randint(_INDICES, (1,))).to(plain.device))
    before, after = (plain.shape[-2], plain.shape[-1]), operator.size_after(plain.shape[-2:])

    def moved(leaf: Any) -> Any:
        if isinstance(leaf, tv_tensors.Image):
            return tv_tensors.Image(operator.apply(plain, params)[0])
        if isinstance(leaf, tv_tensors.Mask):
            return tv_tensors.Mask(read_masks(leaf.as_subclass(Tensor)[None], operator, before, params)[0])
        if isinstance(leaf, tv_tensors.BoundingBoxes):
            corners = _corners(leaf).as_subclass(Tensor)
            there = carry_boxes(corners[None], operator, before, params)[0]
            made = _boxes(_as(there, corners), after)
            return tv.convert_bounding_box_format(tv.clamp_bounding_boxes(made), new_format=leaf.format)
        if isinstance(leaf, tv_tensors.KeyPoints):
            points = leaf.as_subclass(Tensor)
            there = operator.carry(points.reshape(1, -1, 2).to(torch.float64), before, params)
            return tv_tensors.KeyPoints(_as(there.reshape(points.shape), points), canvas_size=after)  # type: ignore[call-overload]
        return leaf

    return _mapped(sample, moved)


def _corners(boxes: tv_tensors.BoundingBoxes) -> Tensor:
    if tv_tensors.is_rotated_bounding_format(boxes.format):
        raise ValueError(f"rotated boxes ({boxes.format}) cannot be followed; convert them to XYXY first")
    return tv.convert_bounding_box_format(boxes, new_format=tv_tensors.BoundingBoxFormat.XYXY)


def _boxes(corners: Tensor, size: tuple[int, int]) -> Any:
    form = {"format": tv_tensors.BoundingBoxFormat.XYXY, "canvas_size": size}
    return tv_tensors.BoundingBoxes(corners, **form)  # type: ignore[call-overload]


def _as(moved: Tensor, like: Tensor) -> Tensor:
    return (moved if like.is_floating_point() else moved.round()).to(like.dtype)


def _leaves(sample: Any) -> Any:
    if isinstance(sample, Mapping):
        for value in sample.values():
            yield from _leaves(value)
    elif isinstance(sample, (tuple, list)):
        for value in sample:
            yield from _leaves(value)
    else:
        yield sample


def _mapped(sample: Any, change: Any) -> Any:
    if isinstance(sample, Mapping):
        return {key: _mapped(value, change) for key, value in sample.items()}
    if isinstance(sample, tuple) and hasattr(sample, "_fields"):
        return type(sample)(*(_mapped(value, change) for value in sample))
    if isinstance(sample, (tuple, list)):
        return type(sample)(_mapped(value, change) for value in sample)
    return change(sample)
