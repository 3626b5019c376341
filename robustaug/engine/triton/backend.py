"""Run a pipeline's steps with Triton kernels on a CUDA device; on the CPU only in Triton's interpreter.

Importing this module imports no Triton; `run` does. Without a GPU, set TRITON_INTERPRET=1 before Triton is imported:
the same kernels then run on CPU tensors, slowly, for tests.

Legend: B samples, C channels, H rows, W columns.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Sequence

import torch
from torch import Tensor

from robustaug.engine.triton.schedule import described, schedule
from robustaug.engine.triton.vocabulary import covering, needed, refused
from robustaug.ops.program import Kernel, Step

INPUTS = (torch.uint8, torch.float16, torch.bfloat16, torch.float32)
OUTPUTS = INPUTS


@functools.cache
def missing() -> str:
    """Return why nothing can run here, "" where something can."""
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed: pip install triton"
    return ""


def supports(kernel: Kernel, channels: int) -> str:
    """Return why a kernel cannot run here, "" where it can; any number of channels will do."""
    return missing() or refused(kernel)


def prepare(steps: Sequence[Step]) -> None:
    """Make known what a pipeline may do, from the steps of a large batch.

    A policy's steps name only what a batch drew. Kernels are compiled for all that was ever named together, so after
    this no smaller batch needs new ones.
    """
    covering(needed(steps))


def run(steps: Sequence[Step], image: Tensor, out: Tensor, mean: Sequence[float], std: Sequence[float]) -> None:
    """Take images through steps whose kernels `supports` accepts, and fill `out`.

    Args:
        steps: on the CPU, for B samples. The call returns before the device is done, and waits for nothing.
        image: (B, C, H, W) uint8, or float16, bfloat16 or float32 in [0, 1]; any strides.
        out: (B, C, h, w) of the size after the last step, uint8, float16, bfloat16 or float32; any strides. It must
            not overlap `image`.
        mean, std: one number a channel; `out` becomes (x - mean) / std, and levels of x itself where it is uint8.

    Raises:
        ValueError: a dtype, shape, device or stride that does not fit.
        RuntimeError: there is no Triton.
    """
    if missing():
        raise RuntimeError(missing())
    if len(image) == 0:
        return
    _check(steps, image, out)
    from robustaug.engine.triton.launch import interpreted, launch

    if image.device.type != "cuda" and not interpreted():
        raise ValueError(f"Triton needs images on CUDA, got {image.device}; TRITON_INTERPRET=1 tests without a GPU")
    vocabulary = covering(needed(steps))
    plan = schedule(steps, len(image), _size(image), vocabulary)
    with torch.cuda.device_of(image):  # Triton launches on the current device
        launch(plan, vocabulary, image, out, mean, std)


def bytes_moved(
    steps: Sequence[Step], shape: Sequence[int], dtype: torch.dtype, out_dtype: torch.dtype
) -> list[tuple[str, int]]:
    """Return what `run` would launch for images (B, C, H, W) of `dtype`: a description and the bytes of its images.

    An image that is resampled counts as read whole, once.
    """
    plan = schedule(steps, shape[0], (shape[2], shape[3]), covering(needed(steps)))
    return described(plan, shape[1], dtype.itemsize, out_dtype.itemsize)


def _check(steps: Sequence[Step], image: Tensor, out: Tensor) -> None:
    size = steps[-1].shape[1:] if steps else _size(image)
    if image.dtype not in INPUTS:
        raise ValueError(f"image must be uint8, float16, bfloat16 or float32 for Triton, got {image.dtype}")
    if out.dtype not in OUTPUTS:
        raise ValueError(f"out must be uint8, float16, bfloat16 or float32 for Triton, got {out.dtype}")
    if tuple(out.shape) != (*image.shape[:2], *size):
        raise ValueError(f"out must have shape {(*image.shape[:2], *size)}, got {tuple(out.shape)}")
    for name, tensor in (("image", image), ("out", out)):
        if sum((size - 1) * step for size, step in zip(tensor.shape[1:], tensor.stride()[1:], strict=True)) >= 1 << 31:
            raise ValueError(f"{name} must span fewer than 2^31 values a sample, got strides {tensor.stride()}")
    if out.device != image.device:
        raise ValueError(f"out must be on the image's device {image.device}, got {out.device}")


def _size(image: Tensor) -> tuple[int, int]:
    return int(image.shape[2]), int(image.shape[3])
