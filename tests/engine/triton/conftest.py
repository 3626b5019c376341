"""Steps in torch, sample by sample and map chain by map chain: what the Triton backend is held to."""

import pytest
import torch
from torch import Tensor

from robustaug.engine.triton.backend import run
from robustaug.ops.image.tone import Equalize
from robustaug.ops.operator import take
from robustaug.ops.pixelwise import DRAWERS, READERS
from robustaug.ops.program import Kernel, Step
from tests.engine.conftest import photographs, resample_once

HERE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture(params=["interpreter", pytest.param("cuda", marks=pytest.mark.cuda)])
def device(request) -> str:
    """Where kernels run: in the interpreter on the CPU, or compiled on the GPU; a machine has one of them."""
    wanted = "cuda" if request.param == "cuda" else "cpu"
    if wanted != HERE:
        pytest.skip("needs a CUDA device" if wanted == "cuda" else "the interpreter is for machines without a GPU")
    return wanted


@pytest.fixture(scope="session")
def small() -> Tensor:
    """(3, 3, 11, 13) uint8: neither square nor a multiple of anything."""
    return photographs(3, 11, 13)


def ran(steps: list[Step], image: Tensor, device: str = HERE, dtype: torch.dtype = torch.float32, **norm) -> Tensor:
    """Return what `run` fills a poisoned output with, on the CPU."""
    C, H, W = steps[-1].shape if steps else image.shape[1:]
    out = torch.full((len(image), C, H, W), float("nan") if dtype.is_floating_point else 77).to(device, dtype)
    run(steps, image.to(device), out, norm.get("mean", (0.0,) * C), norm.get("std", (1.0,) * C))
    return out.cpu()


def composed(steps: list[Step], image: Tensor) -> Tensor:
    """(B, C, h, w) float32: the steps in torch, a sample's consecutive maps as one resampling."""
    image = image.float() / 255 if image.dtype == torch.uint8 else image.float()
    return torch.cat([_one(steps, image[row : row + 1], row) for row in range(len(image))])


def _one(steps: list[Step], x: Tensor, row: int) -> Tensor:
    maps: list[Step] = []
    fork = total = x

    def here() -> Tensor:
        return resample_once(x, maps).clamp(0, 1) if maps else x

    for step in steps:
        pick = int(step.pick[row])
        if pick < 0:
            continue
        kernel, args = step.kernels[pick], step.args[row : row + 1]
        if kernel.kind == "map":
            maps.append(Step.of(kernel, [args[:, :9]], step.shape, 1))
            continue
        x, maps = here(), []
        if kernel.kind == "fork":
            fork, total = x, torch.zeros_like(x)
        elif kernel.kind == "add":
            x, total = fork, total + args[0, 0].float() * x
        elif kernel.kind == "join":
            share = args[0, 0].float()
            x = ((1 - share) * fork + share * total).clamp(0, 1)
        elif kernel.kind == "stage":
            x = kernel.operator.formula(x, **take(step.params[pick], torch.tensor([row])))
        else:
            x = Equalize().formula(x) if kernel.kind == "equalize" else _formula(kernel, x, args)
    return here()


def _formula(kernel: Kernel, x: Tensor, args: Tensor) -> Tensor:
    numbers = [column.to(x.dtype).reshape(1, 1, 1, 1) for column in args.unbind(1)]
    if kernel.kind == "pixel":
        count = kernel.formula.__code__.co_argcount - 3
        return torch.cat(kernel.formula(*x.split(1, dim=1), *numbers[:count]), dim=1)
    given = list(READERS[kernel.reads](x))
    count = kernel.formula.__code__.co_argcount - 1 - len(given) - bool(kernel.draws)
    if kernel.draws:
        given.append(DRAWERS[kernel.draws](args[:, count : count + 4].to(torch.int64), x.shape[1:]))
    return kernel.formula(x, *numbers[:count], *given)


def share_apart(a: Tensor, b: Tensor, above: float) -> float:
    """Share of the values that differ by more, or are no numbers."""
    return float((~((a.double() - b.double()).abs() <= above)).double().mean())
