"""What synthetic data is looked at for: does it fit, does it leak, can it be told apart, does it teach.

Pictures are compared as thumbnails of at most 16 x 16, pixel by pixel. The classifier is a forest of extremely
randomised trees (Geurts, Ernst and Wehenkel 2006): quick, with nothing to tune, and no linear model's limits.

Legend: S synthetic samples, N real ones, T held out ones, F values of a thumbnail, K classes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from robustaug.data.source import Source, batches
from robustaug.data.splits import apportion, divide
from robustaug.evaluate.statistics import Interval, auroc_interval, wilson
from robustaug.rng import Keys

_SIDE = 16
_TREES = 50
_FOLDS = 5
_DIRECTIONS = 16
_FEWEST = 20
_CHUNK_VALUES = 1 << 24  # distances held at once: 64 MiB of float32


class Looked(NamedTuple):
    """Samples as they are compared: thumbnails (N, F) float32 in [0, 1] and labels (N,) int64."""

    x: Tensor
    y: Tensor


def look(source: Source) -> Looked:
    """Read every sample of a source; damaged ones are left out."""
    found = []
    for batch in batches(source, 512):
        height, width = (min(side, _SIDE) for side in batch.image.shape[2:])
        found.append((F.adaptive_avg_pool2d(batch.image.float() / 255, (height, width)).flatten(1), batch.label))
    return Looked(*(torch.cat(part) for part in zip(*found, strict=True)))


def misfit(synthetic: Source, real: Source, held_out: Source) -> str:
    """Say why synthetic samples cannot stand among the real ones, or not be judged; empty where they can."""
    if synthetic.shape != real.shape:
        return f"its pictures have shape {synthetic.shape}, the real ones {real.shape}"
    if synthetic.classes != real.classes:
        return f"its classes are {_few(synthetic.classes)}, those of the real data {_few(real.classes)}"
    if len(synthetic.labels.unique()) < 2:
        return "it holds one class only, so that nothing says whether its labels are right"
    for name, other in (("real", real), ("held-out", held_out)):
        shared = torch.minimum(*(_count(one.labels, len(real.classes)) for one in (synthetic, other)))
        if int(shared.sum()) < _FEWEST:
            return f"it shares {int(shared.sum())} samples of a class with the {name} data; {_FEWEST} can be judged"
    return ""


def near_copies(synthetic: Looked, real: Looked, held_out: Looked, ratio: float) -> Tensor:
    """Say which synthetic samples show a held-out one, (S,) bool: leaked data would make figures better than they are.

    A copy lies nearer to a held-out sample than `ratio` times the distance from there to the nearest real training
    sample: how near strangers come is the measure, so compression, slight noise and changes of tone do not hide a copy.
    One that was moved or turned is not found: pixels are compared.
    """
    allowed = ratio * torch.cat([_nearest(part, real.x) for part in held_out.x.split(_chunk(real.x))])  # (T,)
    parts = synthetic.x.split(_chunk(held_out.x))
    return torch.cat([(torch.cdist(part, held_out.x) < allowed).any(1) for part in parts])


def told_apart(synthetic: Looked, real: Looked, samples: int, seed: int) -> Interval:
    """Return how well a forest tells synthetic from real samples: AUROC in [0, 1], 0.5 is not at all.

    Out-of-fold scores of a five-fold cross-validation on as many of either, with the same number of each class; far
    below 0.5 says that samples of one kind repeat those of the other. The forest sees 16 principal directions: what
    pictures show, not how their values are rounded, by which every made picture is told from every scanned one.

    Source: the two-sample test by a classifier of Lopez-Paz and Oquab 2017, arXiv:1610.06545, whose accuracy is AUROC
    here.
    """
    from sklearn.decomposition import PCA
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline

    ours, theirs = _matched(synthetic.y, real.y, samples, seed)
    x = torch.cat([synthetic.x[ours], real.x[theirs]]).numpy()
    is_made = np.repeat([1, 0], [len(ours), len(theirs)])
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=_word(seed, "folds"))
    directions = PCA(min(_DIRECTIONS, x.shape[1]), random_state=_word(seed, "directions"))
    sorter = make_pipeline(directions, _forest(seed))
    chances: Any = cross_val_predict(sorter, x, is_made, cv=folds, method="predict_proba")
    scores = np.asarray(chances, np.float64)[:, 1]
    return auroc_interval(scores[is_made == 1], scores[is_made == 0])


def usefulness(synthetic: Looked, held_out: Looked, samples: int, seed: int) -> tuple[Interval, float]:
    """Return the accuracy on real samples of a forest that learned from synthetic ones alone, and that of guessing.

    Source: train on synthetic, test on real: Esteban, Hyland and Rätsch 2017, arXiv:1706.02633, section 4.1.2.

    Returns:
        Accuracy on held-out samples of the classes there are synthetic ones of, with its Wilson interval; and the
        share of the most frequent of these classes.
    """
    rows = _some(synthetic.y, samples, seed)
    of_interest = torch.isin(held_out.y, synthetic.y[rows]).nonzero()[:, 0]
    tested = of_interest[_some(held_out.y[of_interest], samples, seed)]
    forest = _forest(seed).fit(synthetic.x[rows].numpy(), synthetic.y[rows].numpy())
    right = forest.predict(held_out.x[tested].numpy()) == held_out.y[tested].numpy()
    chance = float(torch.bincount(held_out.y[tested]).max() / len(tested))
    return wilson(int(right.sum()), len(tested)), chance


def _matched(a: Tensor, b: Tensor, samples: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return positions in two sets of labels, at most `samples` of each and of every class as many in both."""
    classes = int(max(a.max(), b.max())) + 1
    shared = torch.minimum(_count(a, classes), _count(b, classes))
    quota = apportion(min(samples, int(shared.sum())), shared)
    return divide(a, [quota], seed)[0], divide(b, [quota], seed)[0]


def _count(labels: Tensor, classes: int) -> Tensor:
    return torch.bincount(labels, minlength=classes)


def _some(labels: Tensor, samples: int, seed: int) -> Tensor:
    return _matched(labels, labels, samples, seed)[0]


def _forest(seed: int) -> Any:
    from sklearn.ensemble import ExtraTreesClassifier

    return ExtraTreesClassifier(_TREES, random_state=_word(seed, "forest"))


def _word(seed: int, use: str) -> int:
    return int(Keys.of(seed, 1).fold("synth.checks").fold(use).bits()[0, 0])


def _nearest(rows: Tensor, others: Tensor) -> Tensor:
    return torch.cdist(rows, others).amin(1)


def _chunk(others: Tensor) -> int:
    return max(1, _CHUNK_VALUES // len(others))


def _few(classes: list[str]) -> str:
    return f"{classes[:5]}{' and more' if len(classes) > 5 else ''}"
