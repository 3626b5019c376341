"""A model whose logits a fitted scaling has calibrated: every suite, attack and export sees it so.

Legend: B samples, K classes.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from robustaug.models.classifier import Classifier, logits_of
from robustaug.models.nested import seeded
from robustaug.models.scaling import Scaling, load_scaling
from robustaug.models.text_classifier import TextClassifier
from robustaug.registry import register


@register("model.calibrated")
def calibrated_model(of: Any, by: str, seed: int = 0) -> Classifier:
    """A model calibrated by a stored scaling.

    `model.calibrated: {of: {model.checkpoint: {path: w.safetensors}}, by: calibration.safetensors}`.

    Args:
        of: the model, as `name` or `{name: parameters}`.
        by: the path of a scaling, as `scaling.save_scaling` writes it.
        seed: of fresh weights.

    Raises:
        FileNotFoundError, ValueError: no model, no scaling, or one for another number of classes.
    """
    return calibrated(seeded(of, seed), load_scaling(by))


def calibrated(model: Classifier, scaling: Scaling) -> Classifier:
    """Return the model with `scaling` behind its logits; its weights are shared, and it is left as it was.

    Raises:
        ValueError: the scaling is for another number of classes.
    """
    if None not in (scaling.classes, model.num_classes) and scaling.classes != model.num_classes:
        raise ValueError(
            f"{scaling.kind} scaling was fitted on {scaling.classes} classes, {model.name!r} has {model.num_classes}"
        )
    scaling = scaling.train(model.training)
    name = f"{model.name} calibrated"
    if isinstance(model, TextClassifier):
        made: Classifier = TextClassifier(_ScaledText(model.module, scaling), model.num_classes, name)
    else:
        mean, std = (None if value is None else value.flatten().tolist() for value in (model.mean, model.std))
        made = Classifier(_Scaled(model.module, scaling), mean, std, model.num_classes, name)
    made.encoding = model.encoding
    return made


class _Scaled(nn.Module):
    def __init__(self, module: nn.Module, scaling: Scaling) -> None:
        super().__init__()
        self.module, self.scaling = module, scaling
        self.training = module.training

    def forward(self, x: Any) -> Tensor:
        return self.scaling(logits_of(self.module(x)))


class _ScaledText(_Scaled):
    """The same for a module cut at its embeddings; what else attacks ask of it is the module's own."""

    def embed(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        return self.module.embed(texts)  # type: ignore[operator]

    def from_embeddings(self, embedded: Tensor, mask: Tensor) -> Tensor:
        return self.scaling(logits_of(self.module.from_embeddings(embedded, mask)))  # type: ignore[operator]

    def __getattr__(self, name: str) -> Any:
        if name in ("from_texts", "logits_from_embeddings"):
            inner = getattr(self.module, name)
            return lambda *inputs: self.scaling(logits_of(inner(*inputs)))
        if name in ("vocabulary", "embeddings", "tokens", "meet"):
            return getattr(self.module, name)
        return super().__getattr__(name)
