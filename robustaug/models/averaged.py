"""Several answers to one input, averaged into one: ensembles of networks, of thinned networks, of views.

To everyone else it is one classifier whose logits are the logarithm of the mean probability. It answers the same
input the same way at any time and in any batch: what is random is drawn once for each answer, by its number, and is
the same for every sample. So attacks see the very function that is judged, not a new one at every look.

Legend: S answers, B samples, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn

from robustaug.models.classifier import Classifier
from robustaug.models.nested import seeded
from robustaug.models.text_classifier import TextClassifier
from robustaug.registry import register


class Averaged(nn.Module):
    """Average what `answers` yields."""

    def answers(self, x: Tensor) -> Iterator[Tensor]:
        """Yield S logits (B, K)."""
        raise NotImplementedError(f"{type(self).__name__} must define answers(x)")

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, K)."""
        return log_mean(torch.stack([*self.answers(x)]))


def log_mean(logits: Tensor) -> Tensor:
    """Return the logarithm of the mean over answers of their softmax, (B, K) of (S, B, K).

    Source: Lakshminarayanan et al. 2017, arXiv 1612.01474, section 2.4.

    >>> log_mean(torch.tensor([[[0.0, 0.0]], [[0.0, -float("inf")]]])).exp()
    tensor([[0.7500, 0.2500]])
    """
    return torch.log_softmax(logits, dim=2).logsumexp(dim=0) - math.log(len(logits))


def answers_of(model: nn.Module, x: Tensor) -> Tensor:
    """Return each single answer of an averaged model, logits (S, B, K): what disagreement is read from.

    Raises:
        ValueError: another model.
    """
    if not isinstance(model, Classifier) or not isinstance(model.module, Averaged):
        raise ValueError(  # noqa: TRY004 (another model of the right type is needed)
            f"{getattr(model, 'name', type(model).__name__)} gives one answer; several are needed: model.ensemble, "
            "model.mc_dropout or model.augmented"
        )
    return torch.stack([*model.module.answers(x)])


def part(name: str, of: Any, seed: int) -> Classifier:
    """Make a model that is to be averaged; those of texts cannot be.

    Raises:
        ValueError, TypeError: as `nested.seeded`, or a model of texts.
    """
    model = seeded(of, seed)
    if isinstance(model, TextClassifier):
        raise ValueError(  # noqa: TRY004
            f"{name} takes models of tensors, {model.name!r} takes texts; use it alone"
        )
    return model


@register("model.ensemble", tags={"trainable"})
def ensemble(of: list[Any], seed: int = 0) -> Classifier:
    """Several networks, whose probabilities are averaged: a deep ensemble, or snapshots of one training.

    `model.ensemble: {of: [{model.checkpoint: {path: a.safetensors}}, {model.checkpoint: {path: b.safetensors}}]}`.
    Its features are those of all networks side by side.

    Args:
        of: the models, each as `name` or `{name: parameters}`, two at least.
        seed: of fresh weights; each network's is one more than that of the one before.

    Raises:
        ValueError: fewer than two models, or with different numbers of classes, or trained on data encoded otherwise.
    """
    if not isinstance(of, list) or len(of) < 2:
        raise ValueError(f"model.ensemble: of must be a list of two or more models, got {of!r}")
    members = [part("model.ensemble", spec, seed + at) for at, spec in enumerate(of)]
    classes = {member.num_classes for member in members}
    if len(classes) > 1:
        each = ", ".join(f"{member.name} {member.num_classes}" for member in members)
        raise ValueError(f"model.ensemble: its models must have the same number of classes, got {each}")
    encodings = {member.encoding for member in members if member.encoding}
    if len(encodings) > 1:
        raise ValueError("model.ensemble: its models were trained on samples whose numbers stood for different things")
    made = _EnsembleClassifier(_Ensemble(members), num_classes=members[0].num_classes, name=f"{len(members)} networks")
    made.encoding = next(iter(encodings), "")
    return made


class _EnsembleClassifier(Classifier):
    @property
    def has_features(self) -> bool:
        return all(member.has_features for member in self._members())

    def features(self, x: Tensor) -> Tensor:
        """Return the features of all networks side by side, (B, S D)."""
        return torch.cat([member.features(x) for member in self._members()], dim=1)

    def _members(self) -> list[Classifier]:
        return cast(list[Classifier], [*cast(_Ensemble, self.module).members])


class _Ensemble(Averaged):
    def __init__(self, members: list[Classifier]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def answers(self, x: Tensor) -> Iterator[Tensor]:
        return (cast(Tensor, member(x)) for member in self.members)
