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
from robustaug.ops.targets import Targets, draw_with_targets

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
    index = torch.randint(_INDICES, (1,))
    plain = images[0].as_subclass(Tensor)[None]

    def moved(leaf: Any) -> Any:
        if isinstance(leaf, tv_tensors.Image):
            return tv_tensors.Image(operator(plain, index=index)[0])
        if isinstance(leaf, tv_tensors.Mask):
            mask = leaf.as_subclass(Tensor)
            out = draw_with_targets(operator, plain, Targets(masks=mask[None]), index=index)
            assert out.targets.masks is not None
            return tv_tensors.Mask(out.targets.masks[0])
        if isinstance(leaf, tv_tensors.BoundingBoxes):
            return _boxes(operator, plain, leaf, index)
        if isinstance(leaf, tv_tensors.KeyPoints):
            points = leaf.as_subclass(Tensor)
            flat = points.reshape(1, -1, 2).float()
            out = draw_with_targets(operator, plain, Targets(keypoints=flat), index=index)
            size = operator.size_after(plain.shape[-2:])
            there = torch.as_tensor(out.targets.keypoints)[0].reshape(points.shape)
            return tv_tensors.KeyPoints(_as(there, points), canvas_size=size)  # type: ignore[call-overload]
        return leaf

    return _mapped(sample, moved)


def _boxes(operator: Operator, image: Tensor, boxes: tv_tensors.BoundingBoxes, index: Tensor) -> Any:
    if tv_tensors.is_rotated_bounding_format(boxes.format):
        raise ValueError(f"rotated boxes ({boxes.format}) cannot be followed; convert them to XYXY first")
    corners = tv.convert_bounding_box_format(boxes, new_format=tv_tensors.BoundingBoxFormat.XYXY)
    plain = corners.as_subclass(Tensor)
    out = draw_with_targets(operator, image, Targets(boxes=plain[None].float()), index=index)
    there = torch.as_tensor(out.targets.boxes)[0]
    size = operator.size_after(image.shape[-2:])
    corners_now = {"format": tv_tensors.BoundingBoxFormat.XYXY, "canvas_size": size}
    made = tv_tensors.BoundingBoxes(_as(there, plain), **corners_now)  # type: ignore[call-overload]
    return tv.convert_bounding_box_format(made, new_format=boxes.format)


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
