"""Dropout that goes on when the model is used: the average over thinned networks.

Legend: S draws, B samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustaug.models.averaged import Averaged, part
from robustaug.models.classifier import Classifier
from robustaug.parameters import check_count
from robustaug.registry import register
from robustaug.rng import Keys, uniform_field

_WHOLE_CHANNELS = (nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)


@register("model.mc_dropout", tags={"trainable"})
def mc_dropout(of: Any, draws: int = 16, seed: int = 0) -> Classifier:
    """A model with dropout, used `draws` times with other units left out, whose probabilities are averaged.

    Which units each draw leaves out follows from the seed, the draw's number and the layer, and is the same for every
    sample: a fixed set of thinned networks. In training it is the model with ordinary dropout. Its features are those
    of the last draw.
    Source: Gal and Ghahramani 2016, arXiv 1506.02142, equation 6.

    Args:
        of: the model, as `name` or `{name: parameters}`; its dropout layers (`nn.Dropout`, 1d to 3d) must have the
            samples in their first dimension.
        draws: S >= 1.
        seed: of the draws, and of fresh weights.

    Raises:
        ValueError: a number out of range, or a model without such a layer, or with alpha dropout.
    """
    check_count("model.mc_dropout", "draws", draws)
    model = part("model.mc_dropout", of, seed)
    layers = [
        (name, layer) for name, layer in model.named_modules() if isinstance(layer, nn.modules.dropout._DropoutNd)
    ]
    other = [name for name, layer in layers if not isinstance(layer, (nn.Dropout, *_WHOLE_CHANNELS))]
    if other:
        raise ValueError(f"model.mc_dropout: layer {other[0]!r} of {model.name} is alpha dropout, which it cannot draw")
    if not any(layer.p > 0 for _, layer in layers):
        raise ValueError(f"model.mc_dropout: {model.name} has no nn.Dropout layer that leaves anything out")
    for name, layer in layers:
        model.set_submodule(name, _DrawnDropout(layer.p, isinstance(layer, _WHOLE_CHANNELS), seed, name))
    made = Classifier(_McDropout(model, draws), num_classes=model.num_classes, name=f"{model.name} mc_dropout")
    made.encoding = model.encoding
    return made


class _McDropout(Averaged):
    def __init__(self, model: Classifier, draws: int) -> None:
        super().__init__()
        self.model, self.draws = model, draws
        self.training = model.training

    def answers(self, x: Tensor) -> Iterator[Tensor]:
        layers = [layer for layer in self.modules() if isinstance(layer, _DrawnDropout)]
        for draw in range(1 if self.training else self.draws):
            for layer in layers:
                layer.draw = draw
            yield self.model(x)

    def extra_repr(self) -> str:
        return f"draws={self.draws}"


class _DrawnDropout(nn.Module):
    """Dropout whose mask follows from the number of the draw, one for all samples."""

    def __init__(self, p: float, whole_channels: bool, seed: int, name: str) -> None:
        super().__init__()
        self.p, self.whole_channels, self.seed, self.name = p, whole_channels, seed, name
        self.draw = 0

    def forward(self, x: Tensor) -> Tensor:
        shape = (x.shape[1], *[1] * (x.ndim - 2)) if self.whole_channels else x.shape[1:]
        if self.training and self.whole_channels:
            return x * F.dropout(x.new_ones(len(x), *shape), self.p)
        if self.training:
            return F.dropout(x, self.p)
        if self.p >= 1:
            return torch.zeros_like(x)
        keys = Keys.of(self.seed, [self.draw]).fold("model.mc_dropout").fold(self.name)
        kept = uniform_field(keys.to(x.device).rows(), shape) >= self.p
        return x * kept / (1 - self.p)

    def extra_repr(self) -> str:
        return f"p={self.p:g}, seed={self.seed}"
