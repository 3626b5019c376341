"""The face of classifiers of texts: lists of str go in, logits come out, and the way can be cut at the embeddings.

Legend: B texts, L tokens of the longest, D numbers of an embedding, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from robustaug.models.classifier import Classifier, logits_of

_OFFERED = ("vocabulary", "embeddings", "tokens", "logits_from_embeddings")


class TextClassifier(Classifier):
    """A classifier of texts behind the face of `Classifier`.

    The module defines `embed` and `from_embeddings` as here, and `from_texts` where it has a way of its own from texts
    to logits, which must lead to the same ones. One that `attack.text_hotflip` can work on also has
    `vocabulary`, `embeddings`, `tokens` and `logits_from_embeddings`, see `attacks.text.asking.TokenModel`; one that
    learns words before training has `meet`.

    Args:
        module: has the two methods.
        num_classes: K.
        name: what reports call it.

    Raises:
        TypeError: the module lacks a method.
    """

    def __init__(self, module: nn.Module, num_classes: int | None = None, name: str | None = None) -> None:
        for method in ("embed", "from_embeddings"):
            if not callable(getattr(module, method, None)):
                raise TypeError(f"a module for texts must define {method}, {type(module).__name__} does not")
        super().__init__(module, num_classes=num_classes, name=name)

    def forward(self, x: list[str]) -> Tensor:  # type: ignore[override]
        """Return logits (B, K) for B texts.

        Raises:
            TypeError: not a list of str.
        """
        if not isinstance(x, list) or not all(isinstance(text, str) for text in x):
            raise TypeError(f"model {self.name!r} takes a list of str, got {type(x).__name__}")
        direct: Any = getattr(self.module, "from_texts", None)
        return self.from_embeddings(*self.embed(x)) if direct is None else self._counted(direct(x))

    def embed(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        """Return embedded tokens (B, L, D) floating, and (B, L) bool: where there is a token rather than padding."""
        return self.module.embed(texts)  # type: ignore[operator]

    def from_embeddings(self, embedded: Tensor, mask: Tensor) -> Tensor:
        """Return logits (B, K) from what `embed` returns, differentiable in it; padding does not count."""
        return self._counted(self.module.from_embeddings(embedded, mask))  # type: ignore[operator]

    def _counted(self, answer: Any) -> Tensor:
        logits = logits_of(answer)
        if self.num_classes is None:
            self.num_classes = logits.shape[1]
        return logits

    def meet(self, texts: Sequence[str]) -> None:
        """Learn the words of the training texts where the module learns any; nothing else of it changes."""
        learn: Any = getattr(self.module, "meet", None)
        if learn is not None:
            learn(texts)

    @property
    def vocabulary(self) -> Sequence[str]:
        """What each row of `embeddings` stands for."""
        return self._offered("vocabulary")

    @property
    def embeddings(self) -> Tensor:
        """(V, D), see `attacks.text.asking.TokenModel`."""
        return self._offered("embeddings")

    @property
    def tokens(self) -> Any:
        """The method of `attacks.text.asking.TokenModel`."""
        return self._offered("tokens")

    @property
    def logits_from_embeddings(self) -> Any:
        """The method of `attacks.text.asking.TokenModel`."""
        return self._offered("logits_from_embeddings")

    def _offered(self, name: str) -> Any:
        return getattr(self._modules["module"], name)

    def __getattr__(self, name: str) -> Any:
        if name in _OFFERED:  # torch asks here again for a property that found nothing
            raise AttributeError(f"model {self.name!r} offers no {name}, as model.text_cnn does")
        return super().__getattr__(name)


def check_face(name: str, model: nn.Module) -> None:
    """Refuse a model that cannot be cut at its embeddings.

    Raises:
        TypeError: says what it lacks.
    """
    lacks = [method for method in ("embed", "from_embeddings") if not callable(getattr(model, method, None))]
    if lacks:
        raise TypeError(
            f"{name} moves embedded tokens, so the model must define {' and '.join(lacks)} as "
            f"robustaug.models.text_classifier.TextClassifier does, such as model.text_cnn; got {type(model).__name__}"
        )
