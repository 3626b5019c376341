"""One formula, two tables: registers a corruption under `imagenet_c` and `cifar_c` with their constants."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from robustaug.ops.operator import Operator
from robustaug.registry import register

Corruption = TypeVar("Corruption", bound=type[Operator])
Table = dict[str, Sequence[float]]
FITS = {"imagenet": "224 x 224", "cifar": "32 x 32"}


def published(name: str, tags: set[str], imagenet: Table, cifar: Table) -> Callable[[Corruption], Corruption]:
    """Register the class below as `imagenet_c.name` and `cifar_c.name`.

    Args:
        name: the corruption's published name.
        tags: as in `register`; "published" is added.
        imagenet, cifar: for each graded parameter its constants for severity 1 to 5.
    """

    def decorate(base: Corruption) -> Corruption:
        for variant, table in (("imagenet", imagenet), ("cifar", cifar)):
            fields: dict[str, Any] = {
                key: replace(base.declared[key], low=values[2], high=values[2], severity=tuple(values))
                for key, values in table.items()
            }
            first, _, rest = (base.__doc__ or "").partition("\n")
            fields["__doc__"] = f"{first} Constants for {FITS[variant]} images.\n{rest}"
            fields["__module__"] = base.__module__
            # for pickle: the class is found by this name in its module
            title = f"{variant.capitalize()}{base.__name__}"
            fields["__qualname__"] = title
            made = type(title, (base,), fields)
            register(f"{variant}_c.{name}", tags=tags | {"published"})(made)
            _module(base)[title] = made
        return base

    return decorate


def _module(base: type) -> dict[str, Any]:
    import sys

    return vars(sys.modules[base.__module__])
