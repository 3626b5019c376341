"""Operators that change each pixel by itself, written once: eager torch, Numba and Triton compile the same formula.

A formula is a plain function of floating numbers in the words below, arithmetic and comparisons; `&` and `|` join
conditions. Names of other such functions and of numbers may be used in it; branches and loops may not.

Legend: B samples, C channels, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from robustaug.ops.operator import Operator, rows
from robustaug.ops.program import Kernel, Step
from robustaug.rng import normal_field, uniform_field

Number = Any
"""A tensor in eager torch, a scalar in Numba, a block in Triton."""


def where(condition: Number, yes: Number, no: Number) -> Number:
    """Return `yes` where the condition holds, `no` elsewhere; both are computed."""
    return torch.where(condition, yes, no)


def clip(x: Number) -> Number:
    """Return x, at least 0 and at most 1."""
    return x.clamp(0, 1)


def maximum(a: Number, b: Number) -> Number:
    """Return the greater one."""
    return torch.maximum(a, b) if isinstance(b, Tensor) else a.clamp(min=b)


def minimum(a: Number, b: Number) -> Number:
    """Return the smaller one."""
    return torch.minimum(a, b) if isinstance(b, Tensor) else a.clamp(max=b)


def floor(x: Number) -> Number:
    """Return the greatest whole number that is not above x."""
    return torch.floor(x)


def nearest(x: Number) -> Number:
    """Return the nearest whole number, the even one of two."""
    return torch.round(x)


def exp(x: Number) -> Number:
    """Return e to the power x."""
    return torch.exp(x)


def power(x: Number, y: Number) -> Number:
    """Return x to the power y, for x > 0."""
    return x**y


WORDS: tuple[Callable[..., Any], ...] = (where, clip, maximum, minimum, floor, nearest, exp, power)
"""What a formula may call; every backend has its own of each."""

RED, GREEN, BLUE = 0.2989, 0.587, 0.114
"""Weights of the channels in grey (ITU-R BT.601, as PIL and torchvision)."""


def luma(red: Number, green: Number, blue: Number) -> Number:
    """Return the grey of a colour."""
    return RED * red + GREEN * green + BLUE * blue


def grey(image: Tensor) -> Tensor:
    """Return (B, 1, H, W): luma for three channels, otherwise the plain mean of the channels."""
    if image.shape[1] != 3:
        return image.mean(dim=1, keepdim=True)
    return luma(*image.split(1, dim=1))


def is_colour(name: str, channels: int) -> bool:
    """Return whether there are three channels, False for one.

    Raises:
        ValueError: any other number, which operator `name` cannot read.
    """
    if channels not in (1, 3):
        raise ValueError(
            f"{name} needs 3 channels (red, green, blue), or 1, which it leaves as it is; got {channels} channels"
        )
    return channels == 3


READERS: dict[str, Callable[[Tensor], Sequence[Tensor]]] = {
    "": lambda image: (),
    "grey_mean": lambda image: (grey(image).mean(dim=(1, 2, 3), keepdim=True),),
    "channel_mean": lambda image: (image.mean(dim=(2, 3), keepdim=True),),
    "channel_range": lambda image: (image.amin(dim=(2, 3), keepdim=True), image.amax(dim=(2, 3), keepdim=True)),
}
DRAWERS: dict[str, Callable[..., Tensor]] = {"normal": normal_field, "uniform": uniform_field}


class Pixelwise(Operator):
    """Base of operators with a formula: a subclass defines `value` or `pixel` as a static method.

    `value(x, *arguments)` changes one channel value, for any number of channels. `pixel(red, green, blue,
    *arguments)` returns the three new ones; a one-channel image stays as it is, any other number is refused.

    Attributes:
        reads, draws: see `robustaug.ops.program.Kernel`; a field is drawn by the operator's only key parameter.
    """

    name: ClassVar[str] = ""
    reads: ClassVar[str] = ""
    draws: ClassVar[str] = ""
    value: ClassVar[Callable[..., Any] | None] = None
    pixel: ClassVar[Callable[..., Any] | None] = None

    def arguments(self, **params: Tensor) -> list[Tensor]:
        """Return what the formula gets, (B,) each: the drawn parameters in their order, the key left out."""
        return [params[key] for key, space in self.declared.items() if space.distribution != "key"]

    def formula(self, image: Tensor, **params: Tensor) -> Tensor:
        arguments = [rows(a).to(image.dtype) for a in self.arguments(**params)]
        if self.value is None:
            if not is_colour(self.name, image.shape[1]):
                return image
            assert self.pixel is not None
            return torch.cat(self.pixel(*image.split(1, dim=1), *arguments), dim=1)
        arguments += READERS[self.reads](image)
        if self.draws:
            arguments.append(DRAWERS[self.draws](self._key(params), image.shape[1:]))
        return self.value(image, *arguments)

    def lower(self, params: dict[str, Tensor], shape: Sequence[int], n: int) -> list[Step]:
        if self.value is None and not is_colour(self.name, shape[0]):
            return []
        form = "pixel" if self.value is None else "value"
        kernel = Kernel(form, self.name, self.value or self.pixel, self.reads, self.draws)
        key = [self._key(params)] if self.draws else []
        return [Step.of(kernel, [*self.arguments(**params), *key], shape, n)]

    def _key(self, params: dict[str, Tensor]) -> Tensor:
        [key] = [value for name, value in params.items() if self.declared[name].distribution == "key"]
        return key
