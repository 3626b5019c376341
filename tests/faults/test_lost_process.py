"""A process that ends before its time: another one of the job, or one that reads data."""

import contextlib
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pyarrow import parquet

from robustaug.cli import epochs
from robustaug.cli.main import main

RECIPE = """
name: lost
model: {model.small_cnn: {channels: 1, classes: 10, width: 4, size: 8}}
data: {train: {data.digits: {split: train}}, validation: {data.digits: {split: val}}}
epochs: 4
batch_size: 20
save_every_s: 0.001
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


def test_the_end_of_one_process_is_told_and_training_goes_on_from_its_last_state(recipe, tmp_path):
    """The launcher starts the same command again by itself, which is what `--max-restarts` asks for."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--max-restarts", "1"]
    command += ["--master-addr", "127.0.0.1", "--master-port", str(port), "-m", "robustaug.cli.main", "train"]
    # --fresh is for what was there before the command: a restart finds its own state
    command += [str(recipe), "--runs", str(tmp_path), "--device", "cpu", "--fresh"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path.cwd())}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, env=environment, **streams)
    state = tmp_path / "lost/last/state.safetensors"
    while process.poll() is None and not state.exists():
        time.sleep(0.005)
    os.kill(next(pid for pid in children(process.pid) if rank_of(pid) == 1), signal.SIGKILL)
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
