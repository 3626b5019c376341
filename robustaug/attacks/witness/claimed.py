"""Points that are said to be made from parameters: they are made again, by the attack that the claim names.

Nothing of the claim is believed. Of its attack only what limits the parameters is read, and only built-in attacks and
operators that read no file are made, those inside a combinator or a list as well.

Legend: N witnesses, ... the rest of a sample's shape.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from robustaug.attacks.attack import Attack
from robustaug.attacks.threat import Ball
from robustaug.registry import lookup

LIMITS = ("operator", "reach")
"""The parameters of attacks that say which points they may make; the others say how to search."""
FAMILIES = ("image", "imagenet_c", "cifar_c", "imagenet_c_bar", "signal", "tabular", "policy", "compose")
"""Of the operators that are made."""
CHUNK = 256


class Replayed(NamedTuple):
    """What making the points again found.

    Attributes:
        needed: (N,) bool, the point is not the sample, and comes from an attack that searches parameters.
        made: (N,) bool, its parameters are allowed and make the point again.
        notes: sentences on what could not be made.
    """

    needed: Tensor
    made: Tensor
    notes: list[str]


def replay(
    spec: Mapping[str, Any], ball: Ball, points: Tensor, by: Tensor | None, params: dict[str, Tensor]
) -> Replayed:
    """Make the points (N, ...) again from their parameters.

    Args:
        spec: `{name: parameters}` of the attack, as the claim has it.
        ball: around the clean samples.
        by: (N,) int64, which attack of an ensemble made each; None for the only one.
        params: (N, ...) by name; those of an ensemble's later attacks bear their number: "2.angle_deg".

    Raises:
        ValueError: parameters that the attack does not have, or of a shape that it cannot use.
    """
    changed = (points != ball.clean).flatten(1).any(1)
    needed, made = torch.zeros_like(changed), torch.zeros_like(changed)
    try:
        attacks = [_made(one) for one in _parts(spec)]
    except Exception as error:  # whatever somebody else's parameters make of an operator
        if not params:
            return Replayed(needed, made, [])
        first_line = str(error).split("\n")[0][:200]
        return Replayed(changed, made, [f"The parameters could not be replayed: {first_line!r}."])
    by = torch.zeros_like(changed, dtype=torch.int64) if by is None else by
    for number, attack in enumerate(attacks):
        if getattr(type(attack), "replays", Attack.replays) is Attack.replays:
            continue
        rows = ((by == number) & changed).nonzero()[:, 0]
        needed[rows] = True
        own = _own(params, number)
        for some in rows.split(CHUNK) if own else ():
            made[some] = _replays(attack, ball.take(some), points[some], {k: v[some] for k, v in own.items()})
    if params:
        needed |= changed & (by >= len(attacks))
    return Replayed(needed, made, [])


def _parts(spec: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Return names and parameters of the attacks that the numbers in `by` stand for."""
    [(name, params)] = spec.items()
    specs = params.get("attacks", []) if name == "attack.ensemble" and isinstance(params, dict) else [spec]
    pairs = []
    for one in specs:
        [(part, given)] = [(one, None)] if isinstance(one, str) else one.items() if isinstance(one, dict) else [("", 0)]
        if not isinstance(part, str) or not isinstance(given, dict | None):
            raise TypeError("its attack must be a name or {name: parameters}")
        pairs.append((part, given or {}))
    return pairs


def _made(part: tuple[str, Mapping[str, Any]]) -> Attack:
    name, params = part
    if params.get("operator") is not None:
        for operator in _named(params["operator"]):
            _require_own(operator, FAMILIES)
    _require_own(name, ("attack",))
    return lookup(name).factory(**{key: params[key] for key in LIMITS if key in params})


def _named(operator: Any) -> Iterator[str]:
    """Return the name of every operator that one is, a list holds, or a combinator has inside."""
    for one in operator if isinstance(operator, list) else [operator]:
        [(name, params)] = one.items() if isinstance(one, dict) else [(one, None)]
        yield str(name)
        if isinstance(params, dict) and "of" in params:
            yield from _named(params["of"])


def _require_own(name: str, families: tuple[str, ...]) -> None:
    if name.split(".")[0] not in families or not lookup(name).factory.__module__.startswith("robustaug."):
        raise ValueError(f"{name!r} is none of the attacks and operators that a claim may name")


def _own(params: Mapping[str, Tensor], number: int) -> dict[str, Tensor]:
    """Return the parameters of one attack by its own names for them."""
    if number == 0:
        return {key: value for key, value in params.items() if "." not in key}
    return {key.split(".", 1)[1]: value for key, value in params.items() if key.split(".")[0] == str(number)}


def _replays(attack: Attack, ball: Ball, points: Tensor, params: dict[str, Tensor]) -> Tensor:
    try:
        return attack.replays(ball, points, params)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # whatever tensors of a wrong shape make of it
        first_line = str(error).split("\n")[0]
        raise ValueError(f"{attack.name}: the witnesses' parameters do not fit it ({first_line})") from None
