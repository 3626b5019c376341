"""The albumentations side of `for_albumentations`, apart because it needs albumentations to be imported."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from robustaug.ops.adapters.albumentations import library
from robustaug.ops.operator import Operator

_INDICES = 1 << 31


class InAlbumentations(library().ImageOnlyTransform):
    """An operator or pipeline of ours as an albumentations transform; see `for_albumentations`."""

    def __init__(self, operator: Operator, p: float = 1.0) -> None:
        super().__init__(p=p)
        self.operator = operator

    def get_params(self) -> dict[str, Any]:
        """Draw which of the operator's samples this image is: its whole randomness."""
        return {"index": self.py_random.randrange(_INDICES)}

    def apply(self, img: np.ndarray, index: int = 0, **params: Any) -> np.ndarray:
        """Apply the operator to (H, W, C) or (H, W) and return the same layout."""
        image = torch.from_numpy(np.ascontiguousarray(np.atleast_3d(img).transpose(2, 0, 1)))
        out = self.operator(image, index=index).permute(1, 2, 0).contiguous().numpy()
        return out[:, :, 0] if img.ndim == 2 else out

    def get_transform_init_args_names(self) -> tuple[str, ...]:
        """Name what `repr` shows."""
        return ("operator",)
