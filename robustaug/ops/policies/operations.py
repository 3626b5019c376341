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


def _saturate(image: Tensor, magnitude: Tensor) -> Tensor:
    # colour is what three channels have
    return colour.Saturation().formula(image, 1 + magnitude) if image.shape[1] == 3 else image


POINTWISE: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "brightness": lambda image, m: tone.Brightness().formula(image, 1 + m),
    "color": _saturate,
    "contrast": lambda image, m: tone.Contrast().formula(image, 1 + m),
    "sharpness": lambda image, m: blur.Sharpness().formula(image, 1 + m),
    "posterize": lambda image, m: tone.Posterize().formula(image, m),
    "solarize": lambda image, m: tone.Solarize().formula(image, m),
    "auto_contrast": lambda image, m: tone.AutoContrast().formula(image),
    "equalize": lambda image, m: tone.Equalize().formula(image),
    "invert": lambda image, m: tone.Invert().formula(image),
    "identity": lambda image, m: image,
}
OPERATIONS = (*GEOMETRIC, *POINTWISE)
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
            if position < 0:
                continue
            chosen = (op == position).nonzero()[:, 0]
            name = OPERATIONS[position]
            magnitude = self.magnitude(name, level[chosen], sign[chosen], size)
            if name in GEOMETRIC:
                changed = resample(image[chosen], matrix(name, size, magnitude))
            else:
                changed = POINTWISE[name](image[chosen], magnitude)
            out = out.index_copy(0, chosen, changed)
        return out

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


def ranges(shear: float, translate: float, rotate: float, enhance: float, bits: float) -> dict[str, float]:
    """Return `Chooser.reach` for the five numbers in which the published policies differ."""
    enhanced = dict.fromkeys(("brightness", "color", "contrast", "sharpness"), enhance)
    moved_by = {"shear_x": shear, "shear_y": shear, "translate_x": translate, "translate_y": translate}
    return {**moved_by, "rotate": rotate, **enhanced, "posterize": bits}


NARROW = ranges(shear=0.3, translate=150 / 331, rotate=30.0, enhance=0.9, bits=4)
"""AutoAugment's and RandAugment's: translations up to 150 of 331 pixels."""

WIDE = ranges(shear=0.99, translate=32.0, rotate=135.0, enhance=0.99, bits=6)
"""TrivialAugmentWide's: translations up to 32 pixels at any size."""
