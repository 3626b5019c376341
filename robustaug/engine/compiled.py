"""A pipeline that runs as programs: one read and one write where nothing stands in between.

Legend: B samples, C channels, H rows, W columns.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from robustaug.engine.plan import Eager, Plan, Program, described
from robustaug.engine.triton.backend import missing
from robustaug.ops.layout import IMAGES, check_layout, check_range
from robustaug.ops.operator import Operator, Params, check_rows, take, to_device
from robustaug.ops.program import Step
from robustaug.rng import Keys

BACKENDS = ("auto", "numba", "triton", "eager")
DTYPES = (torch.uint8, torch.float16, torch.bfloat16, torch.float32)
_SEEN = 256


class CompiledPipeline:
    """A pipeline bound to a backend, with the normalisation and the dtype of its output.

    It draws and applies as the pipeline does, and takes its place wherever a pipeline is taken. The pipeline's eager
    form defines the result: pixelwise chains agree within 1e-5 (1/255 for uint8). Consecutive geometric operators are
    one resampling here, and several there. Images or parameters that require gradients go through the eager form.

    Args:
        pipeline: operators on images.
        backend: "numba" (CPU), "triton" (CUDA), "eager" (anywhere), or "auto", which takes what fits the images.
        mean, std: one number, or one a channel; the output is (x - mean) / std.
        dtype: of the output: uint8, float16, bfloat16 or float32. Left out, the input's; with mean or std, float32.
        channels_last: lay the output out with its channels last.

    Raises:
        ValueError: an unknown backend or dtype, a std of 0, mean or std with uint8, or a pipeline on other data.
    """

    def __init__(
        self,
        pipeline: Operator,
        backend: str = "auto",
        mean: float | Sequence[float] | None = None,
        std: float | Sequence[float] | None = None,
        dtype: torch.dtype | None = None,
        channels_last: bool = False,
    ) -> None:
        if backend not in BACKENDS:
            raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, got {backend!r}")
        if pipeline.layout is not IMAGES:
            raise ValueError(
                f"only pipelines on images are compiled, got one on {pipeline.layout.name}; use it as it is"
            )
        if dtype is not None and dtype not in DTYPES:
            raise ValueError(f"dtype must be uint8, float16, bfloat16 or float32, got {dtype}")
        if dtype == torch.uint8 and not (mean is None and std is None):
            raise ValueError("a normalised image does not fit into uint8; leave mean and std out, or choose float32")
        self.pipeline, self.backend, self.dtype, self.channels_last = pipeline, backend, dtype, channels_last
        self.mean, self.std = _numbers("mean", mean), _numbers("std", std)
        self._prepared: set[tuple[int, ...]] = set()
        if self.std is not None and min(self.std) <= 0:
            raise ValueError(f"std must be > 0, got {std}")

    name = "engine.compiled"
    draws_on = torch.device("cpu")
    """Parameters are few: drawn here and sent in one piece, they cost a device nothing."""

    def __repr__(self) -> str:
        return f"<{self.pipeline!r} compiled for {self.backend}>"

    def __call__(
        self, image: Tensor, seed: int = 0, epoch: int = 0, index: Any = None, out: Tensor | None = None
    ) -> Tensor:
        """Draw parameters and apply them; see `Operator.__call__` and `apply`."""
        check_range(image)
        n = 1 if image.ndim == 3 else len(image)
        index = torch.arange(n) if index is None else torch.as_tensor(index, dtype=torch.int64)
        keys = Keys.of(seed, index.reshape(1) if index.ndim == 0 else index.cpu(), epoch)
        if len(keys) != n:
            raise ValueError(f"index must have one entry a sample: {n} images, {len(keys)} indices")
        return self.apply(image, self.sample(keys), out)

    def sample(self, keys: Keys) -> Params:
        """Draw the pipeline's parameters, on the CPU; see `Operator.sample`."""
        return self.pipeline.sample(keys.to("cpu"))

    def apply(self, image: Tensor, params: Params, out: Tensor | None = None) -> Tensor:
        """Apply drawn parameters; the input is left as it was.

        Args:
            image: (C, H, W) or (B, C, H, W) of any strides, also a view of mapped memory; uint8, or floating in
                [0, 1].
            params: from `sample`, for the same number of samples.
            out: written in place, of the result's shape and dtype and any strides; allocated when left out.

        Returns:
            `out`: float or uint8 images, (C, h, w) or (B, C, h, w).

        Raises:
            ValueError: parameters of another number of samples, or an `out` that does not fit.
        """
        check_layout(image)
        single = image.ndim == 3
        batch = image[None] if single else image
        check_rows(self.pipeline.name, params, len(batch))
        shape = (len(batch), batch.shape[1], *self.pipeline.size_after(batch.shape[-2:]))
        dtype = self._dtype(image)
        differentiable = torch.is_grad_enabled() and (image.requires_grad or _requires_grad(params))
        if differentiable and out is None:
            made = self._in_torch(batch, to_device(params, batch.device))
            return made[0] if single else made
        target = self._target(out, shape, dtype, image, single)
        if len(batch):
            self._fill(batch.detach(), to_device(params, self.draws_on), target)
        return (target[0] if single else target) if out is None else out

    def explain(self, shape: Sequence[int], dtype: torch.dtype = torch.uint8, device: str = "cpu") -> Plan:
        """Return what happens to a batch, as text when printed: stages, bytes moved, what fell back and why.

        Args:
            shape: (B, C, H, W), or (C, H, W) for one image.
            dtype, device: of the images.
        """
        n, chw = (shape[0], tuple(shape[1:])) if len(shape) == 4 else (1, tuple(shape))
        backend = self._backend(torch.device(device), dtype)
        after = self._dtype(torch.empty(0, dtype=dtype))
        return described(backend, self._parts(self._seen(chw), backend, chw[0]), (n, *chw), dtype, after)

    def _seen(self, shape: Sequence[int]) -> list[Step]:
        """Return the steps of enough samples to see every way that a policy may go."""
        return self.pipeline.program(self.pipeline.sample(Keys.of(0, _SEEN)), shape, _SEEN)

    def _dtype(self, image: Tensor) -> torch.dtype:
        if self.dtype is not None:
            return self.dtype
        return image.dtype if self.mean is None and self.std is None else torch.float32

    def _target(
        self, out: Tensor | None, shape: tuple[int, ...], dtype: torch.dtype, image: Tensor, single: bool
    ) -> Tensor:
        """Return (B, C, h, w) to write to.

        Raises:
            ValueError: `out` has another shape, dtype or device.
        """
        if out is None:
            layout = torch.channels_last if self.channels_last else torch.contiguous_format
            return torch.empty(shape, dtype=dtype, device=image.device, memory_format=layout)
        wanted = shape[1:] if single else shape
        if tuple(out.shape) != wanted or out.dtype != dtype or out.device != image.device:
            raise ValueError(
                f"out must be {dtype} of shape {wanted} on {image.device}, got {out.dtype} of shape "
                f"{tuple(out.shape)} on {out.device}"
            )
        return out[None] if single else out

    def _backend(self, device: torch.device, dtype: torch.dtype) -> str:
        fits = {"cpu": "numba", "cuda": "triton"}.get(device.type, "eager") if dtype in DTYPES else "eager"
        if fits == "triton" and missing():
            fits = "eager"
        if self.backend in ("auto", fits, "eager"):
            return fits if self.backend == "auto" else self.backend
        hint = missing() if self.backend == "triton" else ""
        raise ValueError(
            f"backend {self.backend!r} cannot run images of {dtype} on {device}; "
            + (hint or f"'auto' would take {fits!r}")
        )

    def _fill(self, batch: Tensor, params: Params, target: Tensor) -> None:
        backend = self._backend(batch.device, batch.dtype)
        if backend == "eager":
            target.copy_(self._in_torch(batch, to_device(params, batch.device)))
            return
        channels, shape = batch.shape[1], tuple(batch.shape[1:])
        if backend == "triton" and shape not in self._prepared:
            # a policy's batch names what it drew: without this a later one could ask for a kernel that is not there
            for part in self._parts(self._seen(shape), backend, channels):
                if isinstance(part, Program):
                    _module(backend).prepare(part.steps)
            self._prepared.add(shape)
        parts = self._parts(self.pipeline.program(params, shape, len(batch)), backend, channels)
        run = _module(backend).run
        if batch.dtype not in (torch.uint8, torch.float32) and backend == "numba":
            batch = batch.float()
        for number, part in enumerate(parts):
            last = number == len(parts) - 1
            if isinstance(part, Eager):
                batch = _eagerly(part, batch)
                if last:
                    target.copy_(_levels(self._scaled(batch), target.dtype))
                continue
            C, H, W = part.steps[-1].shape if part.steps else batch.shape[1:]
            goal = target if last else torch.empty(len(batch), C, H, W, device=batch.device)
            mean, std = (self.mean, self.std) if last else (None, None)
            run(part.steps, batch, goal, _each(mean, 0.0, channels), _each(std, 1.0, channels))
            batch = goal

    def _parts(self, steps: Sequence[Step], backend: str, channels: int) -> list[Program | Eager]:
        """Cut steps into what the backend runs in one call, and what it cannot run."""
        parts: list[Program | Eager] = [Program([])]
        if backend == "eager":
            return parts
        supports = _module(backend).supports
        for step in steps:
            refused = {p: why for p, kernel in enumerate(step.kernels) if (why := supports(kernel, channels))}
            kept = step.without(refused)
            for position, why in refused.items():
                chosen = step.pick == position
                if not bool(chosen.any()):
                    continue
                parts.append(Eager(step.kernels[position], step.params[position], chosen, why, step.shape))
            if kept.kernels:
                if not isinstance(last := parts[-1], Program):
                    parts.append(last := Program([]))
                last.steps.append(kept)
        return [part for part in parts if len(parts) == 1 or isinstance(part, Eager) or part.steps]

    def _in_torch(self, batch: Tensor, params: Params) -> Tensor:
        """Return the eager form's result, (B, C, h, w) as the output wants it."""
        floats, _ = IMAGES.to_batch(batch)
        return _levels(self._scaled(self.pipeline.transform(floats, params)), self._dtype(batch))

    def _scaled(self, made: Tensor) -> Tensor:
        """Return (made - mean) / std."""
        if self.mean is None and self.std is None:
            return made
        mean, std = (
            torch.tensor(_each(of, plain, made.shape[1]), dtype=made.dtype, device=made.device).reshape(1, -1, 1, 1)
            for of, plain in ((self.mean, 0.0), (self.std, 1.0))
        )
        return (made - mean) / std


def _module(backend: str) -> Any:
    if backend == "numba":
        from robustaug.engine.cpu import backend as module
    else:
        from robustaug.engine.triton import backend as module
    return module


def _eagerly(part: Eager, batch: Tensor) -> Tensor:
    """Run one operator in torch on float images (B, C, H, W), for its samples only."""
    floats, _ = IMAGES.to_batch(batch)
    operator = part.kernel.operator
    if bool(part.chosen.all()):
        return operator.transform(floats, to_device(part.params, batch.device))
    chosen = part.chosen.nonzero()[:, 0]
    changed = operator.transform(floats[chosen.to(batch.device)], to_device(take(part.params, chosen), batch.device))
    return floats.index_copy(0, chosen.to(batch.device), changed)


def _levels(made: Tensor, dtype: torch.dtype) -> Tensor:
    return (made * 255).round().clamp(0, 255).to(dtype) if dtype == torch.uint8 else made.to(dtype)


def _numbers(name: str, value: float | Sequence[float] | None) -> tuple[float, ...] | None:
    if value is None:
        return None
    numbers = (value,) if isinstance(value, (int, float)) else tuple(value)
    if not numbers or not all(isinstance(n, (int, float)) and math.isfinite(n) for n in numbers):
        raise ValueError(f"{name} must be a finite number, or one a channel, got {value!r}")
    return tuple(float(n) for n in numbers)


def _each(numbers: tuple[float, ...] | None, plain: float, channels: int) -> tuple[float, ...]:
    """Return one number a channel.

    Raises:
        ValueError: there are several numbers, and another number of channels.
    """
    if numbers is None:
        return (plain,) * channels
    if len(numbers) not in (1, channels):
        raise ValueError(f"mean and std need one number, or {channels} for these images; got {len(numbers)}")
    return numbers * channels if len(numbers) == 1 else numbers


def _requires_grad(params: Params) -> bool:
    return any(_requires_grad(v) if isinstance(v, dict) else v.requires_grad for v in params.values())
