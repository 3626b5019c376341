"""What cells are measured with, and what all kinds of cells share.

Legend: N samples, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from robustaug.data.shared import shared
from robustaug.data.source import Batch, Source, batches
from robustaug.evaluate.suite import Plan, make_operator
from robustaug.models.classifier import Classifier
from robustaug.ops.operator import Operator
from robustaug.ops.tabular.table import TABLES, check_in_place
from robustaug.pipeline import fitted
from robustaug.rng import Keys, subset
from robustaug.trust.conformal import ConformalSets

Columns = dict[str, np.ndarray]
T = TypeVar("T")


class Measured(NamedTuple):
    """Per-sample columns, figures, and example images of one cell.

    Attributes:
        n: samples measured.
        sums: what intervals need that no column of samples says, see `calibration_intervals.gap_sums`.
    """

    samples: Columns
    metrics: dict[str, float]
    examples: dict[str, np.ndarray]
    n: int
    sums: Columns = {}


@dataclass(frozen=True)
class Bench:
    """What a cell is measured with.

    Attributes:
        model: in eval mode, on `device`.
        test: the data the figures are about.
        temperature: fitted on held-out data, None where there was none.
        scores: fitted out-of-distribution scores by short name.
        examples: samples kept a cell.
        others: the other models of the run, on `device`; the first whose gradients can be followed is the surrogate of
            the masking checks.
        proxies: the sources of scenarios on other labelled data, by the scenario's name.
        sets: prediction sets fitted on held-out data, None where there was none, or too little.
    """

    model: Classifier
    test: Source
    device: torch.device
    batch_size: int
    temperature: float | None
    scores: dict[str, Any]
    examples: int
    others: tuple[Classifier, ...] = ()
    sets: ConformalSets | None = None
    proxies: Mapping[str, Source] = field(default_factory=dict)

    @cached_property
    def whole(self) -> Any:
        """All test samples that can be read, at once; for what has to know them before it changes one."""
        return self.test.fetch(range(len(self.test)))[0].image


def batches_of(bench: Bench, plan: Plan, source: Source | None = None) -> Iterator[Batch]:
    """Batches of the source, cut to the plan's limit by a seeded random choice kept in the source's order."""
    source = bench.test if source is None else source
    return batches(source, bench.batch_size, subset(len(source), plan.limit, plan.seed))


def each_of(bench: Bench, plan: Plan, work: Callable[[Batch], T], source: Source | None = None) -> Iterator[T]:
    """Yield what `work` makes of each batch of `batches_of`; the processes of a group share the work, see `shared`."""
    source = bench.test if source is None else source
    return shared(source, bench.batch_size, work, subset(len(source), plan.limit, plan.seed))


def ready(bench: Bench, operator: Operator) -> Operator:
    """Return an operator that knows the test data where it has to: one on tables; others as they are."""
    return fitted(operator, bench.whole) if operator.layout is TABLES else operator


def held(bench: Bench, plan: Plan, batch: Batch, operator: Operator) -> tuple[Any, Keys]:
    """Return the samples of a batch on the device, and their keys where the operator's parameters are drawn."""
    samples = batch.image.to(bench.device) if isinstance(batch.image, Tensor) else batch.image
    keys = Keys.of(plan.seed, batch.index).fold(plan.scenario)
    return samples, keys.to(operator.layout.device(samples))


def shift_of(bench: Bench, plan: Plan, spec: Any) -> Callable[[Batch], tuple[Any, Any]]:
    """Return what gives the samples of a batch of the test data before and after the operator `spec`, on its device."""
    operator = ready(bench, make_operator(spec, plan.severity))

    def shift(batch: Batch) -> tuple[Any, Any]:
        samples, keys = held(bench, plan, batch, operator)
        shifted = operator.apply(samples, operator.sample(keys))  # of images uint8: what a camera would store
        check_in_place(operator.name, shifted)
        return samples, shifted

    return shift


def logits_of_input(model: Classifier, x: Any) -> np.ndarray:
    """Return logits (B, K) float32 of inputs as the model takes them."""
    with torch.inference_mode():
        return model(x).float().cpu().numpy()


def judged(batch: Batch, logits: np.ndarray) -> Columns:
    """What the model said of each sample: prediction, confidence and negative log-likelihood."""
    label = batch.label.numpy()
    log_p = torch.log_softmax(torch.from_numpy(logits).double(), dim=1).numpy()
    prediction = logits.argmax(axis=1)
    finite = np.isfinite(logits).all(axis=1)  # a model that answers NaN is wrong, whatever argmax says
    return {
        "index": batch.index.numpy(),
        "label": label,
        "prediction": prediction,
        "correct": (prediction == label) & finite,
        "confidence": np.exp(log_p.max(axis=1)),
        "nll": -log_p[np.arange(len(label)), label],
        "brier": ((np.exp(log_p) - np.eye(logits.shape[1])[label]) ** 2).sum(axis=1),
    }


def stacked(rows: list[Columns]) -> Columns:
    """Return the columns of all batches as one.

    Raises:
        ValueError: there is no batch.
    """
    if not rows:
        raise ValueError("the source holds no readable sample; see the quarantine list")
    return {key: np.concatenate([row[key] for row in rows]) for key in rows[0]}


def keep(kept: list[Tensor], image: Tensor, limit: int) -> None:
    """Add samples of a batch to those kept as examples, until there are `limit`."""
    missing = limit - sum(len(k) for k in kept)
    if missing > 0:
        kept.append(image[:missing].cpu())


def examples_of(**parts: list[Tensor]) -> dict[str, np.ndarray]:
    """Return what `keep` kept, by name, without what is empty."""
    return {key: torch.cat(images).numpy() for key, images in parts.items() if images}
