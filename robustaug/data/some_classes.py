"""Some classes of another source: what a model learns, and what is foreign to it and yet near."""

from __future__ import annotations

from typing import Any

import torch

from robustaug.data.opening import open_source
from robustaug.data.source import Source
from robustaug.registry import did_you_mean, register


@register("data.some_classes")
def some_classes(of: Any, keep: list[str]) -> Source:
    """Return the samples of some classes, which are numbered anew in the order of `keep`.

    The classes left out are near foreign data for a model of these: give them as another such source to an `ood`
    scenario of `role: near`.

    >>> import robustaug
    >>> few = robustaug.create("data.some_classes", of="data.digits", keep=["7", "1"])
    >>> few.classes, few.labels.unique().tolist(), few.cohorts["class"][0] in ("7", "1")
    (['7', '1'], [0, 1], True)

    Args:
        of: a source of family `data`: a name, `{name: parameters}`, or a source.
        keep: names of its classes, one at least and none twice.

    Raises:
        ValueError: `of` is no source, or a class that it has not, that no sample has, or that is given twice.
    """
    whole = open_source(of)
    names = [str(name) for name in keep] if isinstance(keep, list) else []  # YAML reads 7 as a number
    if not names or len(set(names)) < len(names):
        raise ValueError(f"data.some_classes: keep must name classes, one at least and none twice, got {keep!r}")
    for name in names:
        if name not in whole.classes:
            raise ValueError(
                f"data.some_classes: {whole.name} has no class {name!r}{did_you_mean(name, whole.classes)}; its "
                f"classes are {whole.classes[:20]}"
            )
    number = torch.full((len(whole.classes),), -1)
    number[[whole.classes.index(name) for name in names]] = torch.arange(len(names))
    labels = number[whole.labels]
    part = whole.subset((labels >= 0).nonzero()[:, 0])
    part.classes = names
    return part.changed(f"{whole.name}, {len(names)} classes", "some_classes", *names, labels=labels[labels >= 0])
