"""One attack on one model: every sample of the data at once, with what the figures are worth.

Legend: N samples, K classes.
"""

from __future__ import annotations

import time
import warnings
from typing import NamedTuple

import torch
from torch import Tensor

from robustaug.attacks import distributed, witness
from robustaug.attacks.attack import Attack
from robustaug.attacks.driver import labels_of
from robustaug.attacks.execution import Execution
from robustaug.attacks.masking import SAMPLES, Finding, check_surrogate, examine, threat_of
from robustaug.attacks.state import AttackWarning
from robustaug.attacks.verify import broken
from robustaug.attacks.witness import Witnesses
from robustaug.data.source import Source, batches
from robustaug.evaluate.attacked import attackable, broke
from robustaug.evaluate.statistics import Interval, anytime, wilson
from robustaug.models.classifier import Classifier
from robustaug.rng import Keys, subset


class Assault(NamedTuple):
    """What an attack on a model found.

    Attributes:
        samples: given to the attack, damaged ones left out.
        tried: of these the attack came to so many; fewer only where it may stop early, and did. All figures are about
            them alone.
        clean, robust: accuracy without and under attack, each with its 95 % interval: Wilson's or, where the attack
            itself decides when to stop, one that holds whenever it does (`statistics.anytime`).
        broke: samples each attack broke that the model had right, by the attack's name, in the order of an ensemble.
        distance: the median norm of the points that broke samples the model had right, NaN where there are none.
        forwards, backwards: mean passes a sample.
        fragile: successes that did not hold when they were checked again; they count as not broken.
        silent: samples that stood without ever having a gradient.
        seconds: of the attack alone.
        findings: signs that the figures say less than they seem; None where nobody looked.
        witnesses: what broke the model.
    """

    samples: int
    tried: int
    clean: Interval
    robust: Interval
    broke: dict[str, int]
    distance: float
    forwards: float
    backwards: float
    fragile: int
    silent: int
    seconds: float
    findings: list[Finding] | None
    witnesses: Witnesses


def assault(
    attack: Attack,
    model: Classifier,
    source: Source,
    device: torch.device,
    limit: int | None = None,
    seed: int = 0,
    execution: Execution | None = None,
    checks: bool = True,
    surrogate: Classifier | None = None,
) -> Assault:
    """Attack a model on all samples of a source; under `torchrun` the processes share them.

    A sample's random numbers follow from the seed and its index in the data, so a part of the data gives the same
    points as the whole.

    Args:
        model: in eval mode, on `device`.
        limit: the most samples, a random choice by the seed; all when left out.
        execution: as for any attack; its batch size also holds for the clean pass, 256 when left out.
        checks: look for masked gradients on a few of the samples as well.
        surrogate: another model of the same task for these checks, in eval mode, on `device`.

    Raises:
        ValueError: no readable sample, a surrogate without checks or that does not fit, or as `driver.run` and
            `masking.examine`.
    """
    if surrogate is not None and not checks:
        raise ValueError("a surrogate is for the checks, which are off; leave one of the two out")
    execution = execution or Execution(batch_size=256)
    size = execution.batch_size or 256
    rows: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
    for batch in batches(source, size, subset(len(source), limit, seed)):
        x = source.as_input(batch.image, device)
        with torch.inference_mode():
            rows.append((x, batch.label.to(device), batch.index, model(x)))
    if not rows:
        raise ValueError(f"{source.name} holds no readable sample; see the quarantine list")
    x, y, index, logits = (torch.cat(part) for part in zip(*rows, strict=True))
    logits = logits.clone()  # no longer of inference mode
    if surrogate is not None:  # now, not after the hours that the attack may take
        check_surrogate(surrogate, model, x)
    keys = Keys.of(seed, index).to(device)
    target = labels_of(attack, y, None, keys, logits.shape[1]) if attack.targeted else None
    attacked = attackable(model, x[:size])
    started = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AttackWarning)  # the figures and findings say what it warns of
        result = distributed.run(attack, attacked, x, y, keys, target=target, execution=execution)
    seconds = time.perf_counter() - started
    tried = result.tried
    right = ~broken(logits, y) & logits.amax(1).isfinite() & tried
    fell = result.success & result.verified
    n, share = int(tried.sum()), anytime if attack.may_stop else wilson
    return Assault(
        samples=len(x),
        tried=n,
        clean=share(int(right.sum()), n),
        robust=share(int((~fell & right).sum()), n),
        broke=broke(attack, result.by[fell & right]),
        distance=float(result.norm[fell & right].quantile(0.5)) if bool((fell & right).any()) else float("nan"),
        forwards=float(result.forwards[tried].double().mean()),
        backwards=float(result.backwards[tried].double().mean()),
        fragile=int((result.success & ~result.verified & tried).sum()),
        silent=int((result.silent & tried).sum()),
        seconds=seconds,
        findings=_findings(attack, model, x, y, keys, seed, execution, surrogate) if checks else None,
        witnesses=witness.gather(result, attack, model, x, y, target=target, index=index, data=source.fingerprint),
    )


def _findings(
    attack: Attack,
    model: Classifier,
    x: Tensor,
    y: Tensor,
    keys: Keys,
    seed: int,
    execution: Execution,
    surrogate: Classifier | None,
) -> list[Finding]:
    few = subset(len(x), SAMPLES, seed).to(x.device)
    threat, eps = threat_of(attack, attack.eps)
    return examine(model, x[few], y[few], threat, eps, keys[few].fold("examine"), surrogate, execution.batch_size)
