"""A small convolutional network: quick to train on two CPU cores, from 8x8 digits to 32x32 photographs."""

from __future__ import annotations

from torch import nn

from robustaug.models.classifier import Classifier
from robustaug.parameters import check_count
from robustaug.registry import register
from robustaug.rng import torch_seed

WIDTHS = (1, 1, 2, 2, 4)  # times `width`
STRIDE_FROM = (64, 4, 128, 8, 256)  # a layer halves the picture when `size` is at least this: about 8x8 is left of 32


@register("model.small_cnn", tags={"trainable"})
def small_cnn(channels: int = 1, classes: int = 10, width: int = 16, size: int = 8, seed: int = 0) -> Classifier:
    """Five 3x3 convolutions with batch normalisation and ReLU, average pooling, one linear layer.

    Args:
        channels: of the images.
        classes: number of logits, K >= 2.
        width: channels of the first layer; the last has four times as many.
        size: rows and columns of the images, >= 1; other sizes work, this one sets the strides.
        seed: of the initial weights.

    Raises:
        ValueError: a number out of range.
    """
    for key, value, least in (
        ("channels", channels, 1),
        ("classes", classes, 2),
        ("width", width, 1),
        ("size", size, 1),
    ):
        check_count("model.small_cnn", key, value, least)
    with torch_seed(seed):
        layers: list[nn.Module] = []
        before = channels
        for times, limit in zip(WIDTHS, STRIDE_FROM, strict=True):
            after = times * width
            layers += [
                nn.Conv2d(before, after, 3, stride=2 if size >= limit else 1, padding=1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(),
            ]
            before = after
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, classes)]
        return Classifier(nn.Sequential(*layers), num_classes=classes, name="small_cnn")
