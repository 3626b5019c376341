"""`albumentations.*`: albumentations' image transforms as operators, on uint8 images as its users have them."""

from __future__ import annotations

import os
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robustaug.ops.adapters.foreign import Foreign, adapted, unknown
from robustaug.registry import Entry


def library() -> Any:
    """Import albumentations.

    Raises:
        ImportError: it is not installed; the message says how to.
    """
    # it asks a server for its newest version while it is imported, unless told not to
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    try:
        import albumentations
    except ImportError:
        raise ImportError("albumentations.* needs albumentations: pip install 'robustaug[albumentations]'") from None
    return albumentations


class AlbumentationsTransform(Foreign):
    """An albumentations transform, its generators seeded for each sample; values are rounded to 8 bits before it."""

    def make(self, params: dict[str, Any]) -> Any:
        return self.target(**{key: tuple(v) if isinstance(v, list) else v for key, v in params.items()})

    def call(self, image: Tensor, seed: int) -> Any:
        pixels = (image * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()  # (H, W, C)
        self.made.set_random_seed(seed)
        out = np.asarray(self.made(image=pixels)["image"])
        if out.dtype == np.uint8:
            out = out.astype(np.float32) / 255
        return torch.from_numpy(np.atleast_3d(out).transpose(2, 0, 1).copy())


@cache
def entry(name: str) -> Entry:
    """Return the registry's entry for `albumentations.<name>`.

    Raises:
        ImportError: albumentations is not installed.
        ValueError: it has no such image transform.
    """
    a = library()
    known = [key for key, value in vars(a).items() if isinstance(value, type) and issubclass(value, a.BasicTransform)]
    if name not in known:
        raise unknown("albumentations", name, known)
    target = getattr(a, name)
    # dropouts have an effect on masks of their own, but move nothing
    moves = not issubclass(target, a.ImageOnlyTransform) and ".dropout." not in target.__module__
    return adapted(AlbumentationsTransform, "albumentations", name, target, frozenset({"albumentations"}), moves)
