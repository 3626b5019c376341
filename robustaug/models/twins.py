"""Two networks of one make behind one face.

Legend: B samples, C H W image, K classes.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from robustaug.models.classifier import Classifier
from robustaug.models.nested import seeded
from robustaug.registry import register


@register("model.twins", tags={"trainable"})
def twins(of: Any, seed: int = 0) -> Classifier:
    """Two networks of the same make with weights of their own, for losses in which they teach each other.

    To everyone but such a loss it is one classifier whose logits are the mean of theirs: an ensemble, which does not
    depend on which of two equals came first, and is attacked and explained as a whole.

    Args:
        of: the model, as `name` or `{name: parameters}`.
        seed: of the first network's weights; the second's are those of seed + 1.

    Raises:
        ValueError: no model, or one of which both would begin the same: its own seed is fixed, or no seed draws it.
    """
    params = next(iter(of.values()), None) if isinstance(of, dict) else None
    if isinstance(params, dict) and "seed" in params:
        raise ValueError("model.twins: of has a seed, so both networks would begin the same; give `seed` to the twins")
    first, second = seeded(of, seed), seeded(of, seed + 1)
    pairs = zip(first.parameters(), second.parameters(), strict=True)
    if all(torch.equal(one, other) for one, other in pairs):
        raise ValueError(
            f"model.twins: both networks of {first.name} would begin the same, as no seed draws their weights; take a "
            "model with fresh weights"
        )
    return _TwinClassifier(_Twins(first, second), num_classes=first.num_classes, name=f"{first.name} twins")


def pair_of(model: nn.Module) -> tuple[Classifier, Classifier]:
    """Return the two networks of a `model.twins`.

    Raises:
        ValueError: another model.
    """
    pair = getattr(getattr(model, "module", None), "pair", None)
    if pair is None:
        raise ValueError(
            f"{getattr(model, 'name', type(model).__name__)} is one network; two are needed: "
            "model: {model.twins: {of: {model.small_cnn: ...}}}"
        )
    first, second = cast(nn.ModuleList, pair)
    return cast(Classifier, first), cast(Classifier, second)


class _TwinClassifier(Classifier):
    @property
    def has_features(self) -> bool:
        return all(network.has_features for network in pair_of(self))

    def logits_and_features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (B, K) and the features of both side by side, (B, 2 D)."""
        (first, left), (second, right) = (network.logits_and_features(x) for network in pair_of(self))
        return (first + second) / 2, torch.cat([left, right], dim=1)


class _Twins(nn.Module):
    def __init__(self, first: Classifier, second: Classifier) -> None:
        super().__init__()
        self.pair = nn.ModuleList([first, second])

    @property
    def members(self) -> nn.ModuleList:
        """Both networks: what a score of their disagreement asks for."""
        return self.pair

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.pair
        return (first(x) + second(x)) / 2
