"""A process that ends before its time: another one of the job, or one that reads data."""

import contextlib
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from pyarrow import parquet

from robustaug.cli import epochs
from robustaug.cli.main import main
from robustaug.evaluate.records import Records

RECIPE = """
name: lost
model: {model.small_cnn: {channels: 1, classes: 10, width: 4, size: 8}}
data: {train: {data.digits: {split: train}}, validation: {data.digits: {split: val}}}
epochs: 4
batch_size: 20
save_every_s: 0.001
"""


SUITE = """
scenarios:
  shift: {operators: [image.gaussian_noise, image.contrast, image.brightness]}
  pgd: {attack: {attack.pgd: {steps: 20}}, eps: [0.02, 0.05, 0.1]}
batch_size: 50
"""


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "lost.yaml"
    path.write_text(RECIPE)
    return path


def children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def rank_of(pid):
    environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return next((int(entry[5:]) for entry in environment if entry.startswith(b"RANK=")), None)


def torchrun(*arguments, restarts=0):
    """Start a command of ours in two processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--max-restarts", str(restarts)]
    command += ["--master-addr", "127.0.0.1", "--master-port", str(port), "-m", "robustaug.cli.main"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path.cwd())}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*command, *map(str, arguments)], env=environment, **streams)


def kill_second(process):
    os.kill(next(pid for pid in children(process.pid) if rank_of(pid) == 1), signal.SIGKILL)


def test_the_end_of_one_process_is_told_and_measuring_goes_on_to_the_same_numbers(tmp_path, capsys):
    """What two processes began one may end: the records are those of a run that nobody disturbed."""
    (tmp_path / "suite.yaml").write_text(SUITE)
    model = "{model.small_cnn: {channels: 1, classes: 10, width: 8, size: 8}}"
    command = ["eval", tmp_path / "suite.yaml", "--data", "data.digits", "--model", model, "--device", "cpu", "--json"]
    process = torchrun(*command, "--runs", tmp_path / "cut")
    samples = tmp_path / "cut/eval/samples"
    while process.poll() is None and len([*samples.glob("*.parquet")]) < 3:
        time.sleep(0.005)
    kill_second(process)
    out, err = process.communicate(timeout=240)
    assert process.returncode != 0
    assert out == ""
    assert [line for line in err.splitlines() if line.startswith("error: ")] == [
        "error: process 1 (of 2, counted from 0) ended: killed, or out of memory; the same command continues from "
        "what was last saved"
    ]
    stored = len(Records(tmp_path / "cut/eval").cells())
    assert 2 <= stored < 20
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as many as each of the two had
    try:
        for runs in ("cut", "whole"):
            with pytest.raises(SystemExit) as ended:
                main([*map(str, command), "--runs", str(tmp_path / runs)])
            assert ended.value.code == 0
    finally:
        torch.set_num_threads(threads)
    measured = [json.loads(line)["busy"]["cells"] for line in capsys.readouterr().out.splitlines()]
    assert measured == [20 - stored, 20]
    cut, whole = (Records(tmp_path / runs / "eval") for runs in ("cut", "whole"))
    for one, other in zip(cut.cells(), whole.cells(), strict=True):
        assert (one.fingerprint, one.metrics) == (other.fingerprint, other.metrics)
        a, b = cut.samples(one), whole.samples(other)
        for key in b:
            np.testing.assert_array_equal(a[key], b[key], key)


def test_the_end_of_one_process_is_told_and_training_goes_on_from_its_last_state(recipe, tmp_path):
    """The launcher starts the same command again by itself, which is what `--max-restarts` asks for."""
    # --fresh is for what was there before the command: a restart finds its own state
    process = torchrun("train", recipe, "--runs", tmp_path, "--device", "cpu", "--fresh", restarts=1)
    state = tmp_path / "lost/last/state.safetensors"
    while process.poll() is None and not state.exists():
        time.sleep(0.005)
    kill_second(process)
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    told = [line for line in err.splitlines() if line.startswith("error: ")]
    assert told == [
        "error: process 1 (of 2, counted from 0) ended: killed, or out of memory; the same command continues from "
        "what was last saved"
    ]
    assert len([line for line in out.splitlines() if line.startswith("best epoch")]) == 1
    assert parquet.read_table(tmp_path / "lost/history.parquet").num_rows == 4
    assert not (tmp_path / "lost.1").exists()


def test_the_end_of_a_process_that_reads_is_told(recipe, tmp_path, capsys, monkeypatch):
    @contextlib.contextmanager
    def watching(*_, **__):
        def kill(done, total, course):
            for worker in multiprocessing.active_children():
                os.kill(worker.pid, signal.SIGKILL)

        yield kill

    monkeypatch.setattr(epochs, "watching", watching)
    with pytest.raises(SystemExit) as ended:
        main(["train", str(recipe), "--runs", str(tmp_path), "workers=1", "--device", "cpu"])
    err = capsys.readouterr().err
    assert ended.value.code == 75, err
    assert "error: a process that reads data ended (DataLoader worker" in err
    assert err.splitlines()[-1].endswith("the same command continues")
