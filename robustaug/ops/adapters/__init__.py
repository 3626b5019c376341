"""Other libraries' transforms as operators, by their own names, and our pipelines inside other libraries.

`robustaug.create("albumentations.RandomFog")`, `robustaug.create("torchvision.ColorJitter", hue=0.1)`: they are
made when they are asked for, take their library's parameters, and draw from the sample's key, so that the same
sample gets the same result in any batch, order or process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from robustaug.ops.adapters.inside import for_albumentations, for_torchvision

__all__ = ["for_albumentations", "for_torchvision"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from robustaug.ops.adapters import inside

    return getattr(inside, name)
