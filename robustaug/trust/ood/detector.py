"""A detector to deploy: which samples a person should look at, at a stated share of known data.

Legend: N samples.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from robustaug import atomic, registry
from robustaug.models.classifier import Classifier, require_eval
from robustaug.models.fingerprint import model_fingerprint
from robustaug.parameters import spec_of
from robustaug.trust.ood.evidence import observe
from robustaug.trust.ood.score import Score

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")  # what a spreadsheet reads as the start of a formula


@dataclass(frozen=True)
class Flagged:
    """A table of samples, the columns of which are what a reviewer needs.

    Attributes:
        index: (N,) int64, which sample.
        score: (N,) float64; lower is more foreign, NaN could not be judged.
        threshold: what a score must reach for the sample to pass.
        prediction: (N,) int64, the predicted class.
        predicted_class: N names of it.
        flagged: (N,) bool, to be reviewed.
    """

    index: np.ndarray
    score: np.ndarray
    threshold: float
    prediction: np.ndarray
    predicted_class: tuple[str, ...]
    flagged: np.ndarray

    def __len__(self) -> int:
        return len(self.index)

    def review(self) -> Flagged:
        """Return the flagged samples alone, the most foreign first; what could not be judged comes before them."""
        score = np.where(np.isnan(self.score), -np.inf, self.score)
        rows = np.argsort(score, kind="stable")
        rows = rows[self.flagged[rows]]
        names = tuple(self.predicted_class[row] for row in rows)
        return Flagged(
            self.index[rows], self.score[rows], self.threshold, self.prediction[rows], names, self.flagged[rows]
        )

    def write_csv(self, path: str | PathLike[str]) -> None:
        """Write a row a sample, whole or not at all.

        A class name that a spreadsheet would run as a formula gets an apostrophe in front.
        """
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["index", "score", "threshold", "predicted_class", "flagged"])
        columns = (self.index.tolist(), self.score.tolist(), self.predicted_class, self.flagged.tolist())
        for index, score, name, flagged in zip(*columns, strict=True):
            shown = f"'{name}" if name.startswith(_FORMULA) else name
            writer.writerow([index, repr(score), repr(self.threshold), shown, "yes" if flagged else "no"])
        # class names need not be valid UTF-8
        atomic.write_text(path, text.getvalue().encode("utf-8", "backslashreplace").decode("utf-8"))


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
    """

    model: Classifier
    score: Score
    threshold: float
    review_rate: float
    known: int
    classes: tuple[str, ...] = ()
    batch_size: int = 256

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
        if not 0 < review_rate < 1:
            raise ValueError(f"review_rate must be in (0, 1), got {review_rate!r}; write 0.05 for 5 %")
        detector = cls(model, score, math.nan, review_rate, len(known), tuple(classes), batch_size)
        n = len(known)
        rank = math.floor(review_rate * (n + 1) + 1e-9)  # 0.07 * 100 is a little over 7, others are a little under
        if rank < 1:
            least = math.ceil(1 / review_rate - 1e-9) - 1
            raise ValueError(f"a review_rate of {review_rate:g} needs at least {least} known samples, got {n}")
        scores, _ = detector._judge(known)
        threshold = float(np.sort(np.where(np.isnan(scores), -np.inf, scores))[rank - 1])
        if not math.isfinite(threshold):
            bad = int((~np.isfinite(scores)).sum())
            raise ValueError(
                f"{score.name}: {bad} of {n} known samples have no finite score, more than the {rank} that a "
                f"review_rate of {review_rate:g} allows; use another score"
            )
        return cls(model, score, threshold, review_rate, n, tuple(classes), batch_size)

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

    def save(self, path: str | PathLike[str]) -> None:
        """Write everything but the model, as safetensors: what the score learned, its parameters, the threshold."""
        described = {
            "score": spec_of(self.score),
            "threshold": self.threshold,
            "review_rate": self.review_rate,
            "known": self.known,
            "classes": self.classes,
            "batch_size": self.batch_size,
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
