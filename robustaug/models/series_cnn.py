"""A small convolutional network for series of any length."""

from __future__ import annotations

from torch import nn

from robustaug.models.classifier import Classifier
from robustaug.parameters import check_count
from robustaug.registry import register
from robustaug.rng import torch_seed

_REACH = (7, 5, 3)  # steps that each layer sees: wide ones first, as published
_TIMES = (1, 2, 1)


@register("model.series_cnn", modality="signal", tags={"trainable"})
def series_cnn(channels: int = 1, classes: int = 2, width: int = 16, seed: int = 0) -> Classifier:
    """Three convolutions along time with batch normalisation and ReLU, the mean over time, one linear layer.

    Source: Wang et al. 2017, arXiv:1611.06455, section II.B (FCN), whose width is 128 and first convolution 8 wide.

    Args:
        channels: C of series (B, C, T).
        classes: number of logits, K >= 2.
        width: channels of the first and the last layer; the middle one has twice as many.
        seed: of the initial weights.

    Raises:
        ValueError: a number out of range.
    """
    for key, value, least in (("channels", channels, 1), ("classes", classes, 2), ("width", width, 1)):
        check_count("model.series_cnn", key, value, least)
    with torch_seed(seed):
        layers: list[nn.Module] = []
        before = channels
        for reach, times in zip(_REACH, _TIMES, strict=True):
            after = times * width
            layers += [
                nn.Conv1d(before, after, reach, padding=reach // 2, bias=False),
                nn.BatchNorm1d(after),
                nn.ReLU(),
            ]
            before = after
        layers += [nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(before, classes)]
        return Classifier(nn.Sequential(*layers), num_classes=classes, name="series_cnn")
