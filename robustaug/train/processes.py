"""Training shared among the processes of a launcher: what they send each other.

Each process takes its share of every batch, adds up gradients with the others and makes the same step; so the weights
stay equal without being sent, and after each step all processes hold the same state. Gradients are added once after
the backward passes rather than by `DistributedDataParallel` during them: losses here run the model several times,
differentiate through its input and move its weights in between, which its hooks do not allow for.

The result is that of one process with the same batches, up to rounding, but for what belongs to a process's share
alone: batch normalisation takes the statistics of the share (as `accumulate` takes those of a part), mixers mix samples
of one share, and dropout draws for each process by itself.

Legend: B samples, W processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from robustaug.launch import place, talking


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
    def of_group(cls) -> Processes:
        """Return the place in the group that `launch.joined` made; alone where there is none."""
        return cls(*place())

    @property
    def first(self) -> bool:
        """Whether it is this process that writes files and speaks."""
        return self.rank == 0

    def share(self, rows: Sequence[int]) -> Sequence[int]:
        """Return this process's part of a batch's rows."""
        size = len(rows)
        return rows[self.rank * size // self.world : (self.rank + 1) * size // self.world]

    def total(self, value: float) -> float:
        """Return the sum of a number over the processes."""
        if self.world == 1:
            return value
        added = torch.tensor(value, dtype=torch.float64)
        with talking():
            dist.all_reduce(added)
        return float(added)

    def each(self, count: int) -> list[int]:
        """Return a whole number of every process, in the order of their ranks."""
        if self.world == 1:
            return [count]
        counts = torch.zeros(self.world, dtype=torch.int64)
        counts[self.rank] = count
        with talking():
            dist.all_reduce(counts)
        return counts.tolist()

    def agreed(self, flag: bool) -> bool:
        """Return the first process's flag: what depends on a clock must be decided in one place."""
        return bool(self.each(flag)[0])

    def gather(self, rows: Tensor) -> Tensor:
        """Return the rows (B, ...) of every process, in the order of their ranks; without gradient."""
        rows = rows.detach()
        if self.world == 1:
            return rows
        counts = self.each(len(rows))
        kind = torch.uint8 if rows.dtype == torch.bool else rows.dtype  # not every backend sends bools
        padded = torch.zeros((max(counts), *rows.shape[1:]), dtype=kind, device=rows.device)
        padded[: len(rows)] = rows.to(kind)
        parts = [torch.empty_like(padded) for _ in range(self.world)]
        with talking():
            dist.all_gather(parts, padded)
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)]).to(rows.dtype)

    def average(self, value: Tensor, share: float) -> None:
        """Replace a tensor by its mean over the processes; their shares sum to 1."""
        if self.world > 1:
            value *= share
            with talking():
                dist.all_reduce(value)

    def statistics(self, model: nn.Module) -> list[Tensor]:
        """Return copies of what forward passes may move."""
        return [] if self.world == 1 else [buffer.clone() for buffer in moving(model)]

    def add_up(self, model: nn.Module, before: list[Tensor], share: float, total: Tensor) -> Tensor:
        """Add up in one message what the processes found in a batch.

        Every weight's gradient becomes the sum over the processes, None where none has one, and every floating buffer
        what it was `before` plus the mean of its changes; so a buffer that nobody changes stays exactly as it is.

        Args:
            before: from `statistics`, ahead of the passes.
            share: of the batch's samples that were this process's, in [0, 1]; the shares of all processes sum to 1.
            total: a scalar.

        Returns:
            The sum of `total` over the processes.
        """
        if self.world == 1:
            return total
        weights = [weight for weight in model.parameters() if weight.requires_grad]
        gradients = [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in weights]
        buffers = moving(model)
        changes = [(buffer - old) * share for buffer, old in zip(buffers, before, strict=True)]
        found = [weight.grad is not None for weight in weights]
        # zeros where there is no gradient: all messages must have one size
        parts = [*gradients, *changes, total.to(torch.float32), total.new_tensor(found, dtype=torch.float32)]
        flat = torch.cat([part.reshape(-1) for part in parts])
        with talking():
            dist.all_reduce(flat)
        for part, added in zip(parts, flat.split([part.numel() for part in parts]), strict=True):
            part.copy_(added.view_as(part))
        # looked at, which waits for the device, only where a gradient is missing here
        somewhere = found if all(found) else (parts[-1] > 0).tolist()
        for weight, gradient, has_one in zip(weights, gradients, somewhere, strict=True):
            weight.grad = gradient if has_one else None
        for buffer, old, change in zip(buffers, before, changes, strict=True):
            buffer.copy_(old + change)
        return parts[-2].to(total.dtype)


def moving(model: nn.Module) -> list[Tensor]:
    """Return what forward passes may move: floating buffers, such as running means."""
    return [buffer for buffer in model.buffers() if buffer.is_floating_point()]
