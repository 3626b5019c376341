"""How an attack runs, apart from what it does: batches, precision, layout, compilation, progress, checkpoints."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from robustaug.attacks.fuse import fused
from robustaug.models.classifier import logits_of

PRECISIONS = {"full": None, "bf16": torch.bfloat16, "fp16": torch.float16}
CACHED = 64
"""Samples a pass on the CPU where nothing is said: small images then stay in the processor's cache."""


class Progress(NamedTuple):
    """How far an attack is.

    Attributes:
        attack: its name.
        total, standing: samples in all, and those that are not broken yet.
        fraction: of the attack's steps that are done, 0 to 1.
        seconds, seconds_left: since the start, and expected at the pace so far.
        interval: where the accuracy of all samples lies, for attacks that may stop before they have tried them all.
    """

    attack: str
    total: int
    standing: int
    fraction: float
    seconds: float
    seconds_left: float
    interval: tuple[float, float] | None = None

    @property
    def accuracy(self) -> float:
        """The share of samples that stand so far."""
        return self.standing / max(1, self.total)


class Searched(NamedTuple):
    """What the search asks.

    Attributes:
        ask: from points (B, ...) to logits, or to an object with `.logits`.
        differs: it is not the model itself, so what breaks it must be asked of the model, too.
    """

    ask: Callable[[Tensor], Any]
    differs: bool


@dataclass(frozen=True, kw_only=True)
class Execution:
    """How to run an attack; none of it changes what an attack searches, up to rounding.

    Attributes:
        batch_size: most samples a pass of the model; when left out 64 on the CPU, otherwise all that stand. What was
            found is judged again in larger passes: see `check_size`.
        precision: "full", or "bf16" or "fp16" for the search: then whatever breaks the reduced model is asked of the
            model itself, and counts only where that breaks too. Attacks that compare losses, such as attack.square,
            search worse with it: logits of bf16 have three digits.
        fuse: fold batch normalisation into convolutions for the search, where the model's parts are known to allow it.
            Whatever breaks the folded model is asked of the model itself, too.
        channels_last: lay images out as B H W C in memory; where left out, on the CPU for a folded model.
        compile: run the model through torch.compile; on CUDA with CUDA graphs. Batches are filled up to powers of two,
            and to a quarter of the first at least, so that few sizes are ever compiled.
        budget: most forward passes a sample; the attack ends before any sample would need more.
        patience: steps between two looks at which samples still stand. With more than 1 nothing waits for the device in
            between, and samples that fell are worked on until the next look. When left out 1 on the CPU, otherwise 8.
        progress: called after each step.
        checkpoint: a file that is written while the attack runs; a run that finds it goes on from there.
        checkpoint_every_s: seconds between two checkpoints.
    """

    batch_size: int | None = None
    precision: str = "full"
    fuse: bool = True
    channels_last: bool | None = None
    compile: bool = False
    budget: int | None = None
    patience: int | None = None
    progress: Callable[[Progress], None] | None = None
    checkpoint: Path | str | None = None
    checkpoint_every_s: float = 60.0

    def __post_init__(self) -> None:
        """Check every value.

        Raises:
            ValueError: names the field, its value and what is allowed.
        """
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {', '.join(map(repr, PRECISIONS))}, got {self.precision!r}")
        for key in ("batch_size", "budget", "patience"):
            value = getattr(self, key)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise ValueError(f"{key} must be a whole number >= 1, got {value!r}")
        if not self.checkpoint_every_s >= 0:
            raise ValueError(f"checkpoint_every_s must be >= 0, got {self.checkpoint_every_s!r}")

    def pass_size(self, x: Tensor) -> int:
        """Return how many samples the largest pass takes where points x (B, ...) are asked; at least 1."""
        most = self.batch_size or (CACHED if x.device.type == "cpu" else len(x))
        return max(1, min(most, len(x)))

    def check_size(self, x: Tensor) -> int:
        """Return how many samples every pass takes that judges again what was found around x (B, ...).

        One more than the largest pass of the attack, with what a compiled model's passes are filled up by, so that no
        sample is judged at a size at which it was found: some models answer otherwise in other company, and a network's
        rounding depends on the size as well.
        """
        most = self.pass_size(x)
        return (bucket(most) if self.compile else most) + 1

    def looks(self, device: torch.device) -> int:
        """Return the steps between two looks at which samples still stand."""
        return self.patience or (1 if device.type == "cpu" else 8)

    def reduced(self, device: torch.device) -> contextlib.AbstractContextManager[Any]:
        """Return the context in which the search asks the model."""
        dtype = PRECISIONS[self.precision]
        return contextlib.nullcontext() if dtype is None else torch.autocast(device.type, dtype)

    def prepare(self, model: nn.Module, x: Tensor) -> Searched:
        """Return what the search asks in place of the model, for samples such as x (B, ...)."""
        folded = fused(model, x) if self.fuse else None
        last = folded is not None and x.device.type == "cpu" if self.channels_last is None else self.channels_last
        layout = torch.channels_last if last and x.ndim == 4 else torch.contiguous_format
        if folded is not None and x.ndim == 4:
            folded = folded.to(memory_format=layout)  # type: ignore[call-overload]
        asked: Callable[[Tensor], Any] = folded or model
        if self.compile:
            asked = torch.compile(asked, mode="reduce-overhead" if x.is_cuda else "default", dynamic=False)
        # torch.compile goes back to eager after eight: three sizes, with and without gradient
        least = bucket(self.pass_size(x)) // 4

        def ask(x: Tensor) -> Any:
            # a copy each time: the model may work in place
            if not self.compile or not len(x):
                return asked(x.clone(memory_format=layout))
            whole = filled(x, max(bucket(len(x)), least))
            # CUDA graphs write each answer to the same place
            return logits_of(asked(whole.clone(memory_format=layout)))[: len(x)].clone()

        return Searched(ask, self.precision != "full" or self.compile or folded is not None)


def filled(x: Tensor, size: int) -> Tensor:
    """Return x (B, ...), B >= 1, with copies of its last row behind it, `size` rows in all."""
    return torch.cat([x, x[-1:].expand(size - len(x), *[-1] * (x.ndim - 1))])


def bucket(size: int) -> int:
    """Return the least power of two that is at least `size`."""
    return 1 << max(0, size - 1).bit_length()
