"""Training that is killed, or meets a full disk, ends with the weights it would have had: bit for bit on the CPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from tests.faults.killed_training import CASES

TIMES = ("seconds", "augment_share")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("killed")
    command = [sys.executable, "-m", "tests.faults.killed_training", str(folder)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path.cwd())}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240)
    assert done.returncode == 0, done.stderr
    return folder


def plain(path):
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["plain"])


@pytest.mark.parametrize("name", CASES)
def test_killed_training_ends_with_the_same_state(folder, name):
    for file in ("last/state", "last/model", "best/model"):
        whole, cut = (load_file(folder / way / name / f"{file}.safetensors") for way in ("whole", "cut"))
        assert whole.keys() == cut.keys()
        assert all(torch.equal(value, cut[key]) for key, value in whole.items()), file
    whole, cut = (plain(folder / way / name / "last/state.safetensors") for way in ("whole", "cut"))
    for one, other in zip(whole["history"], cut["history"], strict=True):
        assert all(other[key] == value for key, value in one.items() if not key.startswith(TIMES))
    assert not [*(folder / "cut" / name).rglob("*.part")]


@pytest.mark.parametrize("name", CASES)
def test_a_full_disk_leaves_the_state_before(folder, name):
    cut = folder / "cut" / name
    assert (cut / "after.safetensors").read_bytes() == (cut / "before.safetensors").read_bytes()
    said = (cut / "said.txt").read_text()
    # the history goes before the state, and is as large or not as its figures compress
    assert any(f"{cut / file} cannot be written" in said for file in ("history.parquet", "last/state.safetensors"))
    assert "File too large" in said
