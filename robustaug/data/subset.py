"""A part of another source: few labels, as a source of its own that a recipe can name."""

from __future__ import annotations

from typing import Any

from robustaug.data.opening import open_source
from robustaug.data.source import Source
from robustaug.data.splits import limit
from robustaug.parameters import check_count
from robustaug.registry import register


@register("data.subset")
def subset(of: Any, per_class: int, seed: int = 0) -> Source:
    """Return a random choice of another source's samples, as many of each class.

    >>> import robustaug
    >>> few = robustaug.create("data.subset", of="data.digits", per_class=10)
    >>> len(few), few.labels.bincount().tolist()
    (100, [10, 10, 10, 10, 10, 10, 10, 10, 10, 10])

    Args:
        of: a source of family `data`: a name, `{name: parameters}`, or a source.
        per_class: at most this many of each class, >= 1.
        seed: of the choice.

    Raises:
        ValueError: `of` is no source, or per_class < 1.
    """
    whole = open_source(of)
    check_count("data.subset", "per_class", per_class)
    chosen = limit(whole.labels, whole.classes, per_class, seed)
    return whole.subset(chosen, f"{whole.name}/{per_class} a class")
