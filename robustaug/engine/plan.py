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
        reads, writes: bytes of input and output tensors.
        between: bytes of intermediate images read and written.
        why: why it runs in torch, "" if it is compiled.
    """

    does: list[str] = field(default_factory=list)
    reads: int = 0
    writes: int = 0
    between: int = 0
    why: str = ""


@dataclass(frozen=True)
class Plan:
    """How a batch will run; prints as text.

    Attributes:
        backend: "numba", "triton" or "eager".
        title: input and output.
        passes: in order.
    """

    backend: str
    title: str
    passes: list[Pass]

    @property
    def fell_back(self) -> dict[str, str]:
        """What runs in torch, and why."""
        return {part.does[0]: part.why for part in self.passes if part.why}

    def __str__(self) -> str:
        lines = [f"{self.backend}: {self.title}"]
        for number, part in enumerate(self.passes, 1):
            moved = [f"{_size(n)} {word}" for n, word in ((part.reads, "read"), (part.writes, "written")) if n]
            moved += [f"{_size(part.between)} of intermediate images"] if part.between else []
            lines.append(f"  {number}. {'; '.join(part.does)}" + (f" ({', '.join(moved)})" if moved else ""))
            if part.why:
                lines.append(f"     in torch: {part.why}")
        ends = sum(part.reads + part.writes for part in self.passes)
        between = sum(part.between for part in self.passes)
        lines.append(f"  {_size(ends)} of input and output, {_size(between)} of intermediate images")
        return "\n".join(lines)


def described(
    backend: str, parts: Sequence[Program | Eager], shape: Sequence[int], dtype: torch.dtype, after: torch.dtype
) -> Plan:
    """Return the plan of parts for images of `shape` (B, C, H, W) and `dtype`; the output's dtype is `after`."""
    n, C, H, W = shape
    last = next((p.shape if isinstance(p, Eager) else p.steps[-1].shape for p in reversed(parts) if _shaped(p)), None)
    out = (n, *(last or (C, H, W)))
    title = f"{_typed(shape, dtype)} -> {_typed(out, after)}"
    if backend == "eager":
        return Plan(
            backend, title, [Pass(["the whole pipeline"], why="the eager backend was asked for, or nothing else fits")]
        )
    passes: list[Pass] = []
    size = (C, H, W)
    for part in parts:
        if isinstance(part, Eager):
            moved = 4 * n * (math.prod(size) + math.prod(part.shape))
            passes.append(Pass([part.kernel.name], between=moved, why=f"{part.kernel.name} {part.why}"))
            size = part.shape
            continue
        made = _passes(part.steps, size, n)
        passes += made
        size = part.steps[-1].shape if part.steps else size
    if passes:
        passes[0].reads = n * C * H * W * dtype.itemsize
        passes[-1].writes = math.prod(out) * after.itemsize
        passes[-1].does.append(f"store as {str(after).removeprefix('torch.')}")
    return Plan(backend, title, passes)


def _passes(steps: Sequence[Step], size: tuple[int, int, int], n: int) -> list[Pass]:
    """Cut steps where an instruction needs the whole image before it."""
    passes = [Pass()]
    maps: list[str] = []

    def cut(why: str = "") -> None:
        if passes[-1].does:
            if why:
                passes[-1].does.append(why)
            passes.append(Pass(between=8 * n * math.prod(size)))

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
            wanted = {
                kernel.reads or "histogram" for kernel in step.kernels if kernel.reads or kernel.kind == "equalize"
            }
            if wanted:
                cut(f"measure {', '.join(sorted(w.replace('_', ' ') for w in wanted))}")
            elif kinds & {"map", "stage", "add"}:
                cut()
            passes[-1].does.append(f"each sample its own of {names}" if len(step.kernels) > 1 else names)
            if kinds & {"stage", "fork", "add"}:
                cut()
        size = step.shape
    return [part for part in passes if part.does] or [Pass(["convert"])]


def _shaped(part: Program | Eager) -> bool:
    return isinstance(part, Eager) or bool(part.steps)


def _typed(shape: Sequence[int], dtype: torch.dtype) -> str:
    return f"{str(dtype).removeprefix('torch.')} {' x '.join(map(str, shape))}"


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.3g} {unit}"
        count /= 1000
    raise AssertionError
