"""Two processes over gloo train what one does, whatever a batch's samples fall to; all of it in one launch."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from pyarrow import parquet
from safetensors.torch import load_file

from robustaug.models.checkpoints import read_metadata
from robustaug.train.processes import Processes
from tests.train.two_processes import CASES, CUT

TIMES = ("seconds", "augment_share")
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
"""What batch normalisation keeps: means over the processes, where one process keeps those of its parts in turn."""
COARSE = {"fp16": 5e-3, "vat": 1e-5}
"""Tolerances: of fewer digits, and of slopes of differences, where rounding counts more."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-addr", "127.0.0.1"]
    command += ["--master-port", str(port), "-m", "tests.train.two_processes", str(folder)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path.cwd())}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("name", CASES)
def test_two_processes_train_what_one_does(folder, name):
    """State (weights, momentum, memory, averages) to 2e-6 of its largest value; see `COARSE` for more."""
    one, two = (load_file(folder / way / name / "last/state.safetensors") for way in ("one", "two"))
    assert one.keys() == two.keys()
    tolerance = COARSE.get(name, 2e-6)
    for key, value in one.items():
        if not key.endswith(STATISTICS):
            assert (two[key].double() - value).abs().max() <= tolerance * value.double().abs().max(), key
    histories = [parquet.read_table(folder / way / name / "history.parquet").to_pylist() for way in ("one", "two")]
    for alone, together in zip(*histories, strict=True):
        assert together["loss"] == pytest.approx(alone["loss"], rel=1e-3 if name == "fp16" else 1e-5)
        if "model" not in CASES[name]:  # running statistics decide on validation samples
            for key in ("val_accuracy", "val_robust_accuracy"):
                assert together.get(key) == pytest.approx(alone.get(key), abs=0.005)


@pytest.mark.parametrize("name", CASES)
def test_all_processes_return_the_same_model_and_figures(folder, name):
    paths = [folder / f"{name}.{rank}.safetensors" for rank in (0, 1)]
    one, two = map(load_file, paths)
    assert all(torch.equal(value, two[key]) for key, value in one.items())
    histories = [read_metadata(path)["history"] for path in paths]
    for first, second in zip(*histories, strict=True):
        assert all(second[key] == value for key, value in first.items() if not key.startswith(TIMES))


@pytest.mark.parametrize("name", CUT)
def test_resumed_processes_end_with_the_same_state(folder, name):
    whole, cut = (load_file(folder / way / name / "last/state.safetensors") for way in ("two", "cut"))
    assert all(torch.equal(value, cut[key]) for key, value in whole.items())


def test_processes_with_different_recipes_are_refused(folder):
    for rank in (0, 1):
        assert "the processes were given different recipes" in (folder / f"{rank}.txt").read_text()


def test_a_batch_is_shared_out_whole():
    rows = list(range(7))
    assert [Processes(rank, 3).share(rows) for rank in range(3)] == [[0, 1], [2, 3], [4, 5, 6]]
    assert [Processes(rank, 2).share([5]) for rank in range(2)] == [[], [5]]
