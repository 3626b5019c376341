"""What a score may know of a batch of samples, and how it is read off a model.

Legend: N samples, K classes, D features, M members of an ensemble.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustaug.data.shared import shared
from robustaug.data.source import Batch, Source
from robustaug.models.averaged import Averaged, answers_of
from robustaug.models.classifier import Classifier, logits_of

_WORDS = {
    "logits": "logits (N, K)",
    "features": "features (N, D)",
    "labels": "labels (N,)",
    "head": "last linear layer",
    "inputs": "inputs of the model",
    "model": "model",
    "members": "logits of the ensemble's members (M, N, K)",
}
_LINEAR = 1e-3  # of the greatest logit: what half precision may lose, far below what another kind of layer does


@dataclass(frozen=True)
class Head:
    """The last linear layer: logits are features @ weight.T + bias.

    Attributes:
        weight: (K, D).
        bias: (K,).
    """

    weight: Tensor
    bias: Tensor

    @classmethod
    def of(cls, layer: nn.Linear) -> Head:
        """Copy a layer's weights to the CPU in float64; a layer without a bias gets one of zeros."""
        weight = layer.weight.detach().cpu().double()
        bias = weight.new_zeros(len(weight)) if layer.bias is None else layer.bias.detach().cpu().double()
        return cls(weight, bias)

    def logits(self, features: Tensor) -> Tensor:
        """Return logits (N, K) float64 of features (N, D)."""
        return F.linear(features.double().cpu(), self.weight.double(), self.bias.double())


@dataclass(frozen=True)
class Evidence:
    """What is known of N samples; what no score asks for may be left out.

    Attributes:
        logits: (N, K), of the model.
        features: (N, D), what the last linear layer reads.
        labels: (N,) whole numbers; of training data.
        head: the last linear layer.
        inputs: (N, ...) floating, as the model takes them.
        model: returns logits of inputs, and lets gradients through.
        members: (M, N, K), logits of each member of an ensemble.
    """

    logits: Any = None
    features: Any = None
    labels: Any = None
    head: Head | None = None
    inputs: Any = None
    model: Callable[[Tensor], Tensor] | None = None
    members: Any = None

    def given(self, what: str, name: str) -> Any:
        """Return a field that the score `name` cannot do without.

        Raises:
            ValueError: it was left out.
        """
        found = getattr(self, what)
        if found is None:
            raise ValueError(f"{name} needs the {_WORDS[what]}: give Evidence({what}=...)")
        return found

    def tensor(self, what: str, name: str) -> Tensor:
        """Return an array or tensor that the score `name` cannot do without, as a tensor that gradients stay out of."""
        values = self.given(what, name)
        if isinstance(values, np.ndarray) and not values.flags.writeable:
            values = values.copy()  # torch warns of memory that must not be written, such as a Parquet column's
        return torch.as_tensor(values).detach()

    def rows(self, what: str, name: str) -> Tensor:
        """Return logits or features as a floating tensor of at least float32.

        Raises:
            ValueError: left out, or another rank.
        """
        tensor = self.tensor(what, name)
        if tensor.ndim != 2 or tensor.shape[1] < 1:
            wanted = "K" if what == "logits" else "D"
            raise ValueError(f"{what} must have shape (N, {wanted}), got {tuple(tensor.shape)}")
        return tensor if tensor.dtype == torch.float64 else tensor.to(torch.float32)


def observe(model: Classifier, x: Any, wanted: Collection[str], labels: Any = None) -> Evidence:
    """Return what is wanted of a batch, from one forward pass; what the model cannot give is left out.

    Args:
        x: inputs as the model takes them.
        wanted: names of fields of `Evidence`.
    """
    head = model.head
    with torch.inference_mode():
        if head is not None and not {"features", "head"}.isdisjoint(wanted):
            logits, features = _with_features(model, x)
        else:
            logits, features = model(x), None
    moved = isinstance(x, Tensor) and x.is_floating_point()
    return Evidence(
        logits.float().cpu(),
        None if features is None else features.cpu(),
        labels,
        Head.of(head) if head is not None and "head" in wanted else None,
        x if moved and "inputs" in wanted else None,
        model if "model" in wanted else None,
        _members(model, x) if "members" in wanted else None,
    )


def _with_features(model: Classifier, x: Any) -> tuple[Tensor, Tensor | None]:
    try:
        return model.logits_and_features(x)
    except ValueError:  # its last linear layer is not used; or x is refused, which the model says again
        return model(x), None


def observed(
    model: Classifier, source: Source, batch_size: int, device: torch.device, wanted: Collection[str]
) -> Iterator[Evidence]:
    """Observe a model, in eval mode on `device`, on all samples of a source with their labels, batch by batch.

    The processes of a group share the passes, see `shared`; each gets all of what is wanted.

    Args:
        wanted: of what is read off a batch: logits, features, labels and the head.
    """
    head = Head.of(model.head) if "head" in wanted and model.head is not None else None
    parts = {*wanted} - {"head"}

    def look(batch: Batch) -> Evidence:
        return observe(model, source.as_input(batch.image, device), parts, batch.label)

    for evidence in shared(source, batch_size, look):
        yield replace(evidence, head=head)


def lacking(needs: Collection[str], model: Classifier, x: Any) -> str:
    """Return why a score with these needs cannot be had of a model, in words; empty where it can.

    Args:
        x: a few inputs, to try it on.
    """
    found = observe(model, x, {"head", "features", "members"}.intersection(needs))
    if not {"features", "head"}.isdisjoint(needs) and found.features is None:
        return f"model {model.name!r} shows no features"
    if "head" in needs and not _linear(found):
        return f"the logits of model {model.name!r} are not what its last nn.Linear makes of its features"
    if "inputs" in needs and not _differentiable(model, x):
        return f"no gradient of model {model.name!r} can be followed to its inputs"
    if "members" in needs and found.members is None:
        return f"model {model.name!r} is no ensemble: its module has no `members`"
    return ""


def _linear(found: Evidence) -> bool:
    assert found.head is not None
    if found.features.shape[1] != found.head.weight.shape[1]:  # a layer that is applied to each of many positions
        return False
    logits = found.head.logits(found.features)
    near = _LINEAR * max(1.0, float(found.logits.abs().max()))
    return logits.shape == found.logits.shape and torch.allclose(
        logits, found.logits.double(), rtol=0, atol=near, equal_nan=True
    )


def _differentiable(model: Classifier, x: Any) -> bool:
    if not isinstance(x, Tensor) or not x.is_floating_point():
        return False
    with torch.enable_grad():
        leaf = x.clone().requires_grad_()
        logits = model(leaf)
        if not logits.requires_grad:
            return False
        [slope] = torch.autograd.grad(logits.sum(), leaf, allow_unused=True)
    return slope is not None


def _members(model: Classifier, x: Any) -> Tensor | None:
    """Return each member's logits: the answers that a model averages, or those of the `members` of its module."""
    if isinstance(model.module, Averaged):
        with torch.inference_mode():
            return answers_of(model, x).float().cpu()
    members = getattr(model.module, "members", None)
    if not isinstance(members, nn.ModuleList) or not len(members):
        return None
    with torch.inference_mode():
        inputs = model.normalised(x)
        return torch.stack([logits_of(member(inputs)).float().cpu() for member in members])
