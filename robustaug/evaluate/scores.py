"""Out-of-distribution scores made ready for a run, and what its limits say of them."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from robustaug import registry
from robustaug.data.source import Source, batches
from robustaug.evaluate.records import Cell
from robustaug.models.classifier import Classifier
from robustaug.trust import ood

Specs = list[str | dict[str, dict[str, Any] | None]]
"""Scores as a suite names them: each `name` or `{name: parameters}`."""
_TRIED = 8  # samples that show whether a model gives what a score needs


def short_name(spec: Any) -> str:
    """Return what records call a score: its name without the family."""
    return registry.spec_name(spec).removeprefix("ood.")


def named_score(names: Sequence[str]) -> str:
    """Return the score that stands for all where one must: energy, or the first there is."""
    return "energy" if "energy" in names else names[0]


def ready_scores(
    model: Classifier, specs: Specs, train: Source | None, test: Source, device: torch.device
) -> tuple[dict[str, ood.Score], list[str]]:
    """Create the scores that can be had of a model and its data; those that learn are not fitted yet.

    Returns:
        Scores by short name, and a sentence on each that cannot be had.
    """
    if not specs:
        return {}, []
    few = next(batches(test.subset(range(min(_TRIED, len(test)))), _TRIED), None)
    x = None if few is None else test.as_input(few.image, device)
    found: dict[str, ood.Score] = {}
    missing: list[str] = []
    for spec in specs:
        score: ood.Score = registry.make(spec, "score")
        reason = "no training data was given (data.train)" if score.learns and train is None else ""
        if not reason and x is not None:
            reason = ood.lacking(score.needs | score.learns, model, x)
        if reason:
            missing.append(f"{score.name} was not measured: {reason}.")
        else:
            found[short_name(spec)] = score
    return found, missing


def fit_scores(
    scores: dict[str, ood.Score], model: Classifier, train: Source | None, batch_size: int, device: torch.device
) -> tuple[dict[str, ood.Score], dict[str, str]]:
    """Fit all scores that learn in one pass over the training data.

    Returns:
        The scores that can judge, and for each that this data cannot fit the reason, by short name.
    """
    wanted = frozenset[str]().union(*(score.learns for score in scores.values()))
    if not wanted:
        return scores, {}
    assert train is not None, "a score that learns is ready only where there is training data"
    refused = ood.fit_each(scores.values(), ood.observed(model, train, batch_size, device, wanted))
    reasons = {short: str(refused[score.name]) for short, score in scores.items() if score.name in refused}
    return {short: score for short, score in scores.items() if short not in reasons}, reasons


def unfit_limits(model: str, reasons: Mapping[str, str]) -> list[str]:
    """Say which scores were left out because the training data could not fit them."""
    return [
        f"{model}: ood.{short} was not measured: the training data cannot fit it "
        f"({reason.removeprefix(f'ood.{short}: ').removesuffix('.')})."
        for short, reason in reasons.items()
    ]


def scored(
    model: Classifier, scores: dict[str, ood.Score], x: Any, more: Collection[str] = ()
) -> tuple[ood.Evidence, dict[str, np.ndarray]]:
    """Return what was seen of a batch, its logits at least, and each of its scores, (B,) float64, by their columns.

    One forward pass gives all, but for scores that ask the model again.

    Args:
        more: fields of the evidence that are wanted besides what the scores need.
    """
    evidence = ood.observe(model, x, frozenset(more).union(*(score.needs for score in scores.values())))
    return evidence, {f"score_{name}": score.score(evidence) for name, score in scores.items()}


def score_limits(model: str, cells: list[Cell]) -> list[str]:
    """Say, a sentence a score, on which sources it does worse than the plain greatest probability, or cannot judge.

    Args:
        cells: of kind "ood", of this model.
    """
    worse: dict[str, list[str]] = {}
    blind: dict[str, list[str]] = {}
    for cell in cells:
        found = {key.removesuffix("_auroc"): value for key, value in cell.metrics.items() if key.endswith("_auroc")}
        plain = found.get("msp", math.nan)
        for name, value in sorted(found.items()):
            if value < plain and f"{value:.3f}" != f"{plain:.3f}":  # 0.978 against 0.978 warns of nothing
                worse.setdefault(name, []).append(f"{cell.scenario} ({value:.3f} against {plain:.3f})")
            elif math.isnan(value):
                blind.setdefault(name, []).append(cell.scenario)
    return [
        f"{model}: ood.{name} tells foreign data apart less well than plain ood.msp, by AUROC, on {', '.join(where)}."
        for name, where in worse.items()
    ] + [f"{model}: ood.{name} gave NaN for some samples of {', '.join(where)}." for name, where in blind.items()]
