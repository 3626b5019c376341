import functools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from robustaug.cli import outcome
from robustaug.experiment import Outcome


def test_a_finished_run_prints_its_figures_and_measures_nothing_twice(robustaug, written, finished):
    called = robustaug("run", written / "experiment.yaml", "--runs", finished.parent)
    assert called.code == 0
    for words in ("clean accuracy", "accuracy under corruption", "accuracy under attack", "worst cohort", "first"):
        assert words in called.out
    assert "gate passed first: min_clean_accuracy" in called.out
    assert f"report: {finished / 'report.html'}" in called.out


def test_json_is_all_there_is_on_standard_output(robustaug, written, finished):
    called = robustaug("run", written / "experiment.yaml", "--runs", finished.parent, "--json")
    assert called.code == 0
    assert set(called.json) == {"folder", "report", "figures", "gates", "verdict", "limits", "busy"}
    assert set(called.json["figures"]) == {"first", "second"}
    assert called.json["gates"]["first"][0]["verdict"] == called.json["verdict"] == "pass"
    assert called.err == ""


def test_a_gate_that_fails_makes_the_exit_code_1_and_is_named(robustaug, written, finished):
    again = ["run", written / "experiment.yaml", "gates.first.min_robust_accuracy=0.999", "--runs", finished.parent]
    called = robustaug(*again)
    assert called.code == 1
    assert "gate FAILED first: min_robust_accuracy: robust_accuracy" in called.out
    assert "is below 0.999" in called.out
    called = robustaug(*again, "--json")
    assert called.code == 1
    failed = [gate for gate in called.json["gates"]["first"] if gate["verdict"] == "fail"]
    assert [gate["name"] for gate in failed] == ["min_robust_accuracy"]


def test_a_run_of_another_experiment_is_refused_and_fresh_sets_it_aside(robustaug, written, tmp_path):
    small = ["models.first=null", "gates={}", "suite={scenarios: {}}", "models={only: {model: model.small_cnn}}"]
    base = ["run", written / "experiment.yaml", "baseline=null", *small[1:], "--runs", tmp_path]
    only = "models.only.model={model.small_cnn: {channels: 1, size: 8, width: 4, seed: %d}}"
    assert robustaug(*base, only % 0).code == 0
    called = robustaug(*base, only % 1)
    assert called.code == 2
    assert "--fresh" in called.err
    called = robustaug(*base, only % 1, "--fresh")
    assert called.code == 0
    assert f"the earlier run is now {tmp_path / 'tiny.1'}" in called.err
    assert (tmp_path / "tiny.1/run.json").is_file()


def test_mistakes_of_all_files_are_shown_at_once(robustaug, tmp_path):
    tmp_path.joinpath("recipe.yaml").write_text("name: r\nmodel: model.small_cnn\nepochz: 3\nepochs: 0\n")
    tmp_path.joinpath("suite.yaml").write_text("scenarios: {a: {operators: [image.rotat]}}\n")
    tmp_path.joinpath("experiment.yaml").write_text(
        "name: e\ndata: {test: data.digits}\nmodels: {m: {train: recipe.yaml}}\nsuite: suite.yaml\n"
    )
    called = robustaug("run", tmp_path / "experiment.yaml")
    assert called.code == 2
    assert called.out == ""
    for mistake in (
        "epochz: unknown key; did you mean 'epochs'?",
        "epochs: input should be greater than or equal to 1, got 0",
        "unknown name 'image.rotat'; did you mean 'image.rotate'",
    ):
        assert mistake in called.err


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("device=cuda:9", r"device 'cuda:9' is not on this machine"),
        ("device=tpu9", r"device must be auto, cpu, cuda or cuda:N, got 'tpu9'"),
        ("name=../x", r"name: string should match pattern"),
        ("baseline=third", r"baseline names model 'third'; the models are ['first', 'second']"),
        ("gates.first.min_clean=1", r"min_clean"),
        ("data.test=data.digit", r"data.test: unknown name 'data.digit'; did you mean 'data.digits'"),
        ("models.second.model=attack.pgd", r"models.second.model: 'attack.pgd' is of kind 'attack', not 'model'"),
        ("data.test={data.imagefolder: {path: nowhere.zip}}", r"nowhere.zip"),
        ("suite=nowhere.yaml", r"nowhere.yaml; give the path of a YAML file"),
    ],
)
def test_bad_values_are_named(robustaug, written, tmp_path, override, message):
    called = robustaug("run", written / "experiment.yaml", override, "--runs", tmp_path)
    assert called.code == 2
    assert message in called.err
    assert called.err.startswith("error: ")
    assert "Traceback" not in called.err


def test_ctrl_c_leaves_a_run_that_continues_to_the_same_numbers(written, finished, tmp_path):
    command = [sys.executable, "-m", "robustaug.cli.main", "run", str(written / "experiment.yaml"), "--runs", tmp_path]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    # a job in a shell's background ignores Ctrl-C, and its children would
    hears = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=environment, preexec_fn=hears, **pipes) as process:
        while process.poll() is None and not (tmp_path / "tiny/models/first/last/state.safetensors").exists():
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err.decode()
    assert b"run the same command again to continue" in err
    assert b"Traceback" not in err
    done = subprocess.run([*command, "--json"], env=environment, capture_output=True, check=True)
    whole = subprocess.run([*command[:-1], tmp_path / "b", "--json"], env=environment, capture_output=True, check=True)
    assert json.loads(done.stdout)["figures"] == json.loads(whole.stdout)["figures"]


def test_many_models_are_shown_in_tables_that_a_terminal_has_room_for(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    names = ["every_site", *(f"without_site_{k}" for k in range(4)), "x" * 90]
    figures = {name: {"clean_accuracy": 0.1 * k, "corruption_accuracy": 0.5} for k, name in enumerate(names)}
    outcome.show_measured(Outcome(Path("runs/six"), figures, {}, [], {}), Path("report.html"))
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    assert "…" not in out
    assert all(name in out for name in names[:5])
    assert out.count("│ clean accuracy ") == out.count("│ accuracy under corruption │") == 3  # of 3, 2 and 1 models
    assert [f"{k}0.0%" in out for k in range(1, 6)] == [True] * 5
