"""Training shared among processes that torchrun or `accelerate launch` started.

Each process takes its share of every batch, adds up gradients with the others and makes the same step; so the weights
stay equal without being sent. Gradients are added once after the backward passes rather than by
`DistributedDataParallel` during them: losses here run the model several times, differentiate through its input and
move its weights in between, which its hooks do not allow for.

Legend: B samples.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn


@dataclass(frozen=True)
class Processes:
    """This process among those of the training; alone by default.

    Attributes:
        rank: in [0, world).
        world: how many there are.
    """

    rank: int = 0
    world: int = 1

    @classmethod
    def of_launch(cls, device: torch.device) -> Processes:
        """Join the processes that a launcher started; alone where none did.

        Raises:
            RuntimeError: the others do not answer.
        """
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            return cls()
        if not dist.is_initialized():
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        return cls(dist.get_rank(), dist.get_world_size())

    @property
    def first(self) -> bool:
        """Whether it is this process that writes files and speaks."""
        return self.rank == 0

    def share(self, rows: Sequence[int]) -> Sequence[int]:
        """Return this process's part of a batch's rows."""
        size = len(rows)
        return rows[self.rank * size // self.world : (self.rank + 1) * size // self.world]

    def total(self, value: float, device: torch.device) -> float:
        """Return the sum of a number over the processes."""
        if self.world == 1:
            return value
        added = torch.tensor(value, dtype=torch.float64, device=device)
        dist.all_reduce(added)
        return float(added)

    def gather(self, rows: Tensor) -> Tensor:
        """Return the rows (B, ...) of every process, in the order of their ranks; without gradient."""
        rows = rows.detach()
        if self.world == 1:
            return rows
        counts = [torch.zeros((), dtype=torch.int64, device=rows.device) for _ in range(self.world)]
        dist.all_gather(counts, torch.tensor(len(rows), device=rows.device))
        most = max(int(count) for count in counts)
        padded = rows.new_zeros((most, *rows.shape[1:]))
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in range(self.world)]
        dist.all_gather(parts, padded)
        return torch.cat([part[: int(count)] for part, count in zip(parts, counts, strict=True)])

    def add_gradients(self, model: nn.Module) -> None:
        """Replace every weight's gradient by the sum over the processes, in one message."""
        if self.world == 1:
            return
        weights = [weight for weight in model.parameters() if weight.requires_grad]
        for weight in weights:  # a process without samples has none
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        dist.all_reduce(flat)
        for gradient, added in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(added.view_as(gradient))

    def average_buffers(self, model: nn.Module) -> None:
        """Replace floating buffers, such as running statistics, by their mean over the processes."""
        if self.world == 1:
            return
        for buffer in model.buffers():
            if buffer.is_floating_point():
                dist.all_reduce(buffer)
                buffer /= self.world
