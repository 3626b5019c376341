"""One small finished run that all commands are tried on, and a way to call them."""

import json
from typing import NamedTuple

import pytest

from robustaug.cli.main import main

RECIPE = """
name: tiny
model: {model.small_cnn: {channels: 1, classes: 10, width: 4, size: 8}}
data: {train: {data.digits: {split: train}}, validation: {data.digits: {split: val}}}
epochs: 1
batch_size: 250
"""
SUITE = """
scenarios:
  shift: {operators: [image.gaussian_noise], severities: [1, 5], limit: 100}
  pgd: {attack: {attack.pgd: {steps: 2}}, eps: [0.1], limit: 50}
"""
EXPERIMENT = """
name: tiny
data: {test: {data.digits: {split: test}}, validation: {data.digits: {split: val}}}
models:
  first: {train: tiny_recipe.yaml}
  second: {model: {model.small_cnn: {channels: 1, classes: 10, width: 4, size: 8, seed: 1}}}
baseline: second
suite: suite.yaml
gates:
  first: {min_clean_accuracy: 0.01}
"""


class Called(NamedTuple):
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)


@pytest.fixture
def robustaug(capsys, monkeypatch):
    """Call the command line in this process."""
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments) -> Called:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return Called(ended.value.code, out, err)

    return call


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    """A folder with the YAML files above."""
    folder = tmp_path_factory.mktemp("configs")
    for name, text in (("tiny_recipe", RECIPE), ("suite", SUITE), ("experiment", EXPERIMENT)):
        folder.joinpath(f"{name}.yaml").write_text(text)
    return folder


@pytest.fixture(scope="session")
def finished(written):
    """The folder of a finished run; tests only read it."""
    with pytest.raises(SystemExit) as ended:
        main(["run", str(written / "experiment.yaml"), "--runs", str(written / "runs"), "--json"])
    assert ended.value.code == 0
    return written / "runs" / "tiny"


@pytest.fixture(scope="session")
def weights(written):
    """The checkpoint of a small model that reads most digits: the run's own is trained for one epoch."""
    import torch

    from robustaug import create
    from robustaug.models import checkpoints

    params = {"channels": 1, "classes": 10, "width": 4, "size": 8}
    model, source = create("model.small_cnn", **params), create("data.digits", split="train")
    batch, _ = source.fetch(range(600))
    x, y = batch.image.float() / 255, batch.label
    optimiser = torch.optim.Adam(model.train().parameters(), lr=0.02)
    for _ in range(25):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        optimiser.step()
    checkpoints.save(written / "skilled.safetensors", model, {"model": {"model.small_cnn": params}})
    return written / "skilled.safetensors"
