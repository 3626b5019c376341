"""Settings that papers publish as attacks of their own: a name and other defaults, and no class."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterable
from typing import Any

from robustaug.attacks.attack import Attack
from robustaug.registry import register


def preset(name: str, attack: type[Attack], doc: str, tags: Iterable[str], **defaults: Any) -> None:
    """Register `attack` under another name, with other defaults.

    What is made is the attack itself: its `spec` and its messages bear the attack's own name.

    Args:
        doc: the docstring; its first line says what happens.
        tags: as for `register`.
        defaults: parameters of `attack`, which a caller may set again.
    """

    def make(**params: Any) -> Attack:
        return attack(**defaults | params)

    make.__doc__, make.__qualname__ = doc, name
    make.__signature__ = inspect.signature(functools.partial(attack, **defaults))  # type: ignore[attr-defined]
    register(name, tags=tags)(make)
