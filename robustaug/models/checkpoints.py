"""Weights on disk: safetensors, or torch files read with `weights_only=True`; nothing that can run code.

A robustaug checkpoint is one safetensors file with the plain module's tensors and, in its header, JSON metadata.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from robustaug import atomic, registry
from robustaug.models.classifier import Classifier

TORCH_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt")
PREFIXES = ("module.", "model.", "_orig_mod.")  # of DataParallel, of Lightning, of torch.compile
NESTS = ("state_dict", "model_state_dict", "model_state", "model", "net")
METADATA_KEY = "robustaug"


def save(path: str | Path, model: nn.Module, metadata: Mapping[str, Any] | None = None) -> None:
    """Write a model's weights and buffers to `path`, whole or not at all.

    Args:
        path: must end in .safetensors.
        model: of a `Classifier` the plain module inside is stored, so that the file fits it without robustaug too.
        metadata: anything JSON can hold; `{"model": spec}` lets `robustaug eval` rebuild the model.

    Raises:
        ValueError: another suffix, or no weights.
        TypeError: metadata that JSON cannot hold.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"checkpoints are written as .safetensors, got {path.name!r}")
    try:
        text = json.dumps(dict(metadata or {}))
    except TypeError as error:
        raise TypeError(f"metadata of {path.name} must be plain JSON: {error}") from None
    # a copy each: safetensors refuses tensors that share memory, as tied weights do
    tensors = {k: v.detach().cpu().clone().contiguous() for k, v in _plain(model).state_dict().items()}
    if not tensors:
        raise ValueError(f"{type(model).__name__} has no weights to store in {path.name}")
    with atomic.replacing(path) as aside:
        save_file(tensors, aside, {METADATA_KEY: text})


def load_into(path: str | Path, model: nn.Module) -> dict[str, Any]:
    """Load the weights at `path` into `model`, in place; return the file's metadata.

    Keys may carry the prefix of DataParallel, Lightning or torch.compile, and torch files may hold the weights
    under "state_dict" or "model". Either all weights fit, or the model is left as it was.

    Raises:
        FileNotFoundError: no such file.
        ValueError: an unknown suffix, a damaged file, a pickle that holds code, or keys or shapes that do not fit.
    """
    path = Path(path)
    tensors, metadata = _read(path)
    module = _plain(model)
    wanted = module.state_dict()
    stored = _unprefixed(tensors, wanted)
    missing = [key for key in wanted if key not in stored]
    extra = [key for key in stored if key not in wanted]
    misfits = [
        f"{key} is {tuple(stored[key].shape)}, the model wants {tuple(value.shape)}"
        for key, value in wanted.items()
        if key in stored and stored[key].shape != value.shape
    ]
    problems = [
        f"{len(found)} {what} ({'; '.join(found[:3])}{'; ...' if len(found) > 3 else ''})"
        for what, found in (("keys missing", missing), ("keys unknown", extra), ("shapes different", misfits))
        if found
    ]
    if problems:
        raise ValueError(
            f"{path} does not fit {type(module).__name__}: {', '.join(problems)}; check the model's parameters"
        )
    module.load_state_dict(stored)
    return metadata


def load(path: str | Path, spec: Any = None) -> Classifier:
    """Make the model that a checkpoint is of, with its weights, in eval mode.

    Args:
        path: of the checkpoint.
        spec: the model as `name` or `{name: parameters}`; checkpoints of robustaug know their own.

    Raises:
        FileNotFoundError, ValueError: as `load_into`; or the file does not say which model it is for and none is given.
    """
    spec = read_metadata(path).get("model") if spec is None else spec
    if spec is None:
        raise ValueError(f"{path} does not say which model it is for; give the model as well")
    model = registry.make(spec, "model")
    model.encoding = load_into(path, model).get("encoding", "")
    return model.eval()


def read_metadata(path: str | Path) -> dict[str, Any]:
    """Return the metadata that `save` stored at `path`; empty for files that others wrote.

    Raises:
        FileNotFoundError: no such file.
        ValueError: an unknown suffix, or a damaged file.
    """
    path = Path(path)
    if _suffix(path) != ".safetensors":
        return {}
    try:
        with safe_open(path, framework="pt") as file:
            return _metadata(path, file.metadata())
    except SafetensorError as error:
        raise _damaged(path, error) from None


def _plain(model: nn.Module) -> nn.Module:
    return model.module if isinstance(model, Classifier) else model


def _suffix(path: Path) -> str:
    if path.suffix not in (".safetensors", *TORCH_SUFFIXES):
        raise ValueError(f"{path.name!r} is no checkpoint; known suffixes: .safetensors, {', '.join(TORCH_SUFFIXES)}")
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}; make it with `robustaug train`, or give another path")
    return path.suffix


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    if _suffix(path) == ".safetensors":
        try:
            with safe_open(path, framework="pt") as file:
                keys = file.keys()
                return {key: file.get_tensor(key) for key in keys}, _metadata(path, file.metadata())
        except SafetensorError as error:
            raise _damaged(path, error) from None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "weights_only" in str(error).lower() or "unsupported" in str(error).lower():
            raise ValueError(
                f"{path} holds more than tensors, so loading it could run code; "
                "store model.state_dict() with safetensors where you trust the file"
            ) from None
        raise _damaged(path, error) from None
    except (RuntimeError, EOFError, ValueError, KeyError, IndexError, AttributeError, TypeError) as error:
        raise _damaged(path, error) from None
    return _tensors_in(path, content), {}


def _tensors_in(path: Path, content: Any) -> dict[str, Tensor]:
    """Find the state dict in what a torch file holds."""
    if isinstance(content, Mapping):
        for nest in NESTS:
            if isinstance(content.get(nest), Mapping):
                content = content[nest]
                break
        if content and all(isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items()):
            return dict(content)
    raise ValueError(f"{path} holds no state dict of tensors; store model.state_dict() in it")


def _unprefixed(tensors: dict[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Strip a prefix that every key has, as long as the keys do not fit as they are."""
    while tensors and not tensors.keys() & wanted.keys():
        prefix = next((p for p in PREFIXES if all(key.startswith(p) for key in tensors)), None)
        if prefix is None:
            break
        tensors = {key.removeprefix(prefix): value for key, value in tensors.items()}
    return tensors


def _metadata(path: Path, header: Mapping[str, str] | None) -> dict[str, Any]:
    try:
        return json.loads((header or {}).get(METADATA_KEY, "{}"))
    except json.JSONDecodeError as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> ValueError:
    first_line = (str(error) or type(error).__name__).strip().split("\n")[0]
    return ValueError(f"{path} is damaged or cut short ({first_line}); copy or make it anew")
