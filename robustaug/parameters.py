"""Parameters of registered things: how values are checked, and how a thing says what it was made from.

Names that a thing does not have are refused by `registry.check_parameters`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from torch import Tensor

from robustaug.config import parse_ratio
from robustaug.registry import did_you_mean


def spec_of(made: Any, **usual: Any) -> dict[str, Any]:
    """Return {name: parameters that differ from the defaults}; `usual` holds defaults that are not in the fields."""
    defaults = {f.name: f.default for f in fields(made)} | usual
    params = {key: plain(getattr(made, key)) for key in defaults}
    return {made.name: {key: value for key, value in params.items() if value != plain(defaults[key])}}


def created(spec: dict[str, Any]) -> str:
    """Return the call that makes the thing of a spec, as Python reads it."""
    [(name, params)] = spec.items()
    return f"robustaug.create({', '.join([repr(name), *(f'{k}={written(v)}' for k, v in params.items())])})"


def plain(value: Any) -> Any:
    """Return a parameter as YAML and JSON can hold it: tuples and tensors as lists, registered things as specs."""
    if isinstance(value, Tensor):
        return value.tolist()
    if isinstance(value, Mapping):
        return {key: plain(v) for key, v in value.items()}
    if hasattr(value, "spec"):
        return value.spec()
    return [plain(v) for v in value] if isinstance(value, tuple | list) else value


def written(value: Any) -> str:
    """Return a parameter as Python reads it: what repr writes, but for infinities."""
    if isinstance(value, float) and math.isinf(value):
        return f"float('{value}')"
    return f"[{', '.join(map(written, value))}]" if isinstance(value, list) else repr(value)


def check_count(name: str, key: str, value: Any, least: int = 1) -> None:
    """Refuse what is no whole number >= `least`.

    Raises:
        ValueError: names the value.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name}: {key} must be a whole number >= {least}, got {value!r}")


def check_choice(name: str, key: str, value: Any, known: Any) -> None:
    """Refuse a word that is not known.

    Raises:
        ValueError: names what is allowed.
    """
    if not isinstance(value, str) or value not in known:
        near = did_you_mean(str(value), known)
        raise ValueError(f"{name}: {key} must be one of {', '.join(map(repr, known))}, got {value!r}{near}")


def check_number(name: str, key: str, value: Any) -> float:
    """Read a number or a fraction such as "2/255".

    Raises:
        ValueError: neither.
    """
    number = parse_ratio(value)
    if isinstance(number, bool) or not isinstance(number, int | float) or math.isnan(number):
        raise ValueError(f"{name}: {key} must be a number or a fraction such as '2/255', got {value!r}")
    return float(number)


def check_share(name: str, key: str, value: Any, whole: bool = True) -> None:
    """Refuse what is no number in [0, 1], or in [0, 1) where it must not be the `whole`.

    Raises:
        ValueError: names the value.
    """
    number = not isinstance(value, bool) and isinstance(value, int | float)
    if not number or not 0 <= value <= 1 or (value == 1 and not whole):
        raise ValueError(f"{name}: {key} must be in [0, 1{']' if whole else ')'}, got {value!r}")
