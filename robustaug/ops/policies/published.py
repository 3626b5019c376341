"""AutoAugment, RandAugment and TrivialAugmentWide: drawn for each sample, where the usual ones draw for each call.

Legend: B samples, T turns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from robustaug.ops.operator import Params
from robustaug.ops.policies.operations import NARROW, OPERATIONS, SIGNED, WIDE, Chooser
from robustaug.ops.policies.tables import TABLES, Step, read_table
from robustaug.ops.space import fixed
from robustaug.registry import did_you_mean, register
from robustaug.rng import Keys

_USUAL = tuple(name for name in OPERATIONS if name != "invert")
_SIGNED = torch.tensor([name in SIGNED for name in OPERATIONS])


def draw_sign(keys: Keys, op: Tensor) -> Tensor:
    """Return -1 or 1 for each choice (B, T) of an operation that has two directions, 1 for the others."""
    minus = keys.fold("sign").uniform(op.shape[1]) < 0.5
    return torch.where(minus & _SIGNED.to(op.device)[op.clamp(min=0)], -1.0, 1.0)


def draw_among(keys: Keys, names: Sequence[str], turns: int) -> Tensor:
    """Return (B, turns) int64, positions in OPERATIONS, each of `names` as likely."""
    known = torch.tensor([OPERATIONS.index(name) for name in names], device=keys.index.device)
    return known[(keys.fold("op").uniform(turns) * len(names)).long()]


@register("policy.trivial_augment_wide", tags={"policy"})
class TrivialAugmentWide(Chooser):
    """Apply one operation of 14 to each sample, at one of 31 strengths: TrivialAugment's wide space.

    Source: Müller & Hutter 2021, arXiv 2103.10158, table 7; magnitudes as in torchvision.

    >>> import robustaug, torch
    >>> robustaug.create("policy.trivial_augment_wide")(torch.zeros(4, 3, 8, 8)).shape
    torch.Size([4, 3, 8, 8])
    """

    reach = WIDE

    def sample(self, keys: Keys) -> Params:
        """Draw "op" (B, 1) int64, "level" (B, 1) in [0, 1] and "sign" (B, 1)."""
        op = draw_among(keys, _USUAL, 1)
        level = torch.floor(keys.fold("level").uniform() * 31) / 30
        return super().sample(keys) | {"op": op, "level": level, "sign": draw_sign(keys, op)}


@register("policy.rand_augment", tags={"policy"})
class RandAugment(Chooser):
    """Apply `n` operations of 14 to each sample, all of the sample's at `magnitude` of 0 to 30.

    Source: Cubuk et al. 2019, arXiv 1909.13719; magnitudes as in torchvision.

    Raises:
        ValueError: n below 0, or magnitude outside 0 to 30.
    """

    reach = NARROW
    # not as an attribute: a policy's `magnitude` is the method that reads a level
    declared = {"magnitude": fixed(9, unit="of 30", bounds=(0, 30), severity=(3, 7, 12, 18, 27))}

    def __init__(self, n: int = 2, *, p: float = 1.0, severity: int | None = None, **params: Any) -> None:
        super().__init__(p=p, severity=severity, **params)
        if not isinstance(n, int) or n < 0:
            raise ValueError(f"{self.name}: n must be a whole number >= 0, got {n!r}")
        self.n = n

    def sample(self, keys: Keys) -> Params:
        """Draw "op", "level" and "sign", (B, n) each."""
        params, op = super().sample(keys), draw_among(keys, _USUAL, self.n)
        level = (params.pop("magnitude") / 30)[:, None].repeat(1, self.n)
        return params | {"op": op, "level": level, "sign": draw_sign(keys, op)}

    def spec(self) -> dict[str, Any]:
        [(name, params)] = super().spec().items()
        return {name: {"n": self.n, **params}}


@register("policy.sub_policies", tags={"policy"})
class SubPolicies(Chooser):
    """Give each sample one sub-policy of a table: a few operations in turn, each with its chance and level.

    Args:
        table: a list of sub-policies, each a list of [operation, chance, level], chance and level in [0, 1]; the
            operations are those of AutoAugment. `policy.search` makes such tables.

    Raises:
        ValueError: an empty table, an unknown operation, or a chance or level outside [0, 1].
    """

    reach = NARROW

    def __init__(
        self, table: Sequence[Sequence[Sequence[Any]]] = ((("identity", 1.0, 0.0),),), *, p: float = 1.0, **params: Any
    ) -> None:
        super().__init__(p=p, **params)
        self.table = [[self._step(step) for step in line] for line in table]
        if not self.table or not all(self.table):
            raise ValueError(f"{self.name}: table must have at least one sub-policy of one operation, got {table!r}")

    def _step(self, step: Sequence[Any]) -> Step:
        if isinstance(step, str) or len(step) != 3:
            raise ValueError(f"{self.name}: a step reads [operation, chance, level], got {step!r}")
        name, chance, level = step
        if name not in OPERATIONS:
            raise ValueError(
                f"{self.name}: unknown operation {name!r}{did_you_mean(str(name), OPERATIONS)}; "
                f"known: {', '.join(OPERATIONS)}"
            )
        if not (0 <= chance <= 1 and 0 <= level <= 1):
            raise ValueError(f"{self.name}: chance and level of {name} must be in [0, 1], got {chance!r} and {level!r}")
        return name, float(chance), float(level)

    def sample(self, keys: Keys) -> Params:
        """Draw "op" (B, T) int64, -1 where a chance was missed, "level" and "sign" (B, T)."""
        turns, device = max(len(line) for line in self.table), keys.index.device
        padded = [line + [("identity", 0.0, 0.0)] * (turns - len(line)) for line in self.table]
        ops = torch.tensor([[OPERATIONS.index(step[0]) for step in line] for line in padded], device=device)
        chances, levels = (torch.tensor([[step[i] for step in line] for line in padded], device=device) for i in (1, 2))
        pick = (keys.fold("pick").uniform()[:, 0] * len(padded)).long()
        op = torch.where(keys.fold("chance").uniform(turns) < chances[pick], ops[pick], -1)
        return super().sample(keys) | {"op": op, "level": levels[pick], "sign": draw_sign(keys, op)}

    def spec(self) -> dict[str, Any]:
        [(name, params)] = super().spec().items()
        return {name: {"table": [[[*step] for step in line] for line in self.table], **params}}


@register("policy.auto_augment", tags={"policy"})
class AutoAugment(SubPolicies):
    """Give each sample one of the 25 sub-policies that AutoAugment found for `table`: cifar10, imagenet or svhn.

    Source: Cubuk et al. 2018, arXiv 1805.09501, appendix A; magnitudes as in torchvision.

    Raises:
        ValueError: an unknown table.
    """

    def __init__(self, table: str = "imagenet", *, p: float = 1.0, **params: Any) -> None:
        if table not in TABLES:
            near = did_you_mean(str(table), TABLES)
            raise ValueError(f"{self.name}: unknown table {table!r}{near}; known: {', '.join(TABLES)}")
        super().__init__(read_table(TABLES[table]), p=p, **params)
        self.of = table

    def spec(self) -> dict[str, Any]:
        [(name, params)] = super().spec().items()
        return {name: params | {"table": self.of}}
