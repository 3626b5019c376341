import pickle
import re
import shlex

import pytest

from robustaug.evaluate.records import Records


@pytest.fixture
def weights(finished):
    return finished / "models/first/best/model.safetensors"


def test_a_checkpoint_is_measured_and_its_gates_checked(robustaug, written, finished, weights, tmp_path):
    base = ["eval", written / "suite.yaml", "--data", "{data.digits: {split: test}}", "--checkpoint", weights]
    base += ["--validation", "{data.digits: {split: val}}", "--runs", tmp_path]
    called = robustaug(*base, "--gate", "min_clean_accuracy=0.05", "--json")
    assert called.code == 0, called.err
    measured = called.json["figures"]["model"]
    earlier = robustaug("run", written / "experiment.yaml", "--runs", finished.parent, "--json").json["figures"][
        "first"
    ]
    # a run of several models holds each against its baseline, too
    assert measured == pytest.approx({name: value for name, value in earlier.items() if name in measured})
    assert {"clean_accuracy", "corruption_accuracy", "ece"} <= {*measured}
    called = robustaug(*base, "--gate", "min_clean_accuracy=0.9999", "--gate", "max_ece=1")
    assert called.code == 1
    assert "gate FAILED model: min_clean_accuracy: clean_accuracy" in called.out
    assert "gate passed model: max_ece" in called.out
    assert re.search(r"models at work: \d+% of the [\d.]+ s that 5 cells took", called.out)
    command = shlex.split(Records(tmp_path / "eval").run["command"])  # what reproduces the run
    assert command[:2] == ["robustaug", "eval"]
    assert command[command.index("--data") + 1] == "{data.digits: {split: test}}"
    assert command[-4:] == ["--gate", "min_clean_accuracy=0.9999", "--gate", "max_ece=1"]
    assert (tmp_path / "eval/report.html").is_file()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data", "{data.digits: {splt: test}}"], "splt"),
        (["--data", "{data.digits: {split: tset}}"], "'tset'"),
        (["--data", "[1"], "--data: not valid YAML"),
        (["--data", "data.digits", "--gate", "min_clean"], "override must read key=value"),
        (["--data", "data.digits", "--gate", "min_cleen_accuracy=1"], "did you mean"),
        (["--data", "data.digits", "--checkpoint", "nothing.safetensors"], "nothing.safetensors"),
        (["--data", "data.digits", "--model", "model.small_cn"], "did you mean 'model.small_cnn'"),
        (["--data", "data.digits"], "model"),
    ],
)
def test_bad_options_are_one_message(robustaug, written, weights, tmp_path, options, message):
    if "--checkpoint" not in options and "--model" not in options and options != ["--data", "data.digits"]:
        options = [*options, "--checkpoint", weights]
    called = robustaug("eval", written / "suite.yaml", *options, "--runs", tmp_path)
    assert called.code == 2
    assert called.err.startswith("error: ")
    assert message in called.err


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_pickled_checkpoint_is_refused_unread(robustaug, written, tmp_path):
    bad = tmp_path / "model.pt"
    bad.write_bytes(pickle.dumps({"a": print}))
    model = "{model.small_cnn: {channels: 1, size: 8}}"
    called = robustaug(
        "eval",
        written / "suite.yaml",
        "--data",
        "data.digits",
        "--model",
        model,
        "--checkpoint",
        bad,
        "--runs",
        tmp_path,
    )
    assert called.code == 2
    assert "model.pt" in called.err
