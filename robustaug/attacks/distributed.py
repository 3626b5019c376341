"""One attack on several processes: each works on its share of the samples, and all get the whole result.

With one process a GPU, or any number on CPUs; see `robustaug.launch`. A sample's random numbers follow its own key, so
the result does not depend on the number of processes, up to the model's rounding; `run` names the exceptions.

Legend: B samples, ... the rest of a sample's shape, W processes.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from robustaug import launch
from robustaug.attacks.execution import Execution
from robustaug.attacks.inputs import mask_rows
from robustaug.attacks.state import AttackResult
from robustaug.models.fingerprint import model_fingerprint
from robustaug.rng import Keys

if TYPE_CHECKING:
    from robustaug.attacks.attack import Attack


def run(
    attack: Attack,
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    keys: Keys | None = None,
    eps: float | str | Tensor | None = None,
    target: Tensor | None = None,
    mask: Tensor | None = None,
    execution: Execution | None = None,
) -> AttackResult:
    """Attack a batch with all processes of the group, rank r the rows r, r + W, ...; see `driver.run`.

    Every process is given the whole batch and returns the whole result. A checkpoint is kept by each process, under
    the name that `execution` has with its rank behind. Outside a group this is the attack itself.

    For attacks whose samples depend on each other (tagged "shared") each process's rows are a set of their own. One
    that stops early does so in each process by itself: together they have tried at least as many samples as one would,
    and an interval over all of them holds, as which process a sample falls to has nothing to do with its outcome.

    Raises:
        ValueError: as `driver.run`, or processes that were given different attacks, models or samples.
    """
    rank, world = launch.place()
    if world == 1:
        return attack(model, x, y, keys, eps, target, mask, execution)
    _require_alike(attack, model, x, y)
    execution = execution or Execution()
    if execution.checkpoint is not None:
        path = Path(execution.checkpoint)
        execution = replace(execution, checkpoint=path.with_name(f"{path.name}.{rank}-of-{world}"))
    keys = Keys.of(0, len(x)).to(x.device) if keys is None else keys
    share = slice(rank, None, world)
    result = attack(
        model,
        x[share],
        y[share],
        keys[share],
        eps[share] if isinstance(eps, Tensor) and eps.ndim else eps,
        None if target is None else target[share],
        None if mask is None else mask_rows(mask, x)[share],
        execution,
    )
    return AttackResult(*(gathered(column, len(x), x.device) for column in result))


def _require_alike(attack: Attack, model: nn.Module, x: Tensor, y: Tensor) -> None:
    digest = hashlib.sha256(json.dumps(attack.spec(), sort_keys=True).encode())
    digest.update(model_fingerprint(model).encode())
    for tensor in (x, y):
        digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    if not launch.alike(digest.digest()):
        raise ValueError("the processes were given different attacks, models or samples; give all of them the same")


def gathered(rows: Any, total: int, device: torch.device | None = None) -> Any:
    """Return the rows of all processes, (total, ...), from this one's; of a dict of tensors, each entry's.

    Where a process lacks an entry that another one has, its rows are zeros on `device`, the CPU when left out.
    """
    if isinstance(rows, Tensor):
        return _gathered_rows(rows, total)
    layouts: list[Any] = [None] * dist.get_world_size()
    with launch.talking():
        dist.all_gather_object(layouts, {name: value[:0].cpu() for name, value in rows.items()})
    every = {name: empty for layout in layouts for name, empty in sorted(layout.items())}
    share = len(range(dist.get_rank(), total, dist.get_world_size()))
    whole = {}
    for name, empty in sorted(every.items()):
        value = rows.get(name)
        mine = torch.zeros(share, *empty.shape[1:], dtype=empty.dtype, device=device) if value is None else value
        whole[name] = _gathered_rows(mine, total)
    return whole


def _gathered_rows(rows: Tensor, total: int) -> Tensor:
    world = dist.get_world_size()
    most = -(-total // world)
    kind = torch.uint8 if rows.dtype == torch.bool else rows.dtype  # not every backend sends bools
    padded = torch.zeros(most, *rows.shape[1:], dtype=kind, device=rows.device)
    padded[: len(rows)] = rows.to(kind)
    parts = [torch.empty_like(padded) for _ in range(world)]
    with launch.talking():
        dist.all_gather(parts, padded)
    whole = torch.stack(parts, dim=1).flatten(0, 1)  # (most, W, ...) to (most W, ...): row r of rank k is sample rW + k
    return whole[:total].to(rows.dtype)
