"""Whole programs from files: TorchScript and torch.export, behind the face of `Classifier`.

Trust. Such a file is a program, not weights: TorchScript can write files while it loads, and torch.export unpickles
parts of its archive without limits. They are opened only with `trusted=True`: pass it for files you made yourself,
or got from someone whose scripts you would run.

Legend: B samples, C H W image, K classes.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from robustaug.models.classifier import Classifier
from robustaug.registry import register


@register("model.torchscript")
def torchscript_model(
    path: str,
    trusted: bool = False,
    classes: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Classifier:
    """A TorchScript program from a file of `torch.jit.save`.

    Args:
        path: of the file.
        trusted: must be True: such a file can write to your disk as soon as it is loaded.
        classes: K; found at the first forward when left out.
        mean, std: normalisation inside the model, for programs that take normalised images.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not trusted, or no TorchScript file.
    """
    _check_program(path, trusted, "model.torchscript")
    try:
        module = torch.jit.load(path, map_location="cpu")
    except (RuntimeError, ValueError) as error:
        raise _no_program(path, "TorchScript", error) from None
    return Classifier(module, mean, std, classes, Path(path).stem).eval()


class _Exported(nn.Module):
    """An exported program as a module: its mode was fixed when it was exported, and cannot be changed."""

    def __init__(self, program: nn.Module) -> None:
        super().__init__()
        self.program = program
        for part in self.modules():
            part.training = False  # what torch sets here says nothing about how the program was exported

    def train(self, mode: bool = True) -> _Exported:
        if mode:
            raise ValueError("a torch.export program cannot be trained: its mode was fixed when it was exported")
        return self

    def forward(self, x: Tensor) -> Any:
        return self.program(x)


@register("model.exported")
def exported_model(
    path: str,
    trusted: bool = False,
    classes: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Classifier:
    """A program from a file of `torch.export.save` (.pt2), exported from a model in eval mode.

    Args:
        path: of the file. The batch size must have been exported as dynamic.
        trusted: must be True: loading unpickles parts of the file, so a hostile one runs code.
        classes: K; found at the first forward when left out.
        mean, std: normalisation inside the model, for programs that take normalised images.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not trusted, no exported program, or one for a single batch size.
    """
    _check_program(path, trusted, "model.exported")
    try:
        program = torch.export.load(path)
    except (RuntimeError, ValueError, KeyError, AssertionError, zipfile.BadZipFile) as error:
        raise _no_program(path, "torch.export", error) from None
    inputs = [n.meta["val"] for n in program.graph.nodes if n.name in program.graph_signature.user_inputs]
    if len(inputs) != 1 or not hasattr(inputs[0], "shape"):
        raise ValueError(f"{path} takes {len(inputs)} inputs; a classifier takes one tensor of images")
    batch = str(inputs[0].shape[0])  # a symbol's name where it is dynamic
    if batch.isdecimal():
        raise ValueError(
            f"{path} was exported for batches of {batch} only; "
            "export it again with dynamic_shapes=({0: torch.export.Dim('batch')},)"
        )
    return Classifier(_Exported(program.module()), mean, std, classes, Path(path).stem).eval()


def _check_program(path: str, trusted: bool, component: str) -> None:
    if not Path(path).is_file():
        raise FileNotFoundError(f"{component}: no file at {path}")
    if not trusted:
        raise ValueError(
            f"{component}: {path} is a program, and loading it can run code or write files; "
            "set trusted=True if you trust where it came from"
        )


def _no_program(path: str, kind: str, error: Exception) -> ValueError:
    return ValueError(f"{path} is no whole {kind} program: {' '.join(str(error).split())[:200]}")
