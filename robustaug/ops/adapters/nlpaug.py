"""`nlpaug.*`: nlpaug's augmenters as operators on text, by their own names: `nlpaug.word.SplitAug`.

nlpaug draws from Python's and NumPy's global generators: both are seeded for each text and put back afterwards.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robustaug.ops.adapters.foreign import Foreign, adapted, unknown
from robustaug.ops.text.texts import TEXTS
from robustaug.registry import Entry

_LEVELS = ("char", "word", "sentence")


def library() -> dict[str, type]:
    """Return nlpaug's augmenters for text, by names such as "word.SplitAug".

    Raises:
        ImportError: it is not installed; the message says how to.
    """
    found: dict[str, type] = {}
    for level in _LEVELS:
        try:
            module = import_module(f"nlpaug.augmenter.{level}")
        except ImportError as error:
            raise ImportError(f"nlpaug.* needs nlpaug: pip install 'robustaug[nlpaug]' ({error})") from None
        augmenters = {key: value for key, value in vars(module).items() if isinstance(value, type)}
        found |= {f"{level}.{key}": value for key, value in augmenters.items() if key.endswith("Aug")}
    return found


@contextmanager
def global_seed(seed: int) -> Iterator[None]:
    """Seed Python's, NumPy's and torch's global generators inside the block, and put their states back."""
    states = random.getstate(), np.random.get_state(), torch.random.get_rng_state()  # noqa: NPY002
    try:
        random.seed(seed)
        np.random.seed(seed % (1 << 32))  # noqa: NPY002
        torch.default_generator.manual_seed(seed)
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        torch.random.set_rng_state(states[2])


class NlpaugTransform(Foreign):
    """An nlpaug augmenter, called text by text."""

    layout = TEXTS

    def make(self, params: dict[str, Any]) -> Any:
        return self.target(**params)

    def formula(self, texts: list[str], seed: Tensor) -> list[str]:  # type: ignore[override]
        return [self._one_text(text, at) for text, at in zip(texts, seed.tolist(), strict=True)]

    def _one_text(self, text: str, seed: int) -> str:
        if not text.strip():  # nlpaug gives an empty list for it
            return text
        try:
            with global_seed(seed):
                made = self.made.augment(text)
        except Exception as error:  # whatever another library raises on a text it does not take
            raise ValueError(f"{self.name} on {text[:40]!r}: {' '.join(str(error).split())}") from error
        made = made[0] if isinstance(made, list) and len(made) == 1 else made
        if not isinstance(made, str):
            raise TypeError(f"{self.name} returns {type(made).__name__}; a pipeline takes one text for each")
        return made


@cache
def entry(name: str) -> Entry:
    """Return the registry's entry for `nlpaug.<level>.<name>`.

    Raises:
        ImportError: nlpaug is not installed.
        ValueError: it has no such augmenter for text.
    """
    known = library()
    if name not in known:
        raise unknown("nlpaug", name, [*known], "text")
    return adapted(NlpaugTransform, "nlpaug", name, known[name], frozenset({"nlpaug"}))
