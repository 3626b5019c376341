"""A model that looks at several changed views of each input: test-time augmentation with registered operators.

Legend: S views, B samples, C channels, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from robustaug.models.averaged import Averaged, part
from robustaug.models.classifier import Classifier
from robustaug.ops.tabular.table import TABLES
from robustaug.ops.text.texts import TEXTS
from robustaug.parameters import check_count
from robustaug.pipeline import Pipeline, build
from robustaug.registry import register
from robustaug.rng import Keys


@register("model.augmented", tags={"trainable"})
def augmented(of: Any, by: list[Any], draws: int = 8, original: bool = True, seed: int = 0) -> Classifier:
    """A model whose probabilities are averaged over views of the input that operators make.

    `model.augmented: {of: {model.checkpoint: {path: w.safetensors}}, by: [{image.horizontal_flip: {p: 0.5}}]}`.
    A view's draw follows from the seed and its number, and is the same for every sample. In training it is the model
    alone. Its features are those of the last view: the input itself, where that is one. Gradients of attacks flow
    through operators that are differentiable.
    Source: Krizhevsky et al. 2012, section 4.1; here with any operators.

    Args:
        of: the model, as `name` or `{name: parameters}`.
        by: operators on images or series, in turn, as in a pipeline.
        draws: views that are drawn, >= 1.
        original: whether the input itself is one more view.
        seed: of the draws, and of fresh weights.

    Raises:
        ValueError: a number out of range, no operator, or operators on other data.
    """
    check_count("model.augmented", "draws", draws)
    pipeline = build(by, "model.augmented: by")
    if not pipeline.children:
        raise ValueError("model.augmented: by must name at least one operator")
    if pipeline.layout in (TABLES, TEXTS):
        raise ValueError(f"model.augmented: by must be operators on images or series, got {pipeline.layout.name}")
    model = part("model.augmented", of, seed)
    views = _Augmented(model, pipeline, draws, original, seed)
    made = Classifier(views, num_classes=model.num_classes, name=f"{model.name} augmented")
    made.encoding = model.encoding
    return made


class _Augmented(Averaged):
    def __init__(self, model: Classifier, pipeline: Pipeline, draws: int, original: bool, seed: int) -> None:
        super().__init__()
        self.model, self.pipeline = model, pipeline
        self.draws, self.original, self.seed = draws, original, seed
        self.training = model.training

    def answers(self, x: Tensor) -> Iterator[Tensor]:
        for draw in range(0 if self.training else self.draws):
            keys = Keys.of(self.seed, torch.full((len(x),), draw)).fold("model.augmented").to(x.device)
            yield self.model(self.pipeline.apply(x, self.pipeline.sample(keys)))
        if self.original or self.training:
            yield self.model(x)

    def extra_repr(self) -> str:
        return f"by={self.pipeline.spec()}, draws={self.draws}, original={self.original}, seed={self.seed}"
