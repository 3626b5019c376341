"""Sources by their spec; some are made of others, so this stands apart from the package that registers them."""

from __future__ import annotations

from typing import Any

from robustaug import registry
from robustaug.data.source import Source


def open_source(spec: Any) -> Source:
    """Open the source that `name` or `{name: parameters}` describes; a source is returned as it is.

    >>> len(open_source({"data.digits": {"split": "val"}}))
    297

    Raises:
        ValueError: not of this form, an unknown name, something that is no source, or a refused value.
        TypeError: an unknown or missing parameter.
        FileNotFoundError: the data is not where it should be.
    """
    if isinstance(spec, Source):
        return spec
    if isinstance(spec, str):
        spec = {spec: None}
    if not isinstance(spec, dict) or len(spec) != 1:
        raise ValueError(f"a source reads `name` or `{{name: parameters}}`, got {spec!r}")
    [(name, params)] = spec.items()
    entry = registry.lookup(str(name))
    if entry.kind != "source":
        raise ValueError(f"{name!r} is of kind {entry.kind!r}, not a source; sources are {registry.list('source')}")
    if params is not None and not isinstance(params, dict):
        raise ValueError(f"{name!r}: its parameters must be a mapping, got {params!r}")
    return entry.factory(**(params or {}))
