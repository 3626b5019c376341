"""What a compiled pipeline will do, in words: parts, passes, bytes, and what fell back and why."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from robustaug.ops.operator import Params
from robustaug.ops.program import Kernel, Step


@dataclass(frozen=True)
class Program:
    """Steps that a backend runs in one call."""

    steps: list[Step]


@dataclass(frozen=True)
class Eager:
    """What runs in torch between two programs: one operator, for the samples where `chosen` (B,) is true."""

    kernel: Kernel
    params: Params
    chosen: Tensor
    why: str
    shape: tuple[int, int, int]


@dataclass
class Pass:
    """One walk over the image.

    Attributes:
        does: what happens in it, in order.
        bytes: read and written, intermediate images included.
        why: why it runs in torch, "" if it is compiled.
    """

    does: list[str] = field(default_factory=list)
    bytes: int = 0
    why: str = ""


@dataclass(frozen=True)
class Plan:
    """How a batch will run; prints as text.

    Attributes:
        backend: "numba", "triton" or "eager".
        title: input and output.
        passes: in order.
        ends: bytes of the input and the output: the least that any way can move.
    """

    backend: str
    title: str
    passes: list[Pass]
    ends: int

    @property
    def fell_back(self) -> dict[str, str]:
        """What runs in torch, and why."""
        return {part.does[0]: part.why for part in self.passes if part.why}

    def __str__(self) -> str:
        lines = [f"{self.backend}: {self.title}"]
        for number, part in enumerate(self.passes, 1):
            lines.append(f"  {number}. {'; '.join(part.does)} ({_size(part.bytes)})")
            if part.why:
                lines.append(f"     in torch: {part.why}")
        moved = sum(part.bytes for part in self.passes)
        lines.append(f"  moves {_size(moved)}; input and output alone are {_size(self.ends)}")
        return "\n".join(lines)


def described(
    backend: str, parts: Sequence[Program | Eager], shape: Sequence[int], dtype: torch.dtype, after: torch.dtype
) -> Plan:
    """Return the plan of parts for images of `shape` (B, C, H, W) and `dtype`; the output's dtype is `after`."""
    n, C, H, W = shape
    size = next((found for part in reversed(parts) if (found := _shape(part))), (C, H, W))
    title = f"{_typed(shape, dtype)} -> {_typed((n, *size), after)}"
    ends = n * (C * H * W * dtype.itemsize + math.prod(size) * after.itemsize)
    if backend == "eager":
        why = "the eager backend was asked for, or no other fits the images"
        return Plan(backend, title, [Pass(["the whole pipeline"], ends, why)], ends)
    passes: list[Pass] = []
    now, held = (C, H, W), dtype
    for position, part in enumerate(parts):
        then = _shape(part) or now
        left = after if position == len(parts) - 1 else torch.float32
        if isinstance(part, Eager):
            why = f"{part.kernel.name} {part.why}"
            passes.append(Pass([part.kernel.name], n * (_bytes(now, held) + _bytes(then, left)), why))
        elif backend == "triton":
            from robustaug.engine.triton.backend import bytes_moved

            drawn = len(part.steps[0].pick) if part.steps else n
            launches = bytes_moved(part.steps, (drawn, *now), held, left)
            passes += [Pass([does], moved * n // drawn) for does, moved in launches]
        else:
            passes += _passes(part.steps, now, n, held, left)
        now, held = then, left
    passes[-1].does.append(f"store as {str(after).removeprefix('torch.')}")
    return Plan(backend, title, passes, ends)


def _passes(
    steps: Sequence[Step], size: tuple[int, int, int], n: int, dtype: torch.dtype, after: torch.dtype
) -> list[Pass]:
    """Cut steps where an instruction needs the whole image before it, as the CPU's executor does."""
    passes = [Pass(bytes=n * _bytes(size, dtype))]
    maps: list[str] = []

    def cut(why: str = "") -> None:
        if passes[-1].does:
            passes[-1].does += [why] if why else []
            passes[-1].bytes += n * _bytes(size, torch.float32)
            passes.append(Pass(bytes=n * _bytes(size, torch.float32)))

    for step in steps:
        kinds = {kernel.kind for kernel in step.kernels}
        names = " | ".join(dict.fromkeys(kernel.name for kernel in step.kernels))
        if kinds == {"map"}:
            if not maps:
                cut()
            maps.append(names)
            passes[-1].does = [f"resample once through {', '.join(maps)}"]
        else:
            maps = []
            wanted = {"histogram" if k.kind == "equalize" else k.reads.replace("_", " ") for k in step.kernels} - {""}
            if wanted:
                cut(f"measure {', '.join(sorted(wanted))}")
            elif kinds & {"map", "stage", "add"}:
                cut()
            passes[-1].does.append(f"each sample its own of {names}" if len(step.kernels) > 1 else names)
            if kinds & {"stage", "fork", "add"}:
                cut()
        size = step.shape
    made = [part for part in passes if part.does] or [Pass(["convert"], passes[0].bytes)]
    made[-1].bytes += n * _bytes(size, after)
    return made


def _shape(part: Program | Eager) -> tuple[int, int, int] | None:
    if isinstance(part, Eager):
        return part.shape
    return part.steps[-1].shape if part.steps else None


def _bytes(size: Sequence[int], dtype: torch.dtype) -> int:
    return math.prod(size) * dtype.itemsize


def _typed(shape: Sequence[int], dtype: torch.dtype) -> str:
    return f"{str(dtype).removeprefix('torch.')} {' x '.join(map(str, shape))}"


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.3g} {unit}"
        count /= 1000
    raise AssertionError
