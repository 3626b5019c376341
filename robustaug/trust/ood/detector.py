"""A detector to deploy: which samples a person should look at, at a stated share of known data.

Legend: N samples.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from scipy.stats import betabinom

from robustaug import atomic, registry
from robustaug.data.source import Source, batches
from robustaug.models.classifier import Classifier, require_eval
from robustaug.models.fingerprint import model_fingerprint
from robustaug.parameters import spec_of
from robustaug.trust.ood.evidence import observe
from robustaug.trust.ood.flagged import Flagged
from robustaug.trust.ood.score import Score


@dataclass(frozen=True)
class Detector:
    """Flags samples whose score is below a threshold, or cannot be computed; made by `calibrated` or `load`.

    Attributes:
        model: in eval mode.
        score: fitted on the model's training data.
        threshold: a sample passes with a score of at least this.
        review_rate: the share of known data that may be flagged, in (0, 1).
        known: how many known samples the threshold was read off.
        classes: names, in the order of the logits; numbers where empty.
        batch_size: samples a forward pass.
        shape: of a sample, as `Source.shape`; empty where it is not known.
    """

    model: Classifier
    score: Score
    threshold: float
    review_rate: float
    known: int
    classes: tuple[str, ...] = ()
    batch_size: int = 256
    shape: tuple[int, ...] = ()

    @classmethod
    def calibrated(
        cls,
        model: Classifier,
        score: Score,
        known: Any,
        review_rate: float,
        classes: Sequence[str] = (),
        batch_size: int = 256,
    ) -> Detector:
        """Choose the threshold on known data, so that at most `review_rate` of further known data is flagged.

        The threshold is the r-th lowest of the n scores, r = floor(review_rate (n + 1)): a further sample of the same
        kind is below it with a chance of r / (n + 1) at most, in the mean over draws of the known data.

        Args:
            known: (n, ...) inputs as the model takes them, of data that neither the model nor the score was fitted on.

        Raises:
            ValueError: the rate is outside (0, 1), too few known samples for it, or too many that cannot be judged.
        """
        detector = cls(model, score, math.nan, _rate(review_rate), 0, tuple(classes), batch_size)
        return detector._calibrated(detector._judge(known)[0])

    @classmethod
    def calibrated_on(
        cls,
        model: Classifier,
        score: Score,
        known: Source,
        review_rate: float,
        device: torch.device,
        batch_size: int = 256,
    ) -> Detector:
        """Choose the threshold on a source that is read batch by batch, so that it need not fit in memory.

        Raises:
            ValueError: as `calibrated`.
        """
        shape = tuple(known.shape)
        detector = cls(model, score, math.nan, _rate(review_rate), 0, tuple(known.classes), batch_size, shape)
        read = (known.as_input(batch.image, device) for batch in batches(known, batch_size))
        return detector._calibrated(np.concatenate([detector._judge(x)[0] for x in read]))

    def _calibrated(self, scores: np.ndarray) -> Detector:
        """Return the same with the threshold that (n,) scores of known samples give."""
        n, rate = len(scores), self.review_rate
        rank = _rank(rate, n)
        if rank < 1:
            least = math.ceil(1 / rate - 1e-9) - 1
            raise ValueError(f"a review_rate of {rate:g} needs at least {least} known samples, got {n}")
        threshold = float(np.sort(np.where(np.isnan(scores), -np.inf, scores))[rank - 1])
        if not math.isfinite(threshold):
            bad = int((~np.isfinite(scores)).sum())
            raise ValueError(
                f"{self.score.name}: {bad} of {n} known samples have no finite score, more than the {rank} that a "
                f"review_rate of {rate:g} allows; use another score"
            )
        return replace(self, threshold=threshold, known=n)

    def flag(self, inputs: Any, index: Iterable[int] | None = None) -> Flagged:
        """Judge samples.

        Args:
            inputs: (N, ...) as the model takes them.
            index: (N,) what to call them; 0 to N - 1 when left out.

        Raises:
            ValueError: as many indices as samples were not given, or the model is in train mode.
        """
        numbers = np.arange(len(inputs)) if index is None else np.array([*index], dtype=np.int64)
        if len(numbers) != len(inputs):
            raise ValueError(f"index must name each sample, got {len(numbers)} for {len(inputs)}")
        scores, prediction = self._judge(inputs)
        names = tuple(self.classes[p] if p < len(self.classes) else str(p) for p in prediction.tolist())
        return Flagged(numbers, scores, self.threshold, prediction, names, ~(scores >= self.threshold))

    def screen(self, source: Source, device: torch.device) -> Flagged:
        """Judge all readable samples of a source, batch by batch; the others are in its quarantine.

        Raises:
            ValueError: samples of another shape than the known ones, or none that can be read.
        """
        if self.shape and tuple(source.shape) != self.shape:
            raise ValueError(
                f"{source.name} has samples of shape {tuple(source.shape)}, the detector knows {self.shape}; set the "
                "source's size and channels to match"
            )
        parts = []
        for batch in batches(source, self.batch_size):
            found = self.flag(source.as_input(batch.image, device), batch.index.tolist())
            places = tuple(source.images.path(index) for index in batch.index.tolist())
            parts.append(replace(found, place=places))
        if not parts:
            raise ValueError(f"{source.name} holds no readable sample")
        return Flagged.joined(parts)

    def surprise(self, flagged: Flagged) -> float:
        """Return the chance of so many flagged samples, or more, among as many known ones: a small one says change.

        The threshold is the r-th lowest of n known scores, so of m further ones of the same kind as many are below it
        as a beta-binomial law of m, r and n + 1 - r says; ties only make that fewer.
        """
        rank, count = _rank(self.review_rate, self.known), int(flagged.flagged.sum())
        return float(betabinom.sf(count - 1, len(flagged), rank, self.known + 1 - rank))

    def save(self, path: str | PathLike[str]) -> None:
        """Write everything but the model, as safetensors: what the score learned, its parameters, the threshold."""
        described = {
            "score": spec_of(self.score),
            "threshold": self.threshold,
            "review_rate": self.review_rate,
            "known": self.known,
            "classes": self.classes,
            "batch_size": self.batch_size,
            "shape": self.shape,
            "model": model_fingerprint(self.model),
        }
        state = {key: value.cpu().contiguous() for key, value in (self.score.state or {}).items()}
        with atomic.replacing(path) as aside:
            save_file(state, aside, metadata={"robustaug.detector": json.dumps(described)})

    @classmethod
    def load(cls, path: str | PathLike[str], model: Classifier) -> Detector:
        """Read a detector of this model; nothing in the file can run code.

        Raises:
            FileNotFoundError: no such file.
            ValueError: it is no detector, or one of another model.
        """
        try:
            with safe_open(path, framework="pt") as file:
                described = json.loads((file.metadata() or {})["robustaug.detector"])
                state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)
            score: Score = registry.make(described["score"], "score")
            found = cls(
                model,
                score,
                float(described["threshold"]),
                float(described["review_rate"]),
                int(described["known"]),
                tuple(str(name) for name in described["classes"]),
                int(described["batch_size"]),
                tuple(int(extent) for extent in described["shape"]),
            )
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} holds no detector as Detector.save writes it: {error}") from None
        if set(state) != score.keeps:
            raise ValueError(f"{path}: {score.name} keeps {sorted(score.keeps)}, the file holds {sorted(state)}")
        if described["model"] != model_fingerprint(model):
            raise ValueError(f"{path} was made for a model of other weights than {model.name!r}; calibrate a new one")
        if score.learns:
            score.state = state
        return found

    def _judge(self, inputs: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return scores (N,) and predicted classes (N,)."""
        require_eval(self.model)
        scores, predictions = [np.zeros(0)], [np.zeros(0, dtype=np.int64)]
        for start in range(0, len(inputs), self.batch_size):
            x = inputs[start : start + self.batch_size]
            evidence = observe(self.model, x, self.score.needs)
            scores.append(self.score.score(evidence))
            predictions.append(torch.as_tensor(evidence.logits).argmax(dim=1).numpy())
        return np.concatenate(scores), np.concatenate(predictions)


def _rank(review_rate: float, n: int) -> int:
    return math.floor(review_rate * (n + 1) + 1e-9)  # 0.07 * 100 is a little over 7, others are a little under


def _rate(review_rate: float) -> float:
    if not 0 < review_rate < 1:
        raise ValueError(f"review_rate must be in (0, 1), got {review_rate!r}; write 0.05 for 5 %")
    return review_rate
