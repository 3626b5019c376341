"""The operations that the published policies choose from, each with one magnitude; only those chosen are computed.

Magnitudes are those of torchvision's AutoAugment family: shears are slopes about the top left corner, translations
whole pixels, colour changes are added to a factor of 1, bits and thresholds are themselves.

Legend: B samples, C channels, H rows, W columns, T turns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

import torch
from torch import Tensor

from robustaug.ops.image import blur, colour, tone
from robustaug.ops.image.resample import Size, centred, inverse, moved, resample, rotation
from robustaug.ops.operator import Operator, Params
from robustaug.ops.program import MAP_ARGUMENTS, Kernel, Step

GEOMETRIC = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")


def matrix(name: str, size: Size, magnitude: Tensor) -> Tensor:
    """Return (B, 3, 3), output to input, of a geometric operation."""
    if name == "rotate":
        return centred(rotation(magnitude), size)
    out = torch.eye(3, dtype=torch.float64, device=magnitude.device).repeat(len(magnitude), 1, 1)
    by = magnitude.to(torch.float64)
    if name.startswith("shear"):
        row, column = (0, 1) if name == "shear_x" else (1, 0)
        out[:, row, column] = by
        out[:, row, 2] = by / 2  # about the corner of the first pixel, which lies half a pixel off its centre
        return out
    out[:, 0 if name == "translate_x" else 1, 2] = -by.trunc()
    return out


def _enhance(magnitude: Tensor) -> Params:
    return {"factor": 1 + magnitude}


def _nothing(magnitude: Tensor) -> Params:
    return {}


POINTWISE: dict[str, tuple[Operator, Callable[[Tensor], Params]]] = {
    "brightness": (tone.Brightness(), _enhance),
    "color": (colour.Saturation(), _enhance),
    "contrast": (tone.Contrast(), _enhance),
    "sharpness": (blur.Sharpness(), _enhance),
    "posterize": (tone.Posterize(), lambda magnitude: {"bits": magnitude}),
    "solarize": (tone.Solarize(), lambda magnitude: {"threshold": magnitude}),
    "auto_contrast": (tone.AutoContrast(), _nothing),
    "equalize": (tone.Equalize(), _nothing),
    "invert": (tone.Invert(), _nothing),
}
"""For each operation the operator, and what its magnitude means to it."""
OPERATIONS = (*GEOMETRIC, *POINTWISE, "identity")
SIGNED = {*GEOMETRIC, "brightness", "color", "contrast", "sharpness"}


class Chooser(Operator):
    """Base of policies: `turns(params)` says what each sample gets in turn, as positions in OPERATIONS.

    Attributes:
        reach: the greatest magnitude of each operation; a translation below 1 is a share of the side, posterize the
            bits that go.
    """

    name: ClassVar[str] = ""
    reach: ClassVar[Mapping[str, float]] = {}

    def magnitude(self, name: str, level: Tensor, sign: Tensor, size: Size) -> Tensor:
        """Turn a level in [0, 1] and a sign into the operation's magnitude."""
        if name == "posterize":
            return (8 - level * self.reach[name]).round()
        if name == "solarize":
            return 1 - level
        most = self.reach.get(name, 0.0)
        if name.startswith("translate") and most < 1:
            most = most * size[1 if name == "translate_x" else 0]
        return level * most * sign

    def formula(self, image: Tensor, op: Tensor, level: Tensor, sign: Tensor) -> Tensor:
        for turn in range(op.shape[1]):
            image = self.perform(image, op[:, turn], level[:, turn], sign[:, turn])
        return image

    def perform(self, image: Tensor, op: Tensor, level: Tensor, sign: Tensor) -> Tensor:
        """Apply to each sample the operation it chose, (B,) positions in OPERATIONS; -1 leaves it as it is."""
        out, size = image, image.shape[-2:]
        for position in op.unique().tolist():
            name = OPERATIONS[position]
            if position < 0 or _leaves(name, image.shape[1]):
                continue
            chosen = (op == position).nonzero()[:, 0]
            magnitude = self.magnitude(name, level[chosen], sign[chosen], size)
            if name in GEOMETRIC:
                changed = resample(image[chosen], matrix(name, size, magnitude))
            else:
                operator, meaning = POINTWISE[name]
                changed = operator.formula(image[chosen], **meaning(magnitude))
            out = out.index_copy(0, chosen, changed)
        return out

    def lower(self, params: Params, shape: Size, n: int) -> list[Step]:
        return self.turns(params["op"], params["level"], params["sign"], shape)

    def turns(self, op: Tensor, level: Tensor, sign: Tensor, shape: Size) -> list[Step]:
        """Return a step for each turn of op, level and sign (B, T), in which each sample gets its own operation."""
        n, flat, levels, signs = len(op), op.flatten(), level.flatten(), sign.flatten()
        pick, args = torch.full_like(flat, -1), torch.zeros(len(flat), MAP_ARGUMENTS, dtype=torch.float64)
        kernels: list[Kernel] = []
        kept: dict[int, Params] = {}
        for position in flat.unique().tolist():  # all turns at once: what differs is the samples
            name = OPERATIONS[position]
            if position < 0 or _leaves(name, shape[0]):
                continue
            chosen = (flat == position).nonzero()[:, 0]
            magnitude = self.magnitude(name, levels[chosen], signs[chosen], shape[1:])
            if name in GEOMETRIC:
                kernel, columns = Kernel("map", name), matrix(name, shape[1:], magnitude).flatten(1)
            else:
                operator, meaning = POINTWISE[name]
                [step] = operator.lower(meaning(magnitude), shape, len(chosen))
                kernel, columns = step.kernels[0], step.args
                if step.params:
                    kept[len(kernels)] = {
                        key: torch.zeros(len(flat), dtype=drawn.dtype).index_copy(0, chosen, drawn).reshape(op.shape)
                        for key, drawn in step.params[0].items()
                    }
            pick[chosen] = len(kernels)
            args[chosen, : columns.shape[1]] = columns
            kernels.append(kernel)
        C, H, W = shape
        picks, rows = pick.reshape(op.shape), args.reshape(n, op.shape[1], -1)
        return [
            Step(
                tuple(kernels),
                picks[:, turn],
                rows[:, turn],
                (C, H, W),
                {position: {key: drawn[:, turn] for key, drawn in params.items()} for position, params in kept.items()},
            )
            for turn in range(op.shape[1])
        ]

    def trace(self, points: Tensor, size: Size, params: Params) -> Tensor:
        return self._follow(points, size, params, forth=False)

    def carry(self, points: Tensor, size: Size, params: Params) -> Tensor:
        return self._follow(points, size, params, forth=True)

    def _follow(self, points: Tensor, size: Size, params: Params, forth: bool) -> Tensor:
        """Follow positions through the geometric operations; black lies beyond the border."""
        op, level, sign = params["op"], params["level"], params["sign"]
        out = points.to(torch.float64)
        limit = torch.tensor([size[1], size[0]], dtype=torch.float64, device=points.device) - 0.5
        turns = range(op.shape[1])
        for turn in turns if forth else reversed(turns):
            for position, name in enumerate(GEOMETRIC):
                hit = op[:, turn] == position
                chosen = (hit & params["active"] if "active" in params else hit).nonzero()[:, 0]
                if len(chosen) == 0:
                    continue
                way = matrix(name, size, self.magnitude(name, level[chosen, turn], sign[chosen, turn], size))
                there = moved(out[chosen], inverse(way) if forth else way)
                if not forth:
                    lost = ((there < -0.5 - 1e-6) | (there > limit + 1e-6)).any(dim=-1, keepdim=True)
                    there = torch.where(lost, torch.nan, there)
                out = out.index_copy(0, chosen, there)
        return out


def _leaves(name: str, channels: int) -> bool:
    """Return whether an operation changes nothing: colour is what three channels have."""
    return name == "identity" or (name == "color" and channels != 3)


def ranges(shear: float, translate: float, rotate: float, enhance: float, bits: float) -> dict[str, float]:
    """Return `Chooser.reach` for the five numbers in which the published policies differ."""
    enhanced = dict.fromkeys(("brightness", "color", "contrast", "sharpness"), enhance)
    moved_by = {"shear_x": shear, "shear_y": shear, "translate_x": translate, "translate_y": translate}
    return {**moved_by, "rotate": rotate, **enhanced, "posterize": bits}


NARROW = ranges(shear=0.3, translate=150 / 331, rotate=30.0, enhance=0.9, bits=4)
"""AutoAugment's and RandAugment's: translations up to 150 of 331 pixels."""

WIDE = ranges(shear=0.99, translate=32.0, rotate=135.0, enhance=0.99, bits=6)
"""TrivialAugmentWide's: translations up to 32 pixels at any size."""
