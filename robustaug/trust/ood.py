"""Out-of-distribution scores, and how well a score tells known data from foreign data.

A score is higher for what looks like the training data. In every figure below, known (in-distribution) samples are
the positives. A score that is NaN gives a NaN figure.

Legend: N samples, K classes, D features, R rows of the bank.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from robustaug.registry import register

_CHUNK_VALUES = 1 << 24  # similarities or features held at once: 64 MiB of float32


class Score(Protocol):
    """What every registered score offers.

    Attributes:
        needs: what `score` reads: "logits" (N, K) or "features" (N, D).
    """

    name: ClassVar[str]
    needs: ClassVar[Literal["logits", "features"]]

    def fit(self, train_features: Any = None) -> Score:
        """Remember what the score needs of the training data; returns the score."""
        ...

    def score(self, values: Any) -> np.ndarray:
        """Return (N,) float64 from logits or features, higher where a sample is more in-distribution."""
        ...


@register("ood.msp")
@dataclass(frozen=True)
class MaxSoftmax:
    """Greatest softmax probability, in [1/K, 1] (Hendrycks and Gimpel 2017, arXiv 1610.02136)."""

    name: ClassVar[str] = ""
    needs: ClassVar[Literal["logits", "features"]] = "logits"

    def fit(self, train_features: Any = None) -> MaxSoftmax:
        """Nothing to fit."""
        return self

    def score(self, values: Any) -> np.ndarray:
        """Return (N,) float64 from logits (N, K)."""
        return _rows("logits", values).double().softmax(dim=1).amax(dim=1).cpu().numpy()


@register("ood.energy")
@dataclass(frozen=True)
class Energy:
    """Negative free energy, T logsumexp(logits / T) (Liu et al. 2020, arXiv 2010.03759, equation 4).

    Attributes:
        temperature: T > 0; as it goes to 0 the score becomes the greatest logit.
    """

    temperature: float = 1.0
    name: ClassVar[str] = ""
    needs: ClassVar[Literal["logits", "features"]] = "logits"

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"ood.energy: temperature must be > 0 and finite, got {self.temperature!r}")

    def fit(self, train_features: Any = None) -> Energy:
        """Nothing to fit."""
        return self

    def score(self, values: Any) -> np.ndarray:
        """Return (N,) float64 from logits (N, K)."""
        logits = _rows("logits", values).double()
        return (self.temperature * torch.logsumexp(logits / self.temperature, dim=1)).cpu().numpy()


@register("ood.max_logit")
@dataclass(frozen=True)
class MaxLogit:
    """Greatest logit (Hendrycks et al. 2022, arXiv 1911.11132)."""

    name: ClassVar[str] = ""
    needs: ClassVar[Literal["logits", "features"]] = "logits"

    def fit(self, train_features: Any = None) -> MaxLogit:
        """Nothing to fit."""
        return self

    def score(self, values: Any) -> np.ndarray:
        """Return (N,) float64 from logits (N, K)."""
        return _rows("logits", values).double().amax(dim=1).cpu().numpy()


@register("ood.knn")
@dataclass
class NearestNeighbour:
    """Minus the distance to the k-th nearest training sample (Sun et al. 2022, arXiv 2204.06507).

    Features are scaled to length 1, so scores lie in [-2, 0]; a row of zeros stays zero. Neighbours are found in the
    features' own precision (at least float32) and the distance is computed in float64. Both go in pieces: memory
    beyond the bank stays at a few hundred MiB however many samples are scored.

    Attributes:
        k: which neighbour, >= 1 and at most the size of the bank.
    """

    k: int = 50
    name: ClassVar[str] = ""
    needs: ClassVar[Literal["logits", "features"]] = "features"
    _bank: tuple[Tensor, Tensor] | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.k, int) or isinstance(self.k, bool) or self.k < 1:
            raise ValueError(f"ood.knn: k must be a whole number >= 1, got {self.k!r}")

    def fit(self, train_features: Any = None) -> NearestNeighbour:
        """Remember training features (R, D), on the device where they are.

        Raises:
            ValueError: none given, fewer than k, or some not finite.
        """
        if train_features is None:
            raise ValueError("ood.knn needs the training features (R, D): fit(train_features)")
        bank = _rows("train_features", train_features)
        if len(bank) < self.k:
            raise ValueError(f"ood.knn: k must be <= the {len(bank)} training features, got {self.k}; set a smaller k")
        if bad := int((~torch.isfinite(bank).all(dim=1)).sum()):
            raise ValueError(f"ood.knn: {bad} of {len(bank)} training features hold NaN or infinity")
        bank = F.normalize(bank, dim=1)
        self._bank = bank, bank.any(dim=1).to(bank.dtype) / -2  # minus half the squared length of each row
        return self

    def score(self, values: Any) -> np.ndarray:
        """Return (N,) float64 from features (N, D); NaN for a row that is not finite.

        Raises:
            ValueError: not fitted, or another number of features than the bank has.
        """
        if self._bank is None:
            raise ValueError("ood.knn is not fitted: call fit(train_features) first")
        bank, offset = self._bank
        features = _rows("features", values)
        if features.shape[1] != bank.shape[1]:
            raise ValueError(f"ood.knn was fitted on {bank.shape[1]} features a sample, got {features.shape[1]}")
        pieces = features.split(max(1, _CHUNK_VALUES // max(bank.shape)))
        return torch.cat([self._distance(piece.to(bank.device), bank, offset) for piece in pieces]).neg().numpy()

    def _distance(self, features: Tensor, bank: Tensor, offset: Tensor) -> Tensor:
        query = F.normalize(features, dim=1).to(bank.dtype)
        closeness = torch.addmm(offset, query, bank.T)  # (N, R): q.b - b.b/2 falls as the distance grows
        kth = closeness.topk(self.k, dim=1).indices[:, -1]  # (N,)
        # computed anew: a distance from the products would lose half its digits where it is small
        distance = (F.normalize(features.double(), dim=1) - F.normalize(bank[kth].double(), dim=1)).norm(dim=1)
        return torch.where(torch.isfinite(features).all(dim=1), distance, math.nan).cpu()


def auroc(known: Any, foreign: Any) -> float:
    """Return the chance that a known sample scores above a foreign one, ties counted half; 0.5 is guessing.

    Args:
        known: (N,) scores of in-distribution samples.
        foreign: (M,) scores of out-of-distribution samples.

    Raises:
        ValueError: either is empty or has another rank.
    """
    from sklearn.metrics import roc_auc_score

    return _figure(known, foreign, roc_auc_score)


def aupr(known: Any, foreign: Any) -> float:
    """Return the average precision with known samples as positives; arguments and errors as in `auroc`.

    It depends on the share of known samples. For foreign samples as positives: `aupr(-foreign, -known)`.
    """
    from sklearn.metrics import average_precision_score

    return _figure(known, foreign, average_precision_score)


def fpr_at_tpr(known: Any, foreign: Any, tpr: float = 0.95) -> float:
    """Return the share of foreign samples accepted when at least `tpr` of the known ones are (FPR95 by default).

    The threshold is the highest known score that accepts enough; a score equal to it is accepted.

    Raises:
        ValueError: tpr outside (0, 1]; otherwise as in `auroc`.
    """
    if not 0 < tpr <= 1:
        raise ValueError(f"tpr must be in (0, 1], got {tpr!r}; write 0.95 for 95 %")
    known, foreign = _scores("known", known), _scores("foreign", foreign)
    if np.isnan(known).any() or np.isnan(foreign).any():
        return math.nan
    accepted = max(1, math.ceil(tpr * len(known) - 1e-9))  # 0.07 * 100 is a little over 7 in floating point
    threshold = np.sort(known)[-accepted]
    return float((foreign >= threshold).mean())


def _figure(known: Any, foreign: Any, metric: Any) -> float:
    known, foreign = _scores("known", known), _scores("foreign", foreign)
    scores = np.concatenate([known, foreign])
    if np.isnan(scores).any():
        return math.nan
    ranks = np.unique(scores, return_inverse=True)[1]  # only the order counts, and infinite scores are in order too
    return float(metric(np.repeat([1, 0], [len(known), len(foreign)]), ranks))


def _scores(name: str, values: Any) -> np.ndarray:
    array = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    if array.ndim != 1 or not len(array):
        raise ValueError(f"{name} scores must have shape (N,) with N >= 1, got {array.shape}")
    return array.astype(np.float64)


def _rows(name: str, values: Any) -> Tensor:
    """Return (N, ...) numbers as a floating tensor of at least float32, N >= 0."""
    if isinstance(values, np.ndarray) and not values.flags.writeable:
        values = values.copy()  # torch warns of memory that must not be written, such as a Parquet column's
    tensor = torch.as_tensor(values).detach()
    if tensor.ndim != 2 or tensor.shape[1] < 1:
        raise ValueError(f"{name} must have shape (N, {'K' if name == 'logits' else 'D'}), got {tuple(tensor.shape)}")
    return tensor if tensor.dtype == torch.float64 else tensor.to(torch.float32)
