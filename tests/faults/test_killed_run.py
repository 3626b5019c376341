"""kill -9 at chosen instants, then the same command again: the same numbers to the last bit."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from robustaug.evaluate.records import Records

RECIPE = """
name: small
model: {model.small_cnn: {channels: 1, classes: 10, width: 4, size: 8}}
augment: [image.gaussian_noise]
attack: {attack.pgd: {eps: 0.1, steps: 2}}
validation_limit: 50
epochs: 4
batch_size: 100
"""
EXPERIMENT = """
name: killed
data:
  train: {data.digits: {split: train}}
  validation: {data.digits: {split: val}}
  test: {data.digits: {split: test}}
models:
  small: {train: small.yaml}
suite:
  scenarios:
    shift: {operators: [image.gaussian_noise, image.shot_noise], severities: [1, 3, 5]}
    pgd: {attack: {attack.pgd: {steps: 5}}, eps: [0.05, 0.1, 0.2]}
    photos: {ood: {data.photos: {size: 8, channels: 1, n: 50}}}
"""


def start(folder: Path, runs: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "robustaug.cli.main", "run", str(folder / "experiment.yaml")]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*command, "--runs", str(folder / runs)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        preexec_fn=hears_ctrl_c,
    )


def hears_ctrl_c() -> None:
    """Undo what a job in a shell's background inherits, and passes on: that it ignores Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def finish(folder: Path, runs: str) -> None:
    process = start(folder, runs)
    output = process.communicate(timeout=240)[0].decode()
    assert process.returncode == 0, output


def kill_when(process: subprocess.Popen, reached) -> bool:
    """Kill the process once `reached()` holds; False if it ended before."""
    while process.poll() is None:
        if reached():
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            return True
        time.sleep(0.005)
    return False


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "small.yaml").write_text(RECIPE)
    (tmp_path / "experiment.yaml").write_text(EXPERIMENT)
    return tmp_path


def test_killed_anywhere_a_run_ends_with_the_same_numbers(folder):
    finish(folder, "whole")
    run = folder / "cut" / "killed"
    instants = [
        lambda: (run / "models/small/last/state.safetensors").exists(),  # between epochs, or early in the second
        lambda: len([*(run / "samples").glob("*.parquet")]) >= 1,  # a cell's samples may stand without its row
        lambda: len([*(run / "samples").glob("*.parquet")]) >= 5,
    ]
    for reached in instants:
        assert kill_when(start(folder, "cut"), reached), "the run ended before it could be killed"
    (run / "samples" / ".cell.parquet.part").write_bytes(b"half")  # what a kill within a write leaves
    finish(folder, "cut")

    whole, cut = Records(folder / "whole" / "killed"), Records(run)
    assert len(whole.cells()) == len(cut.cells()) == 12
    for one, other in zip(whole.cells(), cut.cells(), strict=True):
        assert one.fingerprint == other.fingerprint
        assert one.metrics == other.metrics
        a, b = whole.samples(one), cut.samples(other)
        for key in a:
            np.testing.assert_array_equal(a[key], b[key], key)  # NaN equals NaN
    weights = [load_file(r.folder / "models/small/best/model.safetensors") for r in (whole, cut)]
    assert all(np.array_equal(weights[0][key], weights[1][key]) for key in weights[0])
    assert not [*run.rglob("*.part")]
    assert (run / "report.html").exists()


def test_interrupting_politely_says_how_to_go_on(folder):
    process = start(folder, "runs")
    started = folder / "runs" / "killed" / "models/small/last/state.safetensors"
    while process.poll() is None and not started.exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=60)[0].decode()
    assert process.returncode == 130, output
    assert "again" in output
    assert "Traceback" not in output
    finish(folder, "runs")
