"""`torchvision.*`: the transforms of torchvision.transforms.v2 as operators, on floating images."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

from robustaug.ops.adapters.foreign import Foreign, adapted, unknown
from robustaug.registry import Entry
from robustaug.rng import torch_seed

# what a pipeline has its own way for: containers, labels, and code that YAML cannot hold
_OURS = {
    "Compose": "compose.sequential",
    "RandomApply": "compose.sequential with p",
    "RandomChoice": "compose.one_of",
    "RandomOrder": "compose.some_of",
    "Lambda": "a registered operator",
}
_MOVING = frozenset({"_geometry", "_auto_augment"})  # the modules of v2 whose transforms move pixels
_ON_BYTES = frozenset({"JPEG"})


class TorchvisionTransform(Foreign):
    """A torchvision transform; its draws come from torch's generator, seeded for the call and put back after it."""

    def make(self, params: dict[str, Any]) -> Any:
        from torchvision.transforms import InterpolationMode

        if isinstance(mode := params.get("interpolation"), str):
            params = params | {"interpolation": InterpolationMode(mode.lower())}
        return self.target(**params)

    def call(self, image: Tensor, seed: int) -> Any:
        on_bytes = type(self).__name__ in _ON_BYTES
        with torch_seed(seed), torch.no_grad():
            out = self.made((image * 255).round().to(torch.uint8) if on_bytes else image)
        return out / 255 if on_bytes else out


@cache
def entry(name: str) -> Entry:
    """Return the registry's entry for `torchvision.<name>`.

    Raises:
        ValueError: v2 has no such image transform, or a pipeline has its own way for it.
    """
    from torchvision.transforms import v2

    if name in _OURS:
        raise ValueError(f"torchvision.{name} cannot be used as an operator; use {_OURS[name]}")
    known = [key for key, value in vars(v2).items() if isinstance(value, type) and issubclass(value, v2.Transform)]
    if name not in known:
        raise unknown("torchvision", name, known)
    target = getattr(v2, name)
    moves = target.__module__.rpartition(".")[2] in _MOVING
    return adapted(TorchvisionTransform, "torchvision", name, target, frozenset({"torchvision"}), moves)
