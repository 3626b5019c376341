"""What a text is: a str or a list of str, any Unicode; a batch is the list. Everything runs on the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from robustaug.ops.layout import Layout
from robustaug.ops.operator import Operator, Params, take

Text = TypeVar("Text", str, list[str])

_CHUNK_TEXTS = 1024  # bounds the working memory, and keeps it in the processor's cache


def check_texts(text: Any) -> None:
    """Refuse what no operator on text can read.

    Raises:
        TypeError: neither a str nor a list of str.
    """
    if isinstance(text, str):
        return
    if not isinstance(text, list):
        hint = "; text.decode() makes a str" if isinstance(text, bytes) else "; list(text) converts sequences"
        raise TypeError(f"text must be a str or a list of str, got {type(text).__name__}{hint}")
    if set(map(type, text)) <= {str}:  # much the faster way for what is nearly always right
        return
    for position, one in enumerate(text):
        if not isinstance(one, str):
            raise TypeError(f"text must be a list of str, got {type(one).__name__} at position {position}")


def _to_batch(text: Any) -> tuple[list[str], bool]:
    check_texts(text)
    return ([text], True) if isinstance(text, str) else ([*text], False)


def _from_batch(batch: list[str], single: bool) -> Any:
    return batch[0] if single else batch


class TextLayout(Layout):
    """Texts of any length in a list."""

    def is_single(self, data: Any) -> bool:
        return isinstance(data, str)

    def device(self, data: Any) -> torch.device:
        return torch.device("cpu")

    def shape(self, batch: Any) -> tuple[int, ...]:
        return ()

    def pick(self, batch: Any, chosen: Tensor) -> Any:
        return [batch[i] for i in chosen.tolist()]

    def put(self, batch: Any, chosen: Tensor, changed: Any) -> Any:
        out = [*batch]
        for position, one in zip(chosen.tolist(), changed, strict=True):
            out[position] = one
        return out


TEXTS = TextLayout("text", 0, check_texts, _to_batch, _from_batch)


class TextOperator(Operator):
    """Base of operators on text: `formula` sees a list of B str and one (B, ...) tensor a parameter."""

    layout = TEXTS
    name: ClassVar[str] = ""

    def __call__(self, text: Text, seed: int = 0, epoch: int = 0, index: Any = None) -> Text:
        """Draw parameters and apply them.

        Args:
            text: a str, or a list of B str.
            seed, epoch: with the index they determine every draw.
            index: (B,) sample indices, or one number for a single text; 0 to B-1 when left out.

        Returns:
            A str for a str, a list of as many for a list.

        Raises:
            TypeError: neither a str nor a list of str.
        """
        return super().__call__(text, seed, epoch, index)  # type: ignore[arg-type, return-value]

    def apply(self, text: Text, params: Params) -> Text:
        """Apply drawn parameters, from `sample` for as many texts; see `Operator.apply`."""
        return super().apply(text, params)  # type: ignore[arg-type, return-value]

    def transform(self, batch: Any, params: Params) -> Any:
        """`apply` without the layouts: a list in, a list of as many out; only active samples change."""
        out: list[str] = []
        for part in chunks(len(batch)):
            changed: Any = super().transform(batch[part], take_part(params, part))
            out += changed
        return out

    def formula(self, texts: list[str], **params: Tensor) -> list[str]:
        """The definition: B texts and one (B, ...) tensor a parameter in, B texts out."""
        raise NotImplementedError(f"{type(self).__name__} must define formula(texts, **params)")


def chunks(n: int) -> Iterator[slice]:
    """Yield slices that cover n samples."""
    for begin in range(0, n, _CHUNK_TEXTS):
        yield slice(begin, begin + _CHUNK_TEXTS)


def take_part(params: Params, part: slice) -> Params:
    """Return the rows `part` of every tensor, without a copy."""
    return take(params, part)  # type: ignore[arg-type]
