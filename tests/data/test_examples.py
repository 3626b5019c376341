"""The documented examples run as they stand."""

import importlib.util
import runpy
from pathlib import Path

import pytest
import torch

EXAMPLES = Path(__file__).parents[2] / "scripts" / "examples"
NEEDS = {"huggingface_datasets": ("datasets", "huggingface"), "lightning_module": ("lightning", "lightning")}


def load(name):
    module, extra = NEEDS.get(name, ("torch", ""))
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"needs the extra: pip install 'robustaug[{extra}]'")
    return runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"]


@pytest.fixture(autouse=True)
def own_random_state():
    with torch.random.fork_rng():  # examples seed globally, as scripts may
        yield


def test_every_example_is_short_documented_and_tested_here():
    files = sorted(EXAMPLES.glob("*.py"))
    assert [file.stem for file in files] == ["huggingface_datasets", "lightning_module", "plain_pytorch"]
    for file in files:
        lines = file.read_text().split("\n")
        assert lines[0].startswith('"""')
        assert any(line.startswith(f"Run: python scripts/examples/{file.name}") for line in lines)
        assert len(lines) < 60


def test_plain_pytorch_learns():
    assert load("plain_pytorch")(epochs=4) > 0.8


@pytest.mark.parametrize("workers", [0, 2])
def test_huggingface_datasets(workers):
    images = load("huggingface_datasets")(workers=workers)
    assert (images.shape[1:], images.dtype) == ((1, 8, 8), torch.uint8)


@pytest.mark.filterwarnings("ignore")
def test_lightning_learns(tmp_path):
    assert load("lightning_module")(epochs=4, default_root_dir=tmp_path, accelerator="auto") > 0.7
