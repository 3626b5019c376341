"""Drawn parameters in a file: what an operator sampled, to be applied again elsewhere."""

from __future__ import annotations

from os import PathLike

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from robustaug import atomic
from robustaug.ops.operator import Params


def save_params(path: str | PathLike[str], params: Params) -> None:
    """Store drawn parameters as safetensors, so that `apply` can replay them elsewhere."""
    with atomic.replacing(path) as aside:
        save_file({key: value.contiguous().cpu() for key, value in _flatten(params)}, aside)


def load_params(path: str | PathLike[str]) -> Params:
    """Read parameters written by `save_params`.

    Raises:
        ValueError: the file is damaged or of another kind.
    """
    params: Params = {}
    try:
        with safe_open(path, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118 (safe_open is no mapping)
                node = params
                *parents, leaf = key.split("/")
                for parent in parents:
                    node = node.setdefault(parent, {})
                node[leaf] = file.get_tensor(key)
    except SafetensorError as error:
        raise ValueError(f"{path}: not a readable safetensors file: {error}") from None
    return params


def _flatten(params: Params, prefix: str = "") -> list[tuple[str, Tensor]]:
    flat = []
    for key, value in params.items():
        flat += _flatten(value, f"{prefix}{key}/") if isinstance(value, dict) else [(prefix + key, value)]
    return flat
