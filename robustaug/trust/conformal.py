"""Sets of classes that hold the right one with a stated probability, from any model's logits and held-out samples.

The promise: where new samples are drawn as the held-out ones were, the set of a new sample holds its label with
probability 1 - alpha at least, over both draws; by class or by cohort, within each. Under shift nothing is promised,
and only measuring tells.

Legend: N samples, K classes, T thresholds.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from scipy.special import softmax

from robustaug import atomic
from robustaug.rng import Keys
from robustaug.trust.calibration.tally import checked, finite_logits

METHODS = ("lac", "aps", "raps")
METADATA_KEY = "robustaug_conformal"
_CHUNK_VALUES = 1 << 22  # probabilities held at once: 32 MiB


class Outcome(NamedTuple):
    """What became of samples whose label is known.

    Attributes:
        covered: (N,) bool, whether the set holds the label.
        size: (N,) int64, classes in the set; 0 where no class fits.
    """

    covered: np.ndarray
    size: np.ndarray


@dataclass(frozen=True)
class ConformalSets:
    """Fitted prediction sets; made by `fit_sets`, or read by `load_sets`.

    Attributes:
        alpha: the chance in (0, 1) that a set may miss its label.
        method: "lac", "aps" or "raps", see `fit_sets`.
        thresholds: (T,) float64, the greatest score that a class in the set may have: one, or one a class or cohort.
        classes: K.
        by: "" for one threshold, "class" or "cohort".
        cohorts: names of the T cohorts, sorted; empty unless by cohort.
        penalty, free: of RAPS, see `fit_sets`.
        seed: of the draws of APS and RAPS.
    """

    alpha: float
    method: str
    thresholds: np.ndarray
    classes: int
    by: str = ""
    cohorts: tuple[str, ...] = ()
    penalty: float = 0.0
    free: int = 0
    seed: int = 0

    def sets(self, logits: Any, index: Any = None, cohort: Any = None) -> np.ndarray:
        """Return the classes in each sample's set, (N, K) bool.

        A row of logits without a softmax (NaN, +inf) has the empty set, as nothing can be said of it.

        Args:
            logits: (N, K) real, numpy or torch.
            index: (N,) sample indices >= 0, which the draws of APS and RAPS follow; 0 to N-1 when left out.
            cohort: (N,) the cohort of each sample, turned to text; where thresholds are by cohort.

        Raises:
            ValueError: wrong shape, another number of classes, a cohort that was not fitted, or one that is missing.
        """
        return np.concatenate([*self._pieces(logits, index, cohort)])

    def outcome(self, logits: Any, labels: Any, index: Any = None, cohort: Any = None) -> Outcome:
        """Return whether each set holds the label, and its size; the sets of all samples are never held at once.

        Args:
            labels: (N,) integers in [0, K); the others as in `sets`.

        Raises:
            TypeError: labels are not integers.
            ValueError: as `sets`, or a label out of range.
        """
        logits, labels = checked(logits, labels)
        covered, size, start = [], [], 0
        for piece in self._pieces(logits, index, cohort):
            covered.append(piece[np.arange(len(piece)), labels[start : start + len(piece)]])
            size.append(piece.sum(axis=1))
            start += len(piece)
        return Outcome(np.concatenate(covered), np.concatenate(size))

    def _pieces(self, logits: Any, index: Any, cohort: Any) -> Any:
        if len(logits) == 0 or np.ndim(logits) != 2 or logits.shape[1] != self.classes:
            raise ValueError(f"logits must have shape (N, {self.classes}) with N >= 1, got {np.shape(logits)}")
        uniform = _uniform(self.seed, len(logits), index, "use")
        limits = self._limits(len(logits), cohort)
        step = max(1, _CHUNK_VALUES // self.classes)
        for start in range(0, len(logits), step):
            rows = slice(start, start + step)
            p = _probabilities(logits[rows])
            scores = _scores(self.method, p, uniform[rows], self.penalty, self.free)
            yield scores <= (limits if len(limits) == 1 else limits[rows])  # NaN is never within

    def _limits(self, n: int, cohort: Any) -> np.ndarray:
        """Return the thresholds as (1, 1), (1, K) or (N, 1)."""
        if self.by != "cohort":
            return self.thresholds[None, :]
        return self.thresholds[_positions(n, cohort, self.cohorts)][:, None]


def fit_sets(
    logits: Any,
    labels: Any,
    alpha: float = 0.1,
    method: str = "lac",
    by: str = "",
    cohort: Any = None,
    index: Any = None,
    penalty: float = 0.01,
    free: int = 5,
    seed: int = 0,
) -> ConformalSets:
    """Fit prediction sets to held-out samples.

    >>> rng = np.random.default_rng(0)
    >>> sets = fit_sets(rng.normal(size=(99, 3)), rng.integers(0, 3, 99), alpha=0.2)
    >>> sets.sets(np.array([[2.0, 1.9, -5.0]])).tolist()
    [[True, True, False]]

    Args:
        logits: (N, K) finite, numpy or torch, K >= 2; held out, and not what a temperature was fitted to.
        labels: (N,) integers in [0, K).
        alpha: the chance in (0, 1) that a set may miss its label.
        method: what a class's score is. "lac": 1 - p, the smallest sets on average (Sadinle, Lei and Wasserman 2019,
            arXiv 1609.00451). "aps": the probability of all likelier classes and a random share of its own, so that
            hard samples get larger sets (Romano, Sesia and Candes 2020, arXiv 2006.02544). "raps": the same and
            `penalty` for each rank beyond `free`, which cuts long tails (Angelopoulos et al. 2021, arXiv 2009.14193).
        by: "" for one threshold; "class" or "cohort" for one each, and so the promise within each (Vovk 2012, arXiv
            1209.2673: Mondrian).
        cohort: (N,) the cohort of each sample, turned to text; with by="cohort".
        index: (N,) sample indices >= 0, which the draws of APS and RAPS follow; 0 to N-1 when left out.
        penalty, free: of RAPS, >= 0.
        seed: of the draws.

    Raises:
        TypeError: labels are not integers.
        ValueError: an option out of range, wrong shapes, logits that are not finite, or too few samples for alpha: at
            least 1 / alpha - 1, of each class or cohort.
    """
    logits, labels = finite_logits(logits, labels, "prediction sets")
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    if by not in ("", "class", "cohort"):
        raise ValueError(f"by must be '', 'class' or 'cohort', got {by!r}")
    if (cohort is not None) != (by == "cohort"):
        raise ValueError(f"cohort and by='cohort' go together, got by={by!r} and cohort {type(cohort).__name__}")
    if method != "raps":
        penalty, free = 0.0, 0
    if not 0 <= penalty < math.inf or free < 0:
        raise ValueError(f"penalty and free must be >= 0, got {penalty!r} and {free!r}")
    n, classes = logits.shape
    uniform = _uniform(seed, n, index, "fit")
    scores = _scores(method, softmax(logits, axis=1), uniform, penalty, free)[np.arange(n), labels]
    names: tuple[str, ...] = ()
    group = np.zeros(n, dtype=np.int64)
    if by == "class":
        group = labels
    elif by == "cohort":
        names = tuple(sorted({str(value) for value in cohort}))
        group = _positions(n, cohort, names)
    thresholds = []
    for at in range(classes if by == "class" else max(1, len(names))):
        what = {"": "", "class": f" of class {at}", "cohort": f" of cohort {names[at]!r}" if names else ""}[by]
        thresholds.append(conformal_quantile(scores[group == at], alpha, what))
    return ConformalSets(alpha, method, np.array(thresholds), classes, by, names, penalty, free, seed)


def conformal_quantile(scores: Any, alpha: float, what: str = "") -> float:
    """Return the ceil((n + 1)(1 - alpha))-th smallest of n scores: a new one is above it with probability <= alpha.

    >>> conformal_quantile([0.1, 0.2, 0.3, 0.4], alpha=0.2)
    0.4

    Args:
        scores: (n,) real.
        alpha: in (0, 1).
        what: of which samples, for the message.

    Raises:
        ValueError: alpha out of range, or so few scores that no finite one would do.
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must be in (0, 1), got {alpha!r}; write 0.1 for sets that miss 10 %")
    n = len(scores)
    rank = math.ceil((n + 1) * (1 - alpha) - 1e-9)  # 10 * (1 - 0.1) is a little over 9
    if rank > n:
        needed = math.ceil(1 / alpha - 1e-9) - 1
        raise ValueError(f"alpha = {alpha:g} needs at least {needed} held-out samples{what}, got {n}")
    return float(np.partition(np.asarray(scores, dtype=np.float64), rank - 1)[rank - 1])


def save_sets(path: str | Path, sets: ConformalSets) -> None:
    """Write fitted sets to `path`, whole or not at all.

    Args:
        path: must end in .safetensors.

    Raises:
        ValueError: another suffix.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"prediction sets are written as .safetensors, got {path.name!r}")
    said = {key: value for key, value in vars(sets).items() if key != "thresholds"}
    with atomic.replacing(path) as aside:
        save_file({"thresholds": sets.thresholds}, aside, {METADATA_KEY: json.dumps(said)})


def load_sets(path: str | Path) -> ConformalSets:
    """Read what `save_sets` wrote.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a damaged file, or one that holds no prediction sets.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no prediction sets at {path}; save_sets makes them")
    try:
        with safe_open(path, framework="numpy") as file:
            said = json.loads((file.metadata() or {})[METADATA_KEY])
            sets = ConformalSets(thresholds=file.get_tensor("thresholds"), **said | {"cohorts": tuple(said["cohorts"])})
    except (SafetensorError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged or holds no prediction sets ({error}); fit and save them anew") from None
    wanted = {"": 1, "class": sets.classes, "cohort": len(sets.cohorts)}.get(sets.by)
    if sets.method not in METHODS or sets.thresholds.shape != (wanted,) or not np.isfinite(sets.thresholds).all():
        raise ValueError(f"{path} holds prediction sets that do not fit together; fit and save them anew")
    return sets


def _scores(method: str, p: np.ndarray, uniform: np.ndarray, penalty: float, free: int) -> np.ndarray:
    """Return each class's score, (N, K), lower where it fits; of p (N, K) and a draw a sample (N,)."""
    if method == "lac":
        return 1 - p
    order = np.argsort(-p, axis=1, kind="stable")  # of equal ones the first class is the likelier
    ranked = np.take_along_axis(p, order, axis=1)
    before = np.cumsum(ranked, axis=1) - ranked
    scores = before + uniform[:, None] * ranked + penalty * np.maximum(0, np.arange(1, p.shape[1] + 1) - free)
    out = np.empty_like(scores)
    np.put_along_axis(out, order, scores, axis=1)
    return out


def _probabilities(logits: Any) -> np.ndarray:
    values = logits.detach().cpu().double().numpy() if isinstance(logits, torch.Tensor) else np.asarray(logits, float)
    with np.errstate(invalid="ignore"):
        return softmax(values, axis=1)


def _uniform(seed: int, n: int, index: Any, use: str) -> np.ndarray:
    """Return (N,) float64 in [0, 1); held-out and new samples draw apart, even where their indices are the same."""
    keys = Keys.of(seed, n if index is None else torch.as_tensor(np.asarray(index), dtype=torch.int64))
    if len(keys) != n:
        raise ValueError(f"index must have one entry a sample: {n} samples, {len(keys)} indices")
    return keys.fold("conformal").fold(use).uniform()[:, 0].double().numpy()


def _positions(n: int, cohort: Any, names: Sequence[str]) -> np.ndarray:
    if cohort is None or len(cohort) != n:
        got = "none" if cohort is None else len(cohort)
        raise ValueError(f"thresholds are by cohort: cohort must have one entry a sample, {n} of them, got {got}")
    places = {name: at for at, name in enumerate(names)}
    unknown = sorted({str(value) for value in cohort} - places.keys())
    if unknown:
        raise ValueError(f"cohort {unknown[0]!r} has no threshold; fitted were {', '.join(names)}")
    return np.array([places[str(value)] for value in cohort], dtype=np.int64)
