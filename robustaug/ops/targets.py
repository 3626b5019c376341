"""Masks, boxes and keypoints that travel along with their images through any operator or pipeline.

Positions are carried through the whole pipeline, matrices multiplied out one after another in float64, and never
rounded in between; a mask is read once, at where each pixel of the result comes from.

Legend: B samples, M masks, N boxes or points, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from robustaug.ops.image.motion import grid
from robustaug.ops.operator import Operator, Params, to_device
from robustaug.rng import Keys

_EDGE_POINTS = 16
"""Points a box's edge is followed by: a warp bends it."""

PerSample = Tensor | Sequence[Tensor]
"""A tensor with a row a sample, or a list of one tensor a sample where their numbers differ."""


class Targets(NamedTuple):
    """What belongs to a batch of images; what is None does not exist.

    Attributes:
        masks: (B, H, W) or (B, M, H, W), any dtype: class numbers, instances, or alpha.
        boxes: (B, N, 4), or a list of (N, 4): left, top, right, bottom in pixels, floating; a box round the whole
            image is (0, 0, W, H), as torchvision's XYXY.
        keypoints: (B, N, 2), or a list of (N, 2): (x, y) in pixels, (0, 0) is the centre of the top left pixel.
    """

    masks: Tensor | None = None
    boxes: PerSample | None = None
    keypoints: PerSample | None = None


class Travelled(NamedTuple):
    """Images and targets after an operator.

    Attributes:
        image: as `Operator.apply` gives it.
        targets: in the form and dtype they came; boxes are the smallest that hold the moved ones, cut at the border.
        box_visible: for each box, the share of its moved area that lies within the image, in [0, 1]; drop those below
            what your detector can use.
        keypoint_visible: for each keypoint, whether it lies within the image.
    """

    image: Tensor
    targets: Targets
    box_visible: PerSample | None
    keypoint_visible: PerSample | None


def draw_with_targets(
    operator: Operator, image: Tensor, targets: Targets, seed: int = 0, epoch: int = 0, index: Tensor | None = None
) -> Travelled:
    """Draw parameters and apply them to a batch and its targets; see `Operator.__call__` and `apply_with_targets`.

    >>> import torch, robustaug
    >>> flip = robustaug.create("image.horizontal_flip")
    >>> boxes = torch.tensor([[[0.0, 0.0, 4.0, 2.0]]])
    >>> draw_with_targets(flip, torch.zeros(1, 3, 8, 8), Targets(boxes=boxes)).targets.boxes
    tensor([[[4., 0., 8., 2.]]])
    """
    operator.layout.check(image)
    _check(image, targets)
    keys = Keys.of(seed, torch.arange(len(image)) if index is None else index, epoch)
    return apply_with_targets(operator, image, operator.sample(keys.to(image.device)), targets)


def apply_with_targets(operator: Operator, image: Tensor, params: Params, targets: Targets) -> Travelled:
    """Apply drawn parameters to a batch of images and to what belongs to them.

    Args:
        operator: any operator or pipeline on images; what moves no pixel leaves targets as they are.
        image: (B, C, H, W).
        params: from `operator.sample`, for B samples.
        targets: of the same B samples.

    Raises:
        ValueError: shapes or numbers that do not fit the images.
    """
    _check(image, targets)
    size = (int(image.shape[2]), int(image.shape[3]))
    params = to_device(params, image.device)
    out = operator.apply(image, params)
    masks = None if targets.masks is None else read_masks(targets.masks, operator, size, params)
    boxes, box_visible = _each(targets.boxes, 4, lambda x: _boxes(x, operator, size, params))
    points, point_visible = _each(targets.keypoints, 2, lambda x: _points(x, operator, size, params))
    return Travelled(out, Targets(masks, boxes, points), box_visible, point_visible)


def read_masks(masks: Tensor, operator: Operator, size: tuple[int, int], params: Params) -> Tensor:
    """Read each mask at the pixel nearest to where each pixel of the result comes from; 0 where that is nowhere.

    Args:
        masks: (B, H, W) or (B, M, H, W), any dtype.
        size: H, W.
        params: drawn for B samples, on the masks' device.
    """
    H, W = operator.size_after(size)
    B = len(masks)
    pixels = grid(H, W, masks.device).reshape(1, -1, 2).expand(B, -1, 2)
    source = operator.trace(pixels, size, params)
    nowhere = source.isnan().any(dim=-1)
    # halves round up as bilinear interpolation's nearer neighbour would, also at -0.5
    at = torch.floor(torch.where(nowhere[..., None], 0.0, source) + 0.5 - 1e-9).long()
    flat = at[..., 1].clamp(0, size[0] - 1) * size[1] + at[..., 0].clamp(0, size[1] - 1)
    layers = masks.reshape(B, -1, size[0] * size[1])
    read = layers.gather(2, flat[:, None].expand(-1, layers.shape[1], -1))
    return read.masked_fill(nowhere[:, None], 0).reshape(*masks.shape[:-2], H, W)


def carry_boxes(boxes: Tensor, operator: Operator, size: tuple[int, int], params: Params) -> Tensor:
    """Return the smallest boxes that hold the moved ones, (B, N, 4) float64; they may go beyond the border."""
    B, N = boxes.shape[:2]
    low, high = boxes.to(torch.float64)[..., None, :2], boxes.to(torch.float64)[..., None, 2:]  # (B, N, 1, 2)
    along = torch.linspace(0, 1, _EDGE_POINTS, dtype=torch.float64, device=boxes.device)
    start, end = torch.zeros_like(along), torch.ones_like(along)
    outline = [torch.stack(pair, dim=1) for pair in ((along, start), (along, end), (start, along), (end, along))]
    edge = low + torch.cat(outline) * (high - low)  # (B, N, P, 2), edges' coordinates: pixel centres lie at halves
    carried = operator.carry(edge.reshape(B, -1, 2) - 0.5, size, params).reshape(B, N, -1, 2) + 0.5
    return torch.cat([carried.amin(2), carried.amax(2)], dim=-1)


def _boxes(boxes: Tensor, operator: Operator, size: tuple[int, int], params: Params) -> tuple[Tensor, Tensor]:
    """(B, N, 4) -> moved (B, N, 4), cut at the border, and visible (B, N)."""
    moved = carry_boxes(boxes, operator, size, params)
    H, W = operator.size_after(size)
    limit = torch.tensor([W, H, W, H], dtype=torch.float64, device=boxes.device)
    inner = moved.clamp(min=0).minimum(limit)
    whole, seen = ((box[..., 2:] - box[..., :2]).prod(-1) for box in (moved, inner))
    visible = torch.where(whole > 0, seen / whole.clamp(min=1e-12), 0.0)
    return inner.to(boxes.dtype), visible.to(torch.float32)


def _points(points: Tensor, operator: Operator, size: tuple[int, int], params: Params) -> tuple[Tensor, Tensor]:
    """(B, N, 2) -> moved (B, N, 2) and visible (B, N)."""
    moved = operator.carry(points.to(torch.float64), size, params)
    H, W = operator.size_after(size)
    limit = torch.tensor([W, H], dtype=torch.float64, device=points.device)
    visible = ((moved >= -0.5) & (moved <= limit - 0.5)).all(dim=-1)
    return moved.to(points.dtype), visible


def _each(given: PerSample | None, width: int, move) -> tuple[PerSample | None, PerSample | None]:
    """Run `move` on a (B, N, width) tensor, or on a list by padding it to the longest."""
    if given is None or isinstance(given, Tensor):
        return (None, None) if given is None else move(given)
    counts = [len(rows) for rows in given]
    padded = torch.zeros(len(given), max(counts, default=0), width, dtype=torch.float64)
    padded = padded.to(given[0].device) if len(given) else padded
    for rows, one in zip(padded, given, strict=True):
        rows[: len(one)] = one
    moved, visible = move(padded)
    kept = [m[:n].to(one.dtype) for m, n, one in zip(moved, counts, given, strict=True)]
    return kept, [v[:n] for v, n in zip(visible, counts, strict=True)]


def _check(image: Tensor, targets: Targets) -> None:
    """Refuse targets that cannot belong to the images."""
    if not isinstance(image, Tensor) or image.ndim != 4:
        shape = tuple(image.shape) if isinstance(image, Tensor) else type(image).__name__
        raise ValueError(f"images with targets must have shape (B, C, H, W), got {shape}; image[None] makes a batch")
    masks = targets.masks
    if masks is not None and (masks.ndim not in (3, 4) or masks.shape[-2:] != image.shape[-2:]):
        raise ValueError(
            f"masks must have shape (B, H, W) or (B, M, H, W) with the image's {tuple(image.shape[-2:])}, "
            f"got {tuple(masks.shape)}"
        )
    for name, given, width in (("boxes", targets.boxes, 4), ("keypoints", targets.keypoints, 2), ("masks", masks, 0)):
        if given is None:
            continue
        if len(given) != len(image):
            raise ValueError(f"{name} must have one entry an image: {len(image)} images, {len(given)} {name}")
        for one in given if width else ():
            if one.ndim != 2 or one.shape[1] != width or not one.is_floating_point():
                raise ValueError(
                    f"{name} must be floating with shape (N, {width}) for each image, got {one.dtype} of shape "
                    f"{tuple(one.shape)}"
                )
