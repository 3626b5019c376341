"""Random search for a policy on a validation set; it can be killed and goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import torch

from robustaug import atomic
from robustaug.ops.policies.operations import OPERATIONS
from robustaug.ops.policies.published import SubPolicies
from robustaug.registry import create, register
from robustaug.rng import Keys


class Found(NamedTuple):
    """What a search found.

    Attributes:
        policy: the best one; `policy.spec()` goes into a pipeline's YAML.
        score: its score.
        trials: (score, table) of every trial, in order.
    """

    policy: SubPolicies
    score: float
    trials: list[tuple[float, list[Any]]]


@register("policy.search", kind="procedure", tags={"policy"})
def search(
    score: Callable[[SubPolicies], float],
    path: str | PathLike[str],
    trials: int = 50,
    sub_policies: int = 5,
    steps: int = 2,
    operations: Sequence[str] = OPERATIONS,
    seed: int = 0,
) -> Found:
    """Draw policies at random and keep the one that scores best; every score is stored as soon as it is known.

    Random search is a strong baseline for this space (Bergstra & Bengio 2012; Cubuk et al. 2019 drop the search
    altogether). Trial i is the same whatever came before, so a killed search ends as an uninterrupted one.

    Args:
        score: greater is better; what you measure on data that neither trains nor tests the model.
        path: the file of results, JSON lines; started if it does not exist, continued if it does.
        trials: in all, those in the file included.
        sub_policies, steps: size of a policy's table.
        operations: what to choose from.
        seed: of the draws.

    Raises:
        ValueError: a count below 1, a score that is no finite number, or a file of another search.
    """
    for name, value in (("trials", trials), ("sub_policies", sub_policies), ("steps", steps)):
        if value < 1:
            raise ValueError(f"{name} must be >= 1, got {value}")
    path = Path(path)
    plan = {"sub_policies": sub_policies, "steps": steps, "operations": [*operations], "seed": seed}
    known = _read(path, plan)
    for trial in range(len(known), trials):
        table = _draw(trial, sub_policies, steps, operations, seed)
        result = float(score(create("policy.sub_policies", table=table)))
        if result != result or abs(result) == float("inf"):
            raise ValueError(f"score must be a finite number, got {result} for {table}")
        known.append((result, table))
        _write(path, plan, known)
    best = max(range(trials), key=lambda i: (known[i][0], -i))
    return Found(create("policy.sub_policies", table=known[best][1]), known[best][0], known[:trials])


def _draw(trial: int, sub_policies: int, steps: int, operations: Sequence[str], seed: int) -> list[Any]:
    keys = Keys.of(seed, torch.tensor([trial])).fold("policy.search")
    u = keys.uniform(3 * sub_policies * steps).reshape(sub_policies, steps, 3).tolist()
    # tenths: as fine as a published table, and the same when read back
    return [
        [[operations[int(a * len(operations))], int(b * 11) / 10, int(c * 11) / 10] for a, b, c in line] for line in u
    ]


def _read(path: Path, plan: dict[str, Any]) -> list[tuple[float, list[Any]]]:
    if not path.exists():
        return []
    try:
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        found, rest = lines[0], [(float(line["score"]), line["table"]) for line in lines[1:]]
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise ValueError(f"{path}: not a search's results ({error}); give another path") from None
    if found != plan:
        raise ValueError(f"{path} holds another search, {found}; this one is {plan}: give another path")
    return rest


def _write(path: Path, plan: dict[str, Any], known: list[tuple[float, list[Any]]]) -> None:
    lines = [json.dumps(plan), *(json.dumps({"score": score, "table": table}) for score, table in known)]
    atomic.write_text(path, "\n".join(lines) + "\n")
