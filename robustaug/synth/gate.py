"""The gate: synthetic samples may be trained on only if they fit, leak nothing, look real and teach something."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
from pydantic import Field

import robustaug
from robustaug import atomic
from robustaug.config import Ratio, Strict
from robustaug.data.fingerprint import digest
from robustaug.data.source import Source
from robustaug.evaluate.statistics import Interval, wilson
from robustaug.synth import checks
from robustaug.synth.checks import Looked


class Limits(Strict):
    """What synthetic data must keep.

    Attributes:
        copy_ratio: a synthetic sample is a near copy of a held-out one where it lies within this share of the distance
            from there to the nearest real training sample.
        max_copies: the largest share of near copies.
        max_auroc: how well a forest may tell synthetic from real samples; None reports the figure without judging it.
        min_gain: how much of the way from guessing to no mistake at all a forest that learned from synthetic samples
            must come, as accuracy on real ones: chance + min_gain * (1 - chance).
        samples: of each kind that the forests see, at most; copies are looked for among all.
        seed: of their choice and of the forests.
    """

    copy_ratio: Annotated[Ratio, Field(gt=0, lt=1)] = 0.5
    max_copies: Annotated[Ratio, Field(ge=0, lt=1)] = 0.0
    max_auroc: Annotated[Ratio, Field(gt=0.5, lt=1)] | None = 0.95
    min_gain: Annotated[Ratio, Field(gt=0, lt=1)] = 0.1
    samples: Annotated[int, Field(ge=50)] = 1000
    seed: Annotated[int, Field(ge=0)] = 0


class Check(NamedTuple):
    """One figure and what became of it.

    Attributes:
        name: "fit", "near copies", "told apart" or "usefulness".
        value, low, high: the figure and its 95 % interval; None where there is no figure.
        limit: None where it is only reported.
        passed: whether it keeps the limit.
        reason: the same in words.
    """

    name: str
    value: float | None
    low: float | None
    high: float | None
    limit: float | None
    passed: bool
    reason: str


class Verdict(NamedTuple):
    """What the gate says of a source.

    Attributes:
        passed: every check did.
        checks: in their order; none follows on data that does not fit.
        identity: hash of all sources' fingerprints, the limits and the version.
    """

    passed: bool
    checks: list[Check]
    identity: str

    def content(self) -> dict[str, Any]:
        """Return the verdict as JSON can hold it."""
        return self._asdict() | {"checks": [check._asdict() for check in self.checks]}


def judge(synthetic: Source, real: Source, held_out: Sequence[Source], limits: Limits | None = None) -> Verdict:
    """Judge whether a source of synthetic samples may be trained on beside the real ones.

    An interval must keep a limit with its worse end. A share of near copies is a count of all samples and must keep it
    itself.

    Args:
        real: what is trained on.
        held_out: real data that training must not see, validation data first: usefulness is measured on that.

    Raises:
        ValueError: no held-out data, or some of another shape or with other classes than the real data.
    """
    if not held_out:
        raise ValueError("the gate needs held-out data: near copies of it and usefulness are measured on it")
    for other in held_out:
        if (other.shape, other.classes) != (real.shape, real.classes):
            raise ValueError(f"held-out data {other.name!r} has another shape or other classes than the real data")
    limits = limits or Limits()
    reason = checks.misfit(synthetic, real, held_out[0])
    found = [Check("fit", None, None, None, None, not reason, reason or "shape and classes are those of the real data")]
    if not reason:
        made, ours, apart = checks.look(synthetic), checks.look(real), [checks.look(one) for one in held_out]
        found += [_copies(made, ours, apart, limits), _told(made, ours, limits), _useful(made, apart[0], limits)]
    return Verdict(all(check.passed for check in found), found, identity(synthetic, real, held_out, limits))


def identity(synthetic: Source, real: Source, held_out: Sequence[Source], limits: Limits) -> str:
    """Return what a verdict hangs on, as one hash."""
    fingerprints = [source.fingerprint for source in (synthetic, real, *held_out)]
    return digest(robustaug.__version__, limits.model_dump_json(), *fingerprints)


def judged(
    path: Path, synthetic: Source, real: Source, held_out: Sequence[Source], limits: Limits, write: bool = True
) -> Verdict:
    """Return the verdict that stands at `path` if it is of these sources and limits; judge and store it otherwise."""
    stored = _stored(path)
    if stored is not None and stored.identity == identity(synthetic, real, held_out, limits):
        return stored
    verdict = judge(synthetic, real, held_out, limits)
    if write:
        atomic.write_text(path, json.dumps(verdict.content(), indent=1))
    return verdict


def _stored(path: Path) -> Verdict | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return Verdict(content["passed"], [Check(**check) for check in content["checks"]], content["identity"])
    except (OSError, ValueError, KeyError, TypeError):  # absent, or not what we wrote: judged anew
        return None


def _copies(synthetic: Looked, real: Looked, held_out: Sequence[Looked], limits: Limits) -> Check:
    together = Looked(*(torch.cat(part) for part in zip(*held_out, strict=True)))
    copies = checks.near_copies(synthetic, real, together, limits.copy_ratio)
    share = wilson(int(copies.sum()), len(copies))
    passed = share.estimate <= limits.max_copies
    words = f"{int(copies.sum())} of {len(copies)} samples are near copies of held-out data"
    return _check("near copies", share, limits.max_copies, passed, words, "max_copies")


def _told(synthetic: Looked, real: Looked, limits: Limits) -> Check:
    found = checks.told_apart(synthetic, real, limits.samples, limits.seed)
    passed = limits.max_auroc is None or found.high <= limits.max_auroc
    words = f"synthetic and real samples are told apart with AUROC {_shown(found)}"
    return _check("told apart", found, limits.max_auroc, passed, words, "max_auroc")


def _useful(synthetic: Looked, held_out: Looked, limits: Limits) -> Check:
    found, chance = checks.usefulness(synthetic, held_out, limits.samples, limits.seed)
    limit = chance + limits.min_gain * (1 - chance)  # a sum could lie beyond 1 where one class is frequent
    words = f"what synthetic samples teach gives accuracy {_shown(found)} on real ones, guessing {chance:.3f}"
    return _check("usefulness", found, limit, found.low >= limit, words, "min_gain")


def _check(name: str, found: Interval, limit: float | None, passed: bool, words: str, key: str) -> Check:
    side = "at least" if key == "min_gain" else "at most"
    asked = "it is not judged" if limit is None else f"gate.{key} asks for {side} {limit:.3g}"
    return Check(name, *found, limit, passed, f"{words}; {asked}")


def _shown(found: Interval) -> str:
    return f"{found.estimate:.3f} ({found.low:.3f} to {found.high:.3f})"
