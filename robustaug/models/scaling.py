"""Maps from logits to calibrated logits, as modules and as files: what held-out data says of a model's confidence.

They are fitted by `robustaug.trust.calibration.fit_scaling`, stored as safetensors beside the model, and put behind it
by `model.calibrated`. All are differentiable, so that attacks see the calibrated model.

Legend: B samples, K classes, C columns (1 for two classes, else K), P points of all columns.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from robustaug import atomic
from robustaug.registry import did_you_mean

METADATA_KEY = "robustaug_scaling"
_LEAST = 1e-12  # a probability of 0 would have no finite logit


class Scaling(nn.Module):
    """A map of logits (B, K) to logits (B, K).

    Attributes:
        kind: such as "temperature".
        tensors: names of the buffers that hold what was fitted, float64; the constructor takes them in this order.
        classes: K, None where it fits any number.
    """

    kind: ClassVar[str]
    tensors: ClassVar[tuple[str, ...]]
    classes: int | None = None

    def _hold(self, **values: Any) -> None:
        for name, value in values.items():
            tensor = torch.as_tensor(value, dtype=torch.float64)
            if not torch.isfinite(tensor).all():
                raise ValueError(f"{self.kind} scaling: {name} must be finite")
            self.register_buffer(name, tensor)

    def held(self, name: str) -> Tensor:
        """Return what was fitted, by its name among `tensors`."""
        return cast(Tensor, getattr(self, name))

    def _of(self, name: str, like: Tensor) -> Tensor:
        return self.held(name).to(like.dtype)

    def forward(self, logits: Tensor) -> Tensor:
        """Return calibrated logits (B, K) of the same dtype.

        Raises:
            ValueError: it was fitted for another number of classes.
        """
        if self.classes is not None and logits.shape[1] != self.classes:
            raise ValueError(
                f"{self.kind} scaling was fitted on {self.classes} classes, the model has {logits.shape[1]}"
            )
        return self.scaled(logits)

    def scaled(self, logits: Tensor) -> Tensor:
        """The map itself."""
        raise NotImplementedError(f"{type(self).__name__} must define scaled(logits)")

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return calibrated probabilities (B, K)."""
        return torch.softmax(self(logits), dim=1)

    def extra_repr(self) -> str:
        return f"kind={self.kind}, classes={self.classes}"


class TemperatureScaling(Scaling):
    """logits / T: no prediction changes (Guo et al. 2017, arXiv 1706.04599, section 4.2)."""

    kind, tensors = "temperature", ("temperature",)
    temperature: Tensor

    def __init__(self, temperature: Any) -> None:
        super().__init__()
        self._hold(temperature=temperature)
        if self.temperature.ndim or not self.temperature > 0:
            raise ValueError(
                f"temperature scaling: temperature must be one number > 0, got {self.temperature.tolist()}"
            )

    def scaled(self, logits: Tensor) -> Tensor:
        return logits / self._of("temperature", logits)


class VectorScaling(Scaling):
    """weight * logits + bias, a pair of numbers a class (Guo et al. 2017, section 4.2); predictions may change."""

    kind, tensors = "vector", ("weight", "bias")

    def __init__(self, weight: Any, bias: Any) -> None:
        super().__init__()
        self._hold(weight=weight, bias=bias)
        self.classes = _columns(self, ("weight", "bias"))

    def scaled(self, logits: Tensor) -> Tensor:
        return logits * self._of("weight", logits) + self._of("bias", logits)


class PlattScaling(Scaling):
    """A sigmoid of each class's log-odds, brought to sum 1; of two classes one sigmoid is the whole of it.

    Platt 1999; one against the rest as in Zadrozny and Elkan 2002, section 4. Predictions may change.
    """

    kind, tensors = "platt", ("slope", "offset")

    def __init__(self, slope: Any, offset: Any) -> None:
        super().__init__()
        self._hold(slope=slope, offset=offset)
        columns = _columns(self, ("slope", "offset"))
        self.classes = 2 if columns == 1 else columns

    def scaled(self, logits: Tensor) -> Tensor:
        odds = log_odds(logits) * self._of("slope", logits) + self._of("offset", logits)
        if self.classes == 2:
            return torch.cat([-odds, odds], dim=1) / 2
        return torch.log_softmax(F.logsigmoid(odds), dim=1)


class IsotonicScaling(Scaling):
    """A rising curve of straight pieces from each class's probability to its frequency, brought to sum 1.

    Zadrozny and Elkan 2002, section 4.2. Curves are flat in places, where gradients end and predictions may tie: the
    first class of equal ones is predicted. A probability of 0 becomes 1e-12, so that every logit is finite.

    Args:
        x, y: (P,) the curves' points, one class after another; x rises within a class, y never falls; both in [0, 1].
        sizes: (C,) points of each class, >= 1.
    """

    kind, tensors = "isotonic", ("x", "y", "sizes")
    x: Tensor
    y: Tensor
    sizes: Tensor

    def __init__(self, x: Any, y: Any, sizes: Any) -> None:
        super().__init__()
        self._hold(x=x, y=y, sizes=sizes)
        columns = len(self.sizes) if self.sizes.ndim == 1 else 0
        self.classes = 2 if columns == 1 else columns
        self.counts = [int(size) for size in self.sizes.tolist()] if columns else []
        fits = columns not in (0, 2) and min(self.counts) >= 1 and self.x.shape == self.y.shape == (sum(self.counts),)
        if not fits:
            raise ValueError("isotonic scaling: x and y must have as many points as sizes, (C,) of >= 1, adds up to")
        for x_of, y_of in self._curves(self.x, self.y):
            inside = ((x_of >= 0) & (x_of <= 1) & (y_of >= 0) & (y_of <= 1)).all()
            if not (inside and (x_of.diff() > 0).all() and (y_of.diff() >= 0).all()):
                raise ValueError("isotonic scaling: x must rise and y must not fall within a class, both in [0, 1]")

    def scaled(self, logits: Tensor) -> Tensor:
        p = torch.softmax(logits, dim=1)
        curves = self._curves(self._of("x", logits), self._of("y", logits))
        if self.classes == 2:
            [(x, y)] = curves
            high = _interpolated(p[:, 1], x, y)
            mapped = torch.stack([1 - high, high], dim=1)
        else:
            mapped = torch.stack([_interpolated(p[:, at], x, y) for at, (x, y) in enumerate(curves)], dim=1)
        mapped = mapped.clamp(min=_LEAST)  # where all are 0, all become equal
        return (mapped / mapped.sum(dim=1, keepdim=True)).log()

    def _curves(self, x: Tensor, y: Tensor) -> list[tuple[Tensor, Tensor]]:
        return [*zip(x.split(self.counts), y.split(self.counts), strict=True)]


KINDS: dict[str, type[Scaling]] = {
    made.kind: made for made in (TemperatureScaling, VectorScaling, PlattScaling, IsotonicScaling)
}


def log_odds(logits: Tensor) -> Tensor:
    """Return log p / (1 - p) of the second of two classes, (B, 1), or else of every class, (B, K)."""
    if logits.shape[1] == 2:
        return logits[:, 1:] - logits[:, :1]
    log_p = torch.log_softmax(logits, dim=1)
    # 1 - p of the likeliest class as the sum of the others: the difference would lose its digits
    best = log_p.argmax(dim=1, keepdim=True)
    others = log_p.scatter(1, best, -torch.inf).logsumexp(dim=1, keepdim=True)
    rest = torch.log1p(-log_p.scatter(1, best, -torch.inf).exp())
    return log_p - rest.scatter(1, best, others)


def save_scaling(path: str | Path, scaling: Scaling, metadata: Mapping[str, Any] | None = None) -> None:
    """Write a scaling to `path`, whole or not at all; such as calibration.safetensors beside model.safetensors.

    Args:
        path: must end in .safetensors.
        metadata: anything JSON can hold, such as what it was fitted on.

    Raises:
        ValueError: another suffix.
        TypeError: metadata that JSON cannot hold.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"scalings are written as .safetensors, got {path.name!r}")
    header = {METADATA_KEY: json.dumps({"kind": scaling.kind, "about": dict(metadata or {})})}
    tensors = {name: scaling.held(name).detach().cpu().contiguous() for name in scaling.tensors}
    with atomic.replacing(path) as aside:
        save_file(tensors, aside, header)


def load_scaling(path: str | Path) -> Scaling:
    """Read what `save_scaling` wrote.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a damaged file, or one that holds no scaling.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no scaling at {path}; robustaug.models.scaling.save_scaling makes one")
    try:
        with safe_open(path, framework="pt") as file:
            said = (file.metadata() or {}).get(METADATA_KEY)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (safe_open is no mapping)
        found = {} if said is None else json.loads(said)
    except (SafetensorError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is damaged or cut short ({error}); copy or make it anew") from None
    kind = found.get("kind") if isinstance(found, dict) else None
    if kind not in KINDS:
        near = did_you_mean(kind, KINDS) if isinstance(kind, str) else ""
        raise ValueError(f"{path} holds no scaling: kind must be one of {', '.join(KINDS)}, got {kind!r}{near}")
    made = KINDS[kind]
    if set(tensors) != set(made.tensors):
        raise ValueError(f"{path}: {kind} scaling holds {', '.join(made.tensors)}, got {', '.join(sorted(tensors))}")
    try:
        return made(**tensors)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _columns(scaling: Scaling, names: tuple[str, str]) -> int:
    first, second = (scaling.held(name) for name in names)
    if first.ndim != 1 or first.shape != second.shape or not len(first):
        raise ValueError(
            f"{scaling.kind} scaling: {names[0]} and {names[1]} must have one number a class, got shapes "
            f"{tuple(first.shape)} and {tuple(second.shape)}"
        )
    return len(first)


def _interpolated(p: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Return the curve (x, y) at p, (B,); beyond its ends it is flat."""
    if len(x) == 1:
        return y.expand(len(p)) + 0 * p
    p = p.clamp(x[0], x[-1])
    at = torch.searchsorted(x, p.detach()).clamp(1, len(x) - 1)
    share = (p - x[at - 1]) / (x[at] - x[at - 1]).clamp(min=torch.finfo(p.dtype).tiny)
    return y[at - 1] + share * (y[at] - y[at - 1])
