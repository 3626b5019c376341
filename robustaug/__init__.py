"""robustaug: make a model survive the real world, and measure whether it does."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from robustaug.registry import create, list, register  # noqa: A004

if TYPE_CHECKING:
    from robustaug.data.augmented import AugmentedCollate, AugmentedDataset, AugmentedLoader
    from robustaug.models.classifier import Classifier, wrap
    from robustaug.pipeline import Pipeline
    from robustaug.rng import Keys

__version__ = "0.1.0"
__all__ = [
    "AugmentedCollate",
    "AugmentedDataset",
    "AugmentedLoader",
    "Classifier",
    "Keys",
    "Pipeline",
    "create",
    "list",
    "register",
    "wrap",
]

# Imported on first use: `import robustaug` must not pay for torch.
_LAZY = {
    "AugmentedCollate": "robustaug.data.augmented",
    "AugmentedDataset": "robustaug.data.augmented",
    "AugmentedLoader": "robustaug.data.augmented",
    "Classifier": "robustaug.models.classifier",
    "Keys": "robustaug.rng",
    "Pipeline": "robustaug.pipeline",
    "wrap": "robustaug.models.classifier",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'robustaug' has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)


def __dir__() -> list[str]:  # type: ignore[valid-type]
    return sorted([*globals(), *_LAZY])
