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
    return spec if isinstance(spec, Source) else registry.make(spec, "source")
