"""Out-of-distribution scores made ready for a run: fitted on training features where they need them."""

from __future__ import annotations

import torch

from robustaug import registry
from robustaug.data.source import Source
from robustaug.evaluate.measure import logits_and_features
from robustaug.models.classifier import Classifier


def fit_scores(
    model: Classifier, names: list[str], train: Source | None, batch_size: int, device: torch.device
) -> dict:
    """Create the named scores and fit those that need training features.

    Returns:
        Scores by short name. A score that cannot be had (no training data, or a model without features) is
        left out; `missing_scores` says why in words.
    """
    scores = {name.removeprefix("ood."): registry.create(name) for name in names}
    if any(score.needs == "features" for score in scores.values()):
        if train is None or not model.has_features:
            return {name: score for name, score in scores.items() if score.needs == "logits"}
        _, _, features = logits_and_features(model, train, batch_size, device, features=True)
        for score in scores.values():
            if score.needs == "features":
                score.fit(features)
    return scores


def missing_scores(model: Classifier, names: list[str], train: Source | None) -> list[str]:
    """Say, one sentence a score, which of `names` cannot be measured and why."""
    reason = (
        "no training data was given (data.train)"
        if train is None
        else None
        if model.has_features
        else f"model {model.name!r} shows no features"
    )
    needy = [name for name in names if registry.create(name).needs == "features"]
    return [f"{name} was not measured: {reason}." for name in needy] if reason else []
