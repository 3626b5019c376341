"""What a file of witnesses must look like, before any of it is used.

Legend: N witnesses, ... the rest of a sample's shape.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from robustaug.attacks.threat import NORMS

METADATA_KEY = "robustaug_witnesses"
FORMAT = 1
MOST_TEXT = 1 << 16
"""Characters of metadata that are read."""
_MOST_RANK = 8
_FLOATS, _INTS = {"F32", "F64"}, {"I64"}
COLUMNS = {
    "clean": _FLOATS,
    "points": _FLOATS,
    "index": _INTS,
    "label": _INTS,
    "target": _INTS,
    "eps": {"F64"},
    "mask": {"BOOL"},
    "low": {"F64"},
    "high": {"F64"},
    "by": _INTS,
}
_OPTIONAL = ("target", "mask", "by")
PARAMS = "params."  # begins the names of tensors that points were made from
_PARAM_KINDS = {"F32", "F64", "I32", "I64", "BOOL"}
_MOST_PARAMS = 64
_PER_SAMPLE = ("low", "high")  # no row a witness: of the shape of one sample, or a single number


class Claim(NamedTuple):
    """What the witnesses are about.

    Attributes:
        norm: "Linf", "L2", "L1" or "L0".
        attacked: samples that were attacked in all.
        attack: `{name: parameters}` of the attack that found them, without the box.
        model, data: fingerprints; empty where the data had none.
        version: of robustaug.
    """

    norm: str
    attacked: int
    attack: dict[str, Any]
    model: str
    data: str
    version: str


def read_claim(path: Path, header: dict[str, str]) -> Claim:
    """Return the claim that a file's header holds.

    Raises:
        ValueError: there is none, or it cannot be one.
    """
    text = header.get(METADATA_KEY)
    if text is None:
        raise ValueError(f"{path} is no file of witnesses: its header has no {METADATA_KEY!r}")
    if len(text) > MOST_TEXT:
        raise ValueError(f"{path}: its metadata has {len(text):,} characters, more than the {MOST_TEXT:,} allowed")
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError(f"{path}: its metadata is not JSON; the file is damaged or foreign") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"{path}: its format must be {FORMAT}; it is damaged, or of another version of robustaug")
    kinds = {"norm": str, "attacked": int, "attack": dict, "model": str, "data": str, "version": str}
    if content.keys() != {"format", *kinds}:
        raise ValueError(f"{path}: its metadata must hold {', '.join(kinds)}, it holds {', '.join(content)[:200]}")
    for key, kind in kinds.items():
        if type(content[key]) is not kind:
            raise ValueError(f"{path}: {key} must be of type {kind.__name__}, got {type(content[key]).__name__}")
    if content["norm"] not in NORMS:
        raise ValueError(f"{path}: norm must be one of {', '.join(NORMS)}, got {content['norm'][:20]!r}")
    if not 0 <= content["attacked"] < 1 << 63:
        raise ValueError(f"{path}: attacked must be >= 0, got {content['attacked']}")
    return Claim(**{key: content[key] for key in kinds})


def check_layout(path: Path, kinds: dict[str, str], shapes: dict[str, tuple[int, ...]]) -> None:
    """Refuse unknown or missing tensors, and types and shapes that do not fit each other."""
    wanted = set(COLUMNS) - set(_OPTIONAL)
    params = [key for key in kinds if key.startswith(PARAMS)]
    if not wanted <= kinds.keys() <= {*COLUMNS, *params} or len(params) > _MOST_PARAMS:
        raise ValueError(f"{path}: must hold the tensors {', '.join(COLUMNS)}, it holds {', '.join(kinds)[:200]}")
    for key, kind in kinds.items():
        if kind not in (allowed := COLUMNS.get(key, _PARAM_KINDS)):
            raise ValueError(f"{path}: {key} must be {' or '.join(sorted(allowed))}, got {kind}")
    shape = shapes["points"]
    if not 2 <= len(shape) <= _MOST_RANK or 0 in shape[1:]:
        raise ValueError(f"{path}: points must have shape (N, ...), got {shape}")
    if kinds["clean"] != kinds["points"]:
        raise ValueError(f"{path}: clean and points must be of one type, got {kinds['clean']} and {kinds['points']}")
    for key, found in shapes.items():
        if key in _PER_SAMPLE:
            fits = found in ((), shape[1:])
        elif key in params:
            fits = 1 <= len(found) <= _MOST_RANK and found[0] == shape[0] and 0 not in found[1:]
        else:
            fits = found == (shape if key in ("clean", "points", "mask") else shape[:1])
        if not fits:
            raise ValueError(f"{path}: {key} has shape {found}, which does not fit points of shape {shape}")


def check_values(path: Path, tensors: dict[str, Tensor]) -> None:
    """Refuse what is not finite, budgets below 0, an empty box, and negative indices."""
    for key in [key for key in tensors if key in ("clean", "points") or key.startswith(PARAMS)]:
        if not bool(tensors[key].isfinite().all()):
            raise ValueError(f"{path}: {key} must be finite, it holds NaN or infinity")
    if not bool((tensors["eps"] >= 0).all()):  # infinite where there was no limit
        raise ValueError(f"{path}: eps must be >= 0")
    if not bool((tensors["low"] < tensors["high"]).all()):
        raise ValueError(f"{path}: low must be below high")
    for key in ("index", "label", "target", "by"):
        if key in tensors and bool((tensors[key] < 0).any()):
            raise ValueError(f"{path}: {key} must be >= 0, got {int(tensors[key].min())}")
