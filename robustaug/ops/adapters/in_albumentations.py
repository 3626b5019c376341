"""The albumentations side of `for_albumentations`, apart because it needs albumentations to be imported.

Legend: H rows, W columns, C channels, N boxes or points.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from robustaug.ops.adapters.albumentations import library
from robustaug.ops.operator import Operator, Params
from robustaug.ops.targets import carry_boxes, read_masks
from robustaug.rng import Keys

_INDICES = 1 << 31


class InAlbumentations(library().DualTransform):
    """An operator or pipeline of ours as an albumentations transform; see `for_albumentations`."""

    _targets = library().core.type_definitions.ALL_TARGETS

    def __init__(self, operator: Operator, p: float = 1.0) -> None:
        super().__init__(p=p)
        self.operator = operator

    def get_params(self) -> dict[str, Any]:
        """Draw which of the operator's samples this image is: its whole randomness."""
        return {"index": self.py_random.randrange(_INDICES)}

    def apply(self, img: np.ndarray, index: int = 0, **params: Any) -> np.ndarray:
        """Apply the operator to (H, W, C) or (H, W) and return the same layout."""
        image = torch.from_numpy(np.ascontiguousarray(np.atleast_3d(img).transpose(2, 0, 1)))
        self.operator.layout.check(image)
        out = self.operator.apply(image, self._drawn(index)).permute(1, 2, 0).contiguous().numpy()
        return out[:, :, 0] if img.ndim == 2 else out

    def apply_to_mask(self, mask: np.ndarray, index: int = 0, **params: Any) -> np.ndarray:
        """Read (H, W) or (H, W, C) where the image's pixels come from."""
        layers = torch.from_numpy(np.ascontiguousarray(np.atleast_3d(mask).transpose(2, 0, 1)))[None]
        out = read_masks(layers, self.operator, mask.shape[:2], self._drawn(index))[0].permute(1, 2, 0).numpy()
        return out[:, :, 0] if mask.ndim == 2 else out

    def apply_to_bboxes(self, bboxes: np.ndarray, index: int = 0, **params: Any) -> np.ndarray:
        """Move (N, 4 and more): left, top, right, bottom as shares of the sides; the composition clips and drops."""
        size = params["shape"][:2]
        height, width = self.operator.size_after(size)
        corners = torch.from_numpy(bboxes[None, :, :4] * np.tile(size[::-1], 2))
        there = carry_boxes(corners, self.operator, size, self._drawn(index))[0].numpy()
        return np.hstack([there / np.tile([width, height], 2), bboxes[:, 4:]]).astype(bboxes.dtype)

    def apply_to_keypoints(self, keypoints: np.ndarray, index: int = 0, **params: Any) -> np.ndarray:
        """Move (N, 2 and more): x, y in pixels; the columns behind, such as angle and scale, stay."""
        points = torch.from_numpy(keypoints[None, :, :2].astype(np.float64))
        there = self.operator.carry(points, params["shape"][:2], self._drawn(index))[0].numpy()
        return np.hstack([there, keypoints[:, 2:]]).astype(keypoints.dtype)

    def get_transform_init_args_names(self) -> tuple[str, ...]:
        """Name what `repr` shows."""
        return ("operator",)

    def _drawn(self, index: int) -> Params:
        return self.operator.sample(Keys.of(0, torch.tensor([index])))
