"""The state of unfinished training: everything that the next step depends on, in one safetensors file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.optim.swa_utils import AveragedModel

from robustaug import atomic
from robustaug.train.loss import Memory
from robustaug.train.validation import Figures


@dataclass
class State:
    """Training so far.

    Attributes:
        model, optimizer, scaler, average, memory: hold tensors.
        epoch: of the next step, from 0.
        step: of the next step within its epoch.
        loss: sum of the losses of this epoch's samples so far, float64.
        seen: how many those were.
        seconds: that this epoch took up to `step`.
        start: figures of the checkpoint that training began at.
        history: figures of each finished epoch.
        stopped: why training ended before its time; empty otherwise.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: GradScaler
    average: AveragedModel | None
    memory: Memory
    epoch: int = 0
    step: int = 0
    loss: float = 0.0
    seen: int = 0
    seconds: float = 0.0
    start: Figures = field(default_factory=dict)
    history: list[Figures] = field(default_factory=list)
    stopped: str = ""

    _PLAIN = ("epoch", "step", "loss", "seen", "seconds", "start", "history", "stopped")

    def write(self, path: Path, identity: str) -> None:
        """Store the state, whole or not at all."""
        tensors = {f"memory.{key}": value for key, value in self.memory.items()}
        for name, module in self._modules().items():
            tensors |= {f"{name}.{key}": value for key, value in module.state_dict().items()}
        scalars: dict[str, Any] = {}
        for number, slot in self.optimizer.state_dict()["state"].items():
            for key, value in slot.items():
                name = f"optimizer.{number}.{key}"
                (tensors if isinstance(value, Tensor) else scalars)[name] = value
        plain = {key: getattr(self, key) for key in self._PLAIN}
        metadata = {
            "identity": identity,
            "plain": json.dumps(plain),
            "scalars": json.dumps(scalars),
            "scaler": json.dumps(self.scaler.state_dict()),
        }
        # clones: safetensors refuses tensors that share memory, as tied weights do
        stored = {key: value.detach().cpu().clone().contiguous() for key, value in tensors.items()}
        with atomic.replacing(path) as aside:
            save_file(stored, aside, metadata)

    def read(self, path: Path, identity: str) -> None:
        """Load what `write` stored at `path`; nothing changes where there is no file.

        Raises:
            ValueError: the file is damaged, or belongs to other training.
        """
        if not path.exists():
            return
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                if metadata.get("identity") != identity:
                    raise ValueError(
                        f"{path.parent.parent} holds training with another recipe, data or device; set another name, "
                        "or remove it"
                    )
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)
        except SafetensorError as error:
            raise ValueError(f"{path} is damaged ({error}); remove it to train from the start") from None
        for name, module in self._modules().items():
            module.load_state_dict(_under(name, tensors))
        for key, value in _under("memory", tensors).items():
            self.memory[key].copy_(value)
        self._read_optimizer(_under("optimizer", tensors) | _under("optimizer", json.loads(metadata["scalars"])))
        if stored := json.loads(metadata["scaler"]):
            self.scaler.load_state_dict(stored)
        for key, value in json.loads(metadata["plain"]).items():
            setattr(self, key, value)

    def _modules(self) -> dict[str, nn.Module]:
        return {"model": self.model} | ({} if self.average is None else {"average": self.average})

    def _read_optimizer(self, stored: Mapping[str, Any]) -> None:
        slots: dict[int, dict[str, Any]] = {}
        for name, value in stored.items():
            number, key = name.split(".", 1)
            slots.setdefault(int(number), {})[key] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": slots, "param_groups": groups})


def _under(prefix: str, named: Mapping[str, Any]) -> dict[str, Any]:
    return {key.removeprefix(f"{prefix}."): value for key, value in named.items() if key.startswith(f"{prefix}.")}
