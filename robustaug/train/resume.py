"""The state of unfinished training in one safetensors file: weights, optimiser tensors, progress."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from robustaug import atomic


@dataclass(frozen=True)
class Progressed:
    """Epochs finished so far, with their figures."""

    history: list[dict[str, float]] = field(default_factory=list)

    @property
    def epochs(self) -> int:
        return len(self.history)

    def after(self, figures: dict[str, float]) -> Progressed:
        """Return the state with one more epoch."""
        return Progressed([*self.history, figures])

    def is_best(self, figures: dict[str, float]) -> bool:
        """Whether these figures are the best so far; the earliest wins ties."""
        return all(_merit(figures) > _merit(h) for h in self.history if h is not figures)


def _merit(figures: dict[str, float]) -> tuple[float, float]:
    """Robust accuracy first, where it is measured; then accuracy."""
    return figures.get("val_robust_accuracy", 0.0), figures["val_accuracy"]


def write(
    path: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer, state: Progressed, identity: str
) -> None:
    """Store everything that the next epoch needs, whole or not at all."""
    tensors = {f"model.{key}": value for key, value in model.state_dict().items()}
    scalars: dict[str, Any] = {}
    for number, slot in optimizer.state_dict()["state"].items():
        for key, value in slot.items():
            name = f"optimizer.{number}.{key}"
            (tensors if isinstance(value, Tensor) else scalars)[name] = value
    metadata = {"history": json.dumps(state.history), "identity": identity, "scalars": json.dumps(scalars)}
    with atomic.replacing(path) as aside:
        save_file({key: value.detach().cpu().contiguous() for key, value in tensors.items()}, aside, metadata)


def read(path: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer, identity: str) -> Progressed:
    """Load the state at `path` into model and optimiser; an empty state where there is no file.

    Raises:
        ValueError: the file is damaged, or belongs to other training.
    """
    if not path.exists():
        return Progressed()
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("identity") != identity:
                raise ValueError(
                    f"{path.parent} holds training with another recipe, data or device; set another name, or remove it"
                )
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged ({error}); remove it to train from the start") from None
    model.load_state_dict({k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")})
    slots: dict[int, dict[str, Any]] = {}
    stored = {k: v for k, v in tensors.items() if k.startswith("optimizer.")} | json.loads(metadata["scalars"])
    for name, value in stored.items():
        _, number, key = name.split(".", 2)
        slots.setdefault(int(number), {})[key] = value
    optimizer.load_state_dict({"state": slots, "param_groups": optimizer.state_dict()["param_groups"]})
    return Progressed(json.loads(metadata["history"]))
