"""The one way from a text attack to the model: many texts in bounded batches, and gradients where the model has them.

Legend: B texts, K classes, T tokens of the longest text, V words of the vocabulary, D numbers of an embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from robustaug.attacks.text.sentence import one_words
from robustaug.models.classifier import logits_of, require_eval


class Tokens(NamedTuple):
    """Texts as a model reads them.

    Attributes:
        ids: (B, T) int64, rows of the embeddings; any row where there is padding.
        begin, end: (B, T) int64, the characters [begin, end) of the text that a token stands for; begin = end for
            padding and for tokens that stand for none.
    """

    ids: Tensor
    begin: Tensor
    end: Tensor


@runtime_checkable
class TokenModel(Protocol):
    """What a gradient attack needs beside `model(texts)`: the way from tokens to logits, cut at the embeddings.

    Attributes:
        vocabulary: V texts, what each row of the embeddings stands for.
        embeddings: (V, D) floating.
    """

    vocabulary: Sequence[str]
    embeddings: Tensor

    def __call__(self, texts: list[str]) -> Any:
        """Return logits (B, K)."""
        ...

    def tokens(self, texts: list[str]) -> Tokens:
        """Return the tokens of every text, filled up to one length."""
        ...

    def logits_from_embeddings(self, embedded: Tensor, tokens: Tokens) -> Tensor:
        """Return logits (B, K) from embedded tokens (B, T, D), differentiable; padding must not count."""
        ...


class Vocabulary:
    """The words that a model knows, for looking up flips.

    Attributes:
        words: V texts.
        embeddings: (V, D) on the CPU in float64.
        usable: (V,) bool, those that are exactly one word.
    """

    def __init__(self, words: Sequence[str], embeddings: Tensor) -> None:
        self.words = [*words]
        if not isinstance(embeddings, Tensor):
            kind = type(embeddings).__name__
            raise TypeError(f"the model's embeddings must be a tensor (V, D), got {kind}; of nn.Embedding the .weight")
        self.embeddings = embeddings.detach().cpu().double()
        if self.embeddings.ndim != 2 or len(self.words) != len(self.embeddings):
            shape = tuple(self.embeddings.shape)
            raise ValueError(f"the model's embeddings must have one row a word: {len(self.words)} words, got {shape}")
        whole = set(one_words(self.words))
        self.usable = torch.tensor([word in whole for word in self.words], dtype=torch.bool)

    def rows_of(self, words: Sequence[str]) -> Tensor:
        """Return (V,) bool, the rows that hold one of some words, whatever their case."""
        found = torch.zeros(len(self.words), dtype=torch.bool)
        found[[row for word in words for row in self._rows.get(word.lower(), ())]] = True
        return found

    def cosine(self, word: str) -> Tensor:
        """Return (V,) the cosine of each embedding to the one of `word`: minus infinity where it has none."""
        rows = self._rows.get(word.lower())
        if rows is None:
            return torch.full((len(self.words),), -torch.inf, dtype=torch.float64)
        return self._directions @ self._directions[rows[0]]

    @cached_property
    def _rows(self) -> dict[str, list[int]]:
        rows: dict[str, list[int]] = {}
        for row, word in enumerate(self.words):
            rows.setdefault(word.lower(), []).append(row)
        return rows

    @cached_property
    def _directions(self) -> Tensor:
        return self.embeddings / self.embeddings.norm(dim=1, keepdim=True).clamp_min(1e-300)


class Slope(NamedTuple):
    """How the objective grows when a text's embeddings move.

    Attributes:
        ids, begin, end: (T,) int64, the text's tokens.
        grad: (T, D) float64.
        vocabulary: the model's.
    """

    ids: Tensor
    begin: Tensor
    end: Tensor
    grad: Tensor
    vocabulary: Vocabulary


class TextAsk:
    """Ask a model about texts, `batch_size` at a time.

    Attributes:
        model: from a list of str to logits (B, K), as a tensor, an array or `.logits`.
        batch_size: most texts at a time.
    """

    def __init__(self, model: Callable[[list[str]], Any], batch_size: int) -> None:
        if not callable(model):
            raise TypeError(f"model must be callable with a list of str, got {type(model).__name__}")
        if isinstance(model, nn.Module):
            require_eval(model)
        self.model = model
        self.batch_size = batch_size

    def logits(self, texts: Sequence[str]) -> Tensor:
        """Return (B, K) float64 on the CPU.

        Raises:
            TypeError: the model returns no logits.
            ValueError: not one row a text.
        """
        with torch.no_grad():
            parts = [self._one([*texts[at : at + self.batch_size]]) for at in range(0, len(texts), self.batch_size)]
        return torch.cat(parts)

    def _one(self, texts: list[str]) -> Tensor:
        output = self.model([*texts])  # a copy: the model may work in place
        logits = logits_of(torch.from_numpy(output) if isinstance(output, np.ndarray) else output)
        if len(logits) != len(texts):
            raise ValueError(f"the model returned {len(logits)} rows of logits for {len(texts)} texts")
        return logits.detach().cpu().double()

    def slopes(self, texts: Sequence[str], objective: Callable[[Tensor, Tensor], Tensor], label: Tensor) -> list[Slope]:
        """Return how `objective(logits, label)` (B,) grows with each text's embeddings; the model is a `TokenModel`."""
        out: list[Slope] = []
        for at in range(0, len(texts), self.batch_size):
            part = slice(at, at + self.batch_size)
            out += self._graded([*texts[part]], objective, label[part])
        return out

    def _graded(self, texts: list[str], objective: Callable[..., Tensor], label: Tensor) -> list[Slope]:
        model: Any = self.model
        tokens = Tokens(*model.tokens(texts))
        with torch.inference_mode(False), torch.enable_grad():
            embedded = model.embeddings.detach()[tokens.ids].clone().requires_grad_()
            logits = logits_of(model.logits_from_embeddings(embedded, tokens))
            value = objective(logits, label.to(logits.device).clone())  # it may stem from inference mode
            if not value.requires_grad:
                raise ValueError("logits_from_embeddings has no gradient (it detaches its input); HotFlip needs one")
            [grad] = torch.autograd.grad(value.sum(), embedded, allow_unused=True)
        grad = torch.zeros_like(embedded) if grad is None else grad
        grad = torch.nan_to_num(grad.detach().cpu().double(), nan=0.0)
        ids, begin, end = (column.cpu() for column in tokens)
        return [Slope(ids[row], begin[row], end[row], grad[row], self.vocabulary) for row in range(len(texts))]

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The model's vocabulary, read once."""
        model: Any = self.model
        return Vocabulary(model.vocabulary, model.embeddings)
