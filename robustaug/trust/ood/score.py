"""What every out-of-distribution score offers, and how scores learn from training data in one pass."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from robustaug.trust.ood.evidence import Evidence


class Score:
    """Judges how much samples look like the training data.

    Attributes:
        needs: the fields of `Evidence` that `score` reads.
        learns: the fields of `Evidence` that `learn` reads; empty for a score that needs no training data.
        keeps: the names in `state`.
        state: what was learned, tensors by name: with the parameters it is the whole score. None until `settle`.
    """

    name: ClassVar[str] = ""
    needs: ClassVar[frozenset[str]] = frozenset({"logits"})
    learns: ClassVar[frozenset[str]] = frozenset()
    keeps: ClassVar[frozenset[str]] = frozenset()
    state: dict[str, Tensor] | None = None

    def learn(self, batch: Evidence) -> None:
        """Take in a batch of training data; how the data is cut into batches does not matter."""

    def settle(self) -> None:
        """Turn what was taken in into `state`; after that the score can judge."""

    def score(self, evidence: Evidence) -> np.ndarray:
        """Return (N,) float64, higher where a sample is more in-distribution; NaN where its values are not finite.

        Raises:
            ValueError: not fitted, or the evidence lacks what the score needs.
        """
        raise NotImplementedError

    def _learned(self) -> dict[str, Tensor]:
        if self.state is None:
            raise ValueError(f"{self.name} is not fitted: call ood.fit([score], batches) first")
        return self.state

    def _training_features(self, batch: Evidence) -> Tensor:
        """Return training features (R, D).

        Raises:
            ValueError: none given, or some not finite.
        """
        features = batch.rows("features", self.name)
        if bad := int((~torch.isfinite(features).all(dim=1)).sum()):
            raise ValueError(f"{self.name}: {bad} of {len(features)} training features hold NaN or infinity")
        return features

    def _features(self, evidence: Evidence, width: int) -> Tensor:
        """Return features (N, D) float64 on the CPU, as many a sample as were fitted on."""
        features = evidence.rows("features", self.name)
        if features.shape[1] != width:
            raise ValueError(f"{self.name} was fitted on {width} features a sample, got {features.shape[1]}")
        return features.double().cpu()


def fit(scores: Iterable[Score], batches: Iterable[Evidence]) -> None:
    """Fit scores on training data, all in one pass; only what each keeps of the data is held in memory.

    >>> import numpy as np
    >>> from robustaug import create
    >>> score = create("ood.knn", k=1)
    >>> fit([score], [Evidence(features=np.eye(2)), Evidence(features=-np.eye(2))])
    >>> score.score(Evidence(features=[[3.0, 0.0]])).tolist()
    [-0.0]

    Raises:
        ValueError: the data is too little, not finite, or lacks what a score learns from.
    """
    for error in fit_each(scores, batches).values():
        raise error


def fit_each(scores: Iterable[Score], batches: Iterable[Evidence]) -> dict[str, ValueError]:
    """Fit as `fit` does, and go on where a score cannot be fitted; return the error of each such score by its name."""
    learners = [score for score in scores if score.learns]
    refused: dict[str, ValueError] = {}

    def each(step: Callable[[Score], None]) -> None:
        for score in learners:
            if score.name not in refused:
                try:
                    step(score)
                except ValueError as error:
                    refused[score.name] = error

    for batch in batches if learners else ():
        each(lambda score, batch=batch: score.learn(batch))
        if len(refused) == len(learners):
            break
    each(lambda score: score.settle())
    return refused


def judged(values: Tensor, *rows: Tensor) -> np.ndarray:
    """Return scores (N,) as float64, NaN where a row of what they were computed from holds NaN or infinity."""
    finite = torch.stack([torch.isfinite(part).all(dim=1).cpu() for part in rows]).all(dim=0)
    return torch.where(finite, values.double().cpu(), math.nan).numpy()
