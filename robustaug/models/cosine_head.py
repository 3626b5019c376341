"""A last layer that looks at directions only.

Legend: B samples, D features, K classes.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from robustaug.models.classifier import Classifier
from robustaug.models.nested import seeded
from robustaug.registry import register
from robustaug.rng import torch_seed


@register("model.cosine_head", tags={"trainable"})
def cosine_head(of: Any, scale: float = 30.0, seed: int = 0) -> Classifier:
    """A model whose last linear layer is exchanged for a new one: logits are scale times the cosine of its angle.

    A class with few samples then cannot lose by the length of its weights. Its weights are fresh.
    Source: Cao et al. 2019 (LDAM, arXiv:1906.07413), section 3.1.

    Args:
        of: the model, as `name` or `{name: parameters}`; one `nn.Linear` of it gives the logits, the only one with as
            many outputs as there are classes.
        scale: > 0; the logits lie in [-scale, scale].
        seed: of the weights.

    Raises:
        ValueError: scale is refused, or the model has no such layer, or several.
    """
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not 0 < scale < float("inf"):
        raise ValueError(f"model.cosine_head: scale must be > 0 and finite, got {scale!r}")
    model = seeded(of, seed)
    heads = model.heads()
    names = [name for name, part in model.named_modules() if any(part is head for head in heads)]
    if len(heads) != 1:
        raise ValueError(
            f"model.cosine_head: {model.name} has {len(heads)} linear layers that may give the logits{_listed(names)}; "
            "it takes a model with one, in which no layer between has as many outputs as there are classes"
        )
    [last], [name] = heads, names
    with torch_seed(seed):
        cosine = _Cosine(last.in_features, last.out_features, float(scale))
    model.set_submodule(name, cosine)
    return model


def _listed(names: list[str]) -> str:
    return f" ({', '.join(names)})" if names else ""


class _Cosine(nn.Linear):
    def __init__(self, features: int, classes: int, scale: float) -> None:
        super().__init__(features, classes, bias=False)
        self.scale = scale

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (torch's name)
        """Return scale times the cosines, (B, K), of (B, D)."""
        return self.scale * F.linear(F.normalize(input), F.normalize(self.weight))

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, scale={self.scale:g}"
