"""Distance to the training classes, each a Gaussian of the same covariance.

Legend: N samples, K classes with samples, D features, R directions in which the training features vary.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from robustaug.registry import register
from robustaug.trust.ood.evidence import Evidence
from robustaug.trust.ood.score import Score, judged


class Moments:
    """Class means and the scatter within classes, taken in batch by batch in float64.

    Batches are merged by their means (Chan, Golub and LeVeque 1983), so nothing large is subtracted from something
    equally large; memory is (K, D) and (D, D).

    Attributes:
        counts: (K,), samples of each class.
        means: (K, D).
        within: (D, D), sum over samples of the outer product of their distance to their class's mean.
    """

    def __init__(self, width: int) -> None:
        """Start with no samples of `width` features."""
        self.counts = torch.zeros(0, dtype=torch.float64)
        self.means = torch.zeros(0, width, dtype=torch.float64)
        self.within = torch.zeros(width, width, dtype=torch.float64)

    def add(self, rows: Tensor, labels: Tensor) -> None:
        """Take in rows (R, D) with labels (R,) >= 0; a class not seen before makes room for itself."""
        rows = rows.double().cpu()
        classes, at = torch.unique(labels.cpu(), return_inverse=True)
        if (short := int(classes.max()) + 1 - len(self.counts)) > 0:
            self.counts = torch.cat([self.counts, self.counts.new_zeros(short)])
            self.means = torch.cat([self.means, self.means.new_zeros(short, self.means.shape[1])])
        new = torch.bincount(at).double()
        means = self.means.new_zeros(len(classes), rows.shape[1]).index_add_(0, at, rows) / new[:, None]
        old = self.counts[classes]
        apart = means - self.means[classes]
        centred = rows - means[at]
        self.within += centred.T @ centred + (apart * (old * new / (old + new))[:, None]).T @ apart
        self.means[classes] += apart * (new / (old + new))[:, None]
        self.counts[classes] = old + new

    def covariances(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the mean (D,) of all samples, and their covariance (D, D) within classes and overall."""
        n = self.counts.sum()
        mean = self.counts @ self.means / n
        apart = self.means - mean
        within = self.within / n
        return mean, within, within + (apart * self.counts[:, None]).T @ apart / n


@register("ood.mahalanobis")
@dataclass
class Mahalanobis(Score):
    """Minus the squared Mahalanobis distance to the nearest class mean, at most 0.

    The covariance is that of all training features around their class's mean. Directions in which they do not vary
    are left out, as a pseudo-inverse does. Of the last layer's features alone and without moving the input: the
    published detector also adds up several layers, with weights fitted on foreign data.
    Source: Lee et al. 2018, arXiv 1807.03888, equations 1 and 2.
    """

    needs = frozenset({"features"})
    learns = frozenset({"features", "labels"})
    keeps = frozenset({"means", "whiten"})

    def __post_init__(self) -> None:
        self._moments: Moments | None = None

    def learn(self, batch: Evidence) -> None:
        """Take in training features (R, D) and labels (R,)."""
        features = self._training_features(batch)
        labels = batch.tensor("labels", self.name)
        if len(labels) != len(features):
            raise ValueError(f"{self.name}: features and labels must be as many, got {len(features)}, {len(labels)}")
        if len(features):
            self._moments = self._moments or Moments(features.shape[1])
            self._moments.add(features, labels)

    def settle(self) -> None:
        """Fix means and whitening.

        Raises:
            ValueError: no training features, or none that varies within a class.
        """
        moments = self._taken_in()
        _, within, overall = moments.covariances()
        means = moments.means[moments.counts > 0]
        self.state = {"means": means, "whiten": _whitening(self.name, within, overall)}

    def score(self, evidence: Evidence) -> np.ndarray:
        """Return (N,) float64 from features (N, D)."""
        features = self._features(evidence, self._learned()["means"].shape[1])
        return judged(-self._nearest(features), features)

    def _taken_in(self) -> Moments:
        if self._moments is None:
            raise ValueError(f"{self.name}: no training features were given")
        return self._moments

    def _nearest(self, features: Tensor) -> Tensor:
        means, whiten = self._learned()["means"], self._learned()["whiten"]
        at, to = features @ whiten, means @ whiten
        nearest = (to.square().sum(dim=1) - 2 * at @ to.T).argmin(dim=1)
        # computed anew: a distance from the products would lose its digits where it is small
        return ((features - means[nearest]) @ whiten).square().sum(dim=1)


@register("ood.relative_mahalanobis")
@dataclass
class RelativeMahalanobis(Mahalanobis):
    """The squared Mahalanobis distance to all training data less that to the nearest class.

    What is far from every class and as far from all data, such as noise in features that say nothing of the class,
    counts no more. Covariances as in `ood.mahalanobis`.
    Source: Ren et al. 2021, arXiv 2106.09022.
    """

    keeps = frozenset({"means", "whiten", "mean", "whiten_all"})

    def settle(self) -> None:
        """Fix means and both whitenings; raises as in `ood.mahalanobis`."""
        super().settle()
        mean, _, overall = self._taken_in().covariances()
        assert self.state is not None
        self.state |= {"mean": mean, "whiten_all": _whitening(self.name, overall, overall)}

    def score(self, evidence: Evidence) -> np.ndarray:
        """Return (N,) float64 from features (N, D)."""
        state = self._learned()
        features = self._features(evidence, state["means"].shape[1])
        overall = ((features - state["mean"]) @ state["whiten_all"]).square().sum(dim=1)
        return judged(overall - self._nearest(features), features)


def _whitening(name: str, covariance: Tensor, overall: Tensor) -> Tensor:
    """Return (D, R) whose product with its transpose is the pseudo-inverse of a covariance (D, D).

    What is below the rounding of the overall covariance is no variance.
    """
    values, vectors = torch.linalg.eigh(covariance)
    rounding = len(values) * torch.finfo(torch.float64).eps * float(torch.linalg.matrix_norm(overall, 2))
    kept = values > rounding
    if not kept.any():
        raise ValueError(f"{name}: the training features do not vary; give more samples, or a model that uses them")
    return vectors[:, kept] / values[kept].sqrt()
