"""The peers' forms of the engine benchmark's pipelines: the fastest we found of those that do the same work.

Everyone reads uint8 and writes float32, normalised (the corruptions: uint8), resamples bilinearly without antialiasing,
and draws anew for each image, except where `shares_draws` says that a whole batch gets one draw. `robustaug` crops to
224 first in P2 to P4, and so do they.

albumentations has neither TrivialAugment nor RandAugment: they are put together from its own operators, with the same
fourteen operations and reaches. torchvision and kornia bring theirs; kornia's choose one operation for a batch, so that
the same work means one image a call. torchvision is fastest on contiguous (C, H, W) tensors, jitter and noise on
floats; kornia on the CPU with 16 images a batch.
"""

from __future__ import annotations

import importlib.resources
import importlib.util
import sys
import types
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from augment_workers import Job
from torch import Tensor

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CROP = 224
SEVERITY = 3
CORRUPTIONS = (
    *("gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    *("snow", "frost", "fog", "brightness", "contrast", "elastic_transform", "pixelate", "jpeg_compression"),
)
KORNIA_BATCH = {"P5": 256}
"""Images a batch on the CPU, 16 in all other tasks: more leave its cache."""


def albumentations(task: str) -> Job | None:
    import albumentations as A

    def policy(
        shear_deg: float, shift_px: int, turn_deg: float, change: float, bits: int, threshold: float
    ) -> list[Any]:
        """The fourteen operations, each up to its reach."""
        times, same = (1 - change, 1 + change), (1.0, 1.0)
        jitter = {"brightness": same, "contrast": same, "saturation": same, "hue": (0.0, 0.0)}
        return [
            A.NoOp(p=1),
            *(A.Affine(shear={axis: (-shear_deg, shear_deg), other: 0}, p=1) for axis, other in ("xy", "yx")),
            *(A.Affine(translate_px={axis: (-shift_px, shift_px), other: 0}, p=1) for axis, other in ("xy", "yx")),
            A.Affine(rotate=(-turn_deg, turn_deg), p=1),
            *(A.ColorJitter(**{**jitter, part: times}, p=1) for part in ("brightness", "contrast", "saturation")),
            A.Sharpen(alpha=(0.0, change), lightness=same, p=1),
            A.Posterize(num_bits=(bits, 8), p=1),
            A.Solarize(threshold_range=(threshold, 1.0), p=1),
            A.AutoContrast(method="pil", p=1),
            A.Equalize(p=1),
        ]

    wide, nine = (44.7, 32, 135, 0.99, 2, 0.0), (5.1, 30, 9, 0.27, 7, 0.7)
    forms: dict[str, Callable[[], list[Any]]] = {
        "P1": lambda: [
            A.RandomResizedCrop((CROP, CROP), scale=(0.3, 1.0)),
            A.HorizontalFlip(p=0.5),
            A.Affine(rotate=(-15, 15), translate_percent=(-0.1, 0.1), scale=(0.9, 1.1), keep_ratio=True, p=1),
            A.ColorJitter((0.6, 1.4), (0.6, 1.4), (0.6, 1.4), (-0.1, 0.1), p=1),
            A.GaussNoise(std_range=(0.05, 0.05), p=1),
        ],
        "P2 trivial": lambda: [A.CenterCrop(CROP, CROP), A.OneOf(policy(*wide), p=1)],
        "P2 rand": lambda: [A.CenterCrop(CROP, CROP), A.SomeOf(policy(*nine), n=2, replace=True, p=1)],
        "P5": lambda: [A.HorizontalFlip(p=0.5), A.Pad(4), A.RandomCrop(32, 32)],
    }
    if task not in forms:
        return None
    steps = A.Compose([*forms[task](), A.Normalize(MEAN, STD)])

    def job(images: Tensor, out: Tensor) -> None:
        for image, place in zip(images.numpy(), out.numpy(), strict=True):
            place[:] = steps(image=image)["image"]

    return job


def torchvision(task: str, batched: bool = False) -> Job | None:
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms import v2 as T

    linear = InterpolationMode.BILINEAR
    to_float = T.ToDtype(torch.float32, scale=True)
    forms: dict[str, Callable[[], list[Any]]] = {
        "P1": lambda: [
            T.RandomResizedCrop(CROP, scale=(0.3, 1.0), antialias=False),
            T.RandomHorizontalFlip(),
            T.RandomAffine((-15, 15), translate=(0.1, 0.1), scale=(0.9, 1.1), interpolation=linear),
            to_float,
            T.ColorJitter(0.4, 0.4, 0.4, 0.1),
            T.GaussianNoise(sigma=0.05),
        ],
        "P2 trivial": lambda: [T.CenterCrop(CROP), T.TrivialAugmentWide(interpolation=linear), to_float],
        "P2 rand": lambda: [T.CenterCrop(CROP), T.RandAugment(2, 9, interpolation=linear), to_float],
        "P4": lambda: [T.CenterCrop(CROP), T.AugMix(all_ops=False, interpolation=linear), to_float],
        "P5": lambda: [T.RandomHorizontalFlip(), T.RandomCrop(32, padding=4), to_float],
    }
    if task not in forms:
        return None
    steps = T.Compose([*forms[task](), T.Normalize(MEAN, STD)])

    @torch.inference_mode()
    def job(images: Tensor, out: Tensor) -> None:
        if batched:
            out.copy_(steps(images))
            return
        for image, place in zip(images, out, strict=True):
            place.copy_(steps(image))

    return job


def torchvision_batched(task: str) -> Job | None:
    return torchvision(task, batched=True)


def kornia(task: str, batch: int | None = None) -> Job | None:
    warnings.simplefilter("ignore")
    import kornia.augmentation as K  # type: ignore[reportMissingImports]
    from kornia.augmentation.auto import RandAugment, TrivialAugment  # type: ignore[reportMissingImports]

    forms: dict[str, Callable[[], list[Any]]] = {
        "P1": lambda: [
            K.RandomResizedCrop((CROP, CROP), scale=(0.3, 1.0), cropping_mode="resample"),
            K.RandomHorizontalFlip(p=0.5),
            K.RandomAffine(15, translate=(0.1, 0.1), scale=(0.9, 1.1), p=1),
            K.ColorJitter(0.4, 0.4, 0.4, 0.1, p=1),
            K.RandomGaussianNoise(std=0.05, p=1),
        ],
        "P2 trivial": lambda: [K.CenterCrop(CROP), TrivialAugment()],
        "P2 rand": lambda: [K.CenterCrop(CROP), RandAugment(2, 9)],
        "P5": lambda: [K.RandomHorizontalFlip(p=0.5), K.RandomCrop((32, 32), padding=4)],
    }
    if task not in forms:
        return None
    normalize = K.Normalize(torch.tensor(MEAN), torch.tensor(STD))
    steps = K.AugmentationSequential(*forms[task](), normalize, data_keys=["input"])
    size = batch or KORNIA_BATCH.get(task, 16)

    @torch.inference_mode()
    def job(images: Tensor, out: Tensor) -> None:
        for some, place in zip(images.split(size), out.split(size), strict=True):
            place.copy_(steps(some.float() / 255))

    return job


def kornia_singly(task: str) -> Job | None:
    """For what chooses once a batch, one image a call; else batches."""
    return kornia(task, 1 if task.startswith("P2") else None)


def kornia_whole(task: str) -> Job | None:
    """Everything in one batch, as a device likes it."""
    return kornia(task, sys.maxsize)


def imagecorruptions(task: str) -> Job | None:
    if not task.startswith("P3 "):
        return None
    corrupt = _imagecorruptions().corrupt
    name = task.removeprefix("P3 ")

    def job(images: Tensor, out: Tensor) -> None:
        for image, place in zip(images.numpy(), out.numpy(), strict=True):
            place[:] = corrupt(image, severity=SEVERITY, corruption_name=name)

    return job


def _imagecorruptions() -> Any:
    """Import imagecorruptions 1.1.2 as it is, into the environment it was written for.

    It asks for names that NumPy 2, scikit-image 0.19 and setuptools 81 took away. They are put back for it: with them
    all 15 corruptions run.
    """
    warnings.simplefilter("ignore")  # SciPy's, of a module path that will go too
    import skimage.filters  # type: ignore[reportMissingImports]

    if not hasattr(np, "float_"):
        setattr(np, "float_", np.float64)  # noqa: B010 (checkers know that it is gone)
    if importlib.util.find_spec("pkg_resources") is None:
        module: Any = types.ModuleType("pkg_resources")
        module.resource_filename = lambda name, path: str(importlib.resources.files(name.rpartition(".")[0]) / path)
        sys.modules["pkg_resources"] = module
    today = skimage.filters.gaussian

    def gaussian(*given: Any, multichannel: bool = False, **named: Any) -> Any:
        return today(*given, channel_axis=-1 if multichannel else None, **named)

    skimage.filters.gaussian = gaussian  # it takes the name with it when it is imported
    try:
        import imagecorruptions as package  # type: ignore[reportMissingImports]
    finally:
        skimage.filters.gaussian = today
    return package


class Peer(NamedTuple):
    """How a peer takes part.

    Attributes:
        make: a task's job, None where the peer has none.
        where: "workers" (as many processes as cores), "one worker", "here" (this process, all threads), "device", or
            "device, one by one". What works alone on one image at a time gets as many images as one worker.
        layout: of what it reads and writes, "hwc" or "chw".
        install: what brings it.
        shares_draws: tasks in which all images of a batch get the same draw, which is less work than ours; "" for all.
    """

    make: Callable[[str], Job | None]
    where: str
    layout: str
    install: str
    shares_draws: tuple[str, ...] = ()


_ALBUMENTATIONS = "pip install 'robustaug[albumentations]'"
_KORNIA = "pip install --no-deps kornia==0.9.0 kornia-rs"
_IMAGECORRUPTIONS = "pip install --no-deps imagecorruptions==1.1.2 scikit-image imageio lazy-loader tifffile"
PEERS = {
    "albumentations": Peer(albumentations, "workers", "hwc", _ALBUMENTATIONS),
    "torchvision": Peer(torchvision, "workers", "chw", ""),
    "torchvision, batch": Peer(torchvision_batched, "here", "chw", "", ("",)),
    "kornia": Peer(kornia_singly, "workers", "chw", _KORNIA),
    "kornia, batch": Peer(kornia, "here", "chw", _KORNIA, ("P2",)),
    "imagecorruptions": Peer(imagecorruptions, "workers", "hwc", _IMAGECORRUPTIONS),
    "imagecorruptions, 1": Peer(imagecorruptions, "one worker", "hwc", _IMAGECORRUPTIONS),
    "torchvision, device": Peer(torchvision, "device, one by one", "chw", ""),
    "torchvision, device, batch": Peer(torchvision_batched, "device", "chw", "", ("",)),
    "kornia, device, batch": Peer(kornia_whole, "device", "chw", _KORNIA, ("P2",)),
}


def make(peer: str, task: str) -> tuple[str, Job]:
    """Return the layout and the job of a peer that has one for this task."""
    job = PEERS[peer].make(task)
    assert job is not None
    return PEERS[peer].layout, job
