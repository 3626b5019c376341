"""Our pipelines inside other libraries' compositions; draws follow from the host's own random state."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from robustaug.ops.operator import Operator

_INDICES = 1 << 31


class InTorchvision:
    """A callable for torchvision's v2.Compose; see `for_torchvision`."""

    def __init__(self, operator: Operator) -> None:
        self.operator = operator

    def __call__(self, *inputs: Any) -> Any:
        sample = inputs[0] if len(inputs) == 1 else inputs
        from torchvision import tv_tensors

        if not isinstance(sample, Tensor):
            from robustaug.ops.adapters.tv_targets import travel

            return travel(self.operator, sample)
        n = 1 if sample.ndim == 3 else len(sample)
        out = self.operator(sample.as_subclass(Tensor), index=torch.randint(_INDICES, (n,)))
        return tv_tensors.Image(out) if isinstance(sample, tv_tensors.Image) else out

    def __repr__(self) -> str:
        return f"for_torchvision({self.operator!r})"


def for_torchvision(operator: Operator) -> InTorchvision:
    """Return `operator` for a torchvision.transforms.v2.Compose.

    It takes tensors and tv_tensors.Image, (C, H, W) or (B, C, H, W), uint8 or floating in [0, 1]. Each call draws
    anew from torch's generator, as torchvision's own transforms do, so torch.manual_seed and the DataLoader's
    seeding of workers hold. A sample may also be a mapping, tuple or list, as in a v2.Compose for detection: then its
    one image (C, H, W), a tv_tensors.Image, changes together with its BoundingBoxes, Mask and KeyPoints, and
    everything else is handed on.

    >>> import torch
    >>> from torchvision.transforms import v2
    >>> from robustaug import Pipeline
    >>> from robustaug.ops.adapters import for_torchvision
    >>> both = v2.Compose([v2.RandomHorizontalFlip(), for_torchvision(Pipeline(["image.gaussian_noise"]))])
    >>> both(torch.zeros(3, 8, 8)).shape
    torch.Size([3, 8, 8])
    """
    return InTorchvision(operator)


def for_albumentations(operator: Operator, p: float = 1.0) -> Any:
    """Return `operator` for an albumentations.Compose: a DualTransform on (H, W, C) uint8 or float32 in [0, 1].

    Masks, boxes and keypoints go where the image's pixels go; a keypoint's angle and scale stay as they were. Draws
    come from the composition's generator, so `Compose(..., seed=0)` makes them reproducible, and ReplayCompose
    replays them.

    Raises:
        ImportError: albumentations is not installed.
    """
    from robustaug.ops.adapters.in_albumentations import InAlbumentations

    return InAlbumentations(operator, p=p)
