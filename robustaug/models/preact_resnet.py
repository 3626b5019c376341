"""Pre-activation ResNet-18 for 32x32 images, the usual network of adversarial-training papers.

He et al. 2016, "Identity mappings in deep residual networks", arXiv:1603.05027: normalise and activate before each
convolution, so that the shortcut stays clean. CIFAR form: a 3x3 stem without pooling, four stages of two blocks.

Legend: B samples, C channels, H rows, W columns.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from robustaug.models.classifier import Classifier
from robustaug.parameters import check_count
from robustaug.registry import register
from robustaug.rng import torch_seed

STAGES = ((1, 1), (2, 2), (4, 2), (8, 2))  # width factor and stride of each stage


class PreActBlock(nn.Module):
    """Two 3x3 convolutions, each after normalisation and ReLU, around a shortcut."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(before)
        self.conv1 = nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        same = stride == 1 and before == after
        self.shortcut = None if same else nn.Conv2d(before, after, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, after, H / stride, W / stride)."""
        active = F.relu(self.norm1(x))
        # a projected shortcut starts from the activated input, an identity from the raw one
        shortcut = x if self.shortcut is None else self.shortcut(active)
        out = self.conv1(active)
        return self.conv2(F.relu(self.norm2(out))) + shortcut


@register("model.preact_resnet18", tags={"trainable"})
def preact_resnet18(
    channels: int = 3,
    classes: int = 10,
    width: int = 64,
    mean: list[float] | None = None,
    std: list[float] | None = None,
    seed: int = 0,
) -> Classifier:
    """Pre-activation ResNet-18 in its CIFAR form: 11.2 million weights at width 64.

    Args:
        channels: of the images.
        classes: number of logits, K >= 2.
        width: channels of the first stage; 64 in the paper.
        mean, std: normalisation inside the model, one a channel; none when left out.
        seed: of the initial weights.

    Raises:
        ValueError: a number out of range.
    """
    for key, value, least in (("channels", channels, 1), ("classes", classes, 2), ("width", width, 1)):
        check_count("model.preact_resnet18", key, value, least)
    with torch_seed(seed):
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1, bias=False)]
        before = width
        for factor, stride in STAGES:
            after = factor * width
            layers += [PreActBlock(before, after, stride), PreActBlock(after, after, 1)]
            before = after
        layers += [nn.BatchNorm2d(before), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, classes)]
        return Classifier(nn.Sequential(*layers), mean, std, classes, "preact_resnet18")
