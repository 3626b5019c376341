"""Two processes over gloo leave the records and the report of one, to the last bit."""

import json
import os
import re
import socket
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from robustaug import create, experiment
from robustaug.evaluate.records import Records
from robustaug.report import write

RECIPE = """
name: small
model: {model.small_cnn: {channels: 1, classes: 10, width: 4, size: 8}}
epochs: 1
batch_size: 500
"""
EXPERIMENT = """
name: shared
data:
  train: {data.digits: {split: train}}
  validation: {data.digits: {split: val}}
  test: {data.imagefolder: {path: FOLDER, channels: 1}}
models:
  first: {train: small.yaml}
  second: {train: small.yaml, calibrate: vector}
suite:
  scenarios:
    shift: {operators: [image.gaussian_noise, image.contrast], severities: [1, 5]}
    stays: {operators: [image.gaussian_noise], severities: [2], expects: same}
    turning: {sequence: {operator: {image.rotate: {angle_deg: [-15, 15]}}, frames: 4}, limit: 70}
    lit: {cue: {operator: {image.brightness: {factor: 1.2}}}, limit: 70}
    pgd: {attack: {attack.pgd: {steps: 3}}, eps: [0.05, 0.2], limit: 70}
    nearest: {attack: {attack.ddn: {steps: 4}}, eps: [0.5], limit: 70}
    one_for_all: {attack: {attack.universal: {steps: 2}}, eps: [0.1], limit: 70}
    smooth: {certify: {sigma: 0.1, n: 20, n0: 2, alpha: 0.01}, radii: [0.05], limit: 40}
    photos: {ood: {data.photos: {size: 8, channels: 1, n: 70}}}
    elsewhere: {data: {data.imagefolder: {path: FOLDER, channels: 1}}}
  scores: [ood.msp, ood.knn, ood.relative_mahalanobis, ood.vim]
  batch_size: 32
gates:
  first: {min_clean_accuracy: 0.01}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The experiment's files; three of its 130 pictures are damaged, two of them in batches of the second process."""
    folder = tmp_path_factory.mktemp("shared")
    digits = create("data.digits", split="test")
    for row in range(130):
        image, label, index = digits[row]
        path = folder / "test" / str(label) / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0].numpy()).save(path)
    pictures = sorted((folder / "test").rglob("*.png"))
    for row in (3, 40, 100):
        pictures[row].write_bytes(b"no picture")
    (folder / "small.yaml").write_text(RECIPE)
    (folder / "experiment.yaml").write_text(EXPERIMENT.replace("FOLDER", str(folder / "test")))
    return folder


@pytest.fixture(scope="module")
def alone(folder):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as many as each of several has
    try:
        plan = experiment.read_plan(folder / "experiment.yaml")
        command = f"robustaug run {folder / 'experiment.yaml'}"
        return experiment.run(plan, folder / "one/shared", command=command)
    finally:
        torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def together(folder):
    return launched("run", folder / "experiment.yaml", "--runs", folder / "two", "--json")


def launched(*arguments):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-addr", "127.0.0.1"]
    command += ["--master-port", str(port), "-m", "robustaug.cli.main", *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path.cwd())}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240)


def untimed(content):
    """Return what run.json says without durations and moments."""
    if isinstance(content, dict):
        timed = re.compile("seconds|created|busy|augment_share")
        return {key: untimed(value) for key, value in content.items() if not timed.match(key)}
    return [untimed(value) for value in content] if isinstance(content, list) else content


def test_records_are_those_of_one_process(folder, alone, together):
    assert together.returncode == 0, together.stderr
    one, two = Records(alone.folder), Records(folder / "two/shared")
    assert len(one.cells()) == len(two.cells()) == 2 * 18
    for cell, other in zip(one.cells(), two.cells(), strict=True):
        assert cell.fingerprint == other.fingerprint
        assert dict(other.metrics) == pytest.approx(dict(cell.metrics), rel=0, abs=0, nan_ok=True)
        a, b = one.samples(cell), two.samples(other)
        assert a.keys() == b.keys()
        for key in a:
            np.testing.assert_array_equal(a[key], b[key], f"{cell.scenario} {key}")
        shown = one.examples(cell), two.examples(other)
        assert shown[0].keys() == shown[1].keys()
        assert all(np.array_equal(value, shown[1][key]) for key, value in shown[0].items())


def test_figures_files_and_report_are_those_of_one_process(folder, alone, together):
    one, two = alone.folder, folder / "two/shared"
    said = json.loads(together.stdout)  # of one process: two would be no JSON
    assert said["figures"]["first"] == pytest.approx(alone.figures["first"], rel=0, abs=0, nan_ok=True)
    assert said["limits"] == alone.limits
    assert said["busy"]["cells"] == alone.busy["cells"] == 2 * 18
    assert untimed(Records(one).run) == untimed(Records(two).run)
    for name in ("quarantine_test.csv", "experiment.json", "cohorts.parquet", "asked.json"):
        assert (one / name).read_bytes() == (two / name).read_bytes(), name
    assert (one / "quarantine_test.csv").read_text().count("\n") == 4
    for run in (one, two):
        records = Records(run)
        records.write_run(untimed(records.run))
        with closing(sqlite3.connect(run / "records.sqlite")) as connection, connection:
            connection.execute("UPDATE cells SET seconds = 0")
    assert write(one).read_bytes() == write(two).read_bytes()
