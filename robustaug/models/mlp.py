"""A network of linear layers, for rows of a table."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from robustaug.models.classifier import Classifier
from robustaug.parameters import check_count, check_share
from robustaug.registry import register
from robustaug.rng import torch_seed


class _First(nn.Linear):
    """The first layer, which knows how many numbers a row should have."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (the name in torch)
        if input.ndim != 2 or input.shape[1] != self.in_features:
            raise ValueError(
                f"model.mlp takes rows of {self.in_features} numbers, got shape {tuple(input.shape)}; "
                f"set features={input.shape[-1]}"
            )
        return super().forward(input)


@register("model.mlp", modality="tabular", tags={"trainable"})
def mlp(
    features: int, classes: int = 2, widths: Sequence[int] = (64, 64), dropout: float = 0.0, seed: int = 0
) -> Classifier:
    """Linear layers with ReLU and dropout between them.

    Args:
        features: numbers a row, as the source's shape says.
        classes: number of logits, K >= 2.
        widths: of the layers between; none for a linear model.
        dropout: chance in [0, 1) behind each of them.
        seed: of the initial weights.

    Raises:
        ValueError: a number out of range; in use, rows of another length.
    """
    for key, value, least in (("features", features, 1), ("classes", classes, 2), *(("widths", w, 1) for w in widths)):
        check_count("model.mlp", key, value, least)
    check_share("model.mlp", "dropout", dropout, whole=False)
    with torch_seed(seed):
        layers: list[nn.Module] = []
        before = features
        for width in (*widths, classes):
            layers += [(nn.Linear if layers else _First)(before, width), nn.ReLU(), nn.Dropout(dropout)]
            before = width
        return Classifier(nn.Sequential(*layers[:-2]), num_classes=classes, name="mlp")
