import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors import safe_open

from robustaug.attacks import witness
from robustaug.attacks.execution import Progress
from robustaug.cli import progress

DATA = ["--data", "{data.digits: {split: test}}"]


def test_an_attack_says_what_stands_and_what_that_is_worth(robustaug, weights, tmp_path):
    out = tmp_path / "found.safetensors"
    called = robustaug(
        "attack", "attack.pgd", *DATA, "--checkpoint", weights, "--eps", "8/255", "--limit", 60, "--out", out
    )
    assert called.code == 0, called.err
    assert "robustaug.create('attack.pgd', eps=0.031" not in called.out  # 8/255 is the default
    assert "on 60 samples of digits" in called.out
    assert "under attack (95 % interval" in called.out
    assert "passes a sample" in called.out
    assert f"witnesses: {out}" in called.out
    assert "masked gradients" in called.out or "masking" in called.out
    assert "100%" in called.err
    assert "stand" in called.err
    with safe_open(out, "pt") as file:
        assert "robustaug_witnesses" in file.metadata()


def test_json_holds_every_figure(robustaug, weights, tmp_path):
    base = ["attack", "{attack.pgd: {steps: 3, norm: L2}}", *DATA, "--checkpoint", weights]
    base += ["--eps", "0.6", "--limit", 50]
    called = robustaug(*base, "--json", "--no-checks", "--out", tmp_path / "w.safetensors")
    assert (called.code, called.err) == (0, "")
    found = called.json
    assert found["attack"] == {"attack.pgd": {"norm": "L2", "eps": 0.6, "steps": 3}}
    assert found["samples"] == 50
    assert found["findings"] is None
    assert found["robust"]["low"] <= found["robust"]["estimate"] <= found["robust"]["high"]
    assert 0 < found["robust"]["estimate"] < found["clean"]["estimate"]
    assert found["broke"] == {"attack.pgd": round(50 * (found["clean"]["estimate"] - found["robust"]["estimate"]))}
    kept = witness.read(tmp_path / "w.safetensors")
    assert len(kept) == 50 - round(50 * found["robust"]["estimate"])
    assert kept.claim.attacked == 50
    again = robustaug(*base, "--json", "--no-checks").json
    assert {**again, "seconds": 0, "witnesses": 0} == {**found, "seconds": 0, "witnesses": 0}


def test_an_ensemble_shows_what_each_attack_leaves(robustaug, weights):
    attack = "{attack.ensemble: {attacks: [attack.fgsm, attack.pgd, {attack.pgd: {steps: 3}}]}}"
    base = ["attack", attack, *DATA, "--checkpoint", weights, "--eps", "0.1", "--limit", 60, "--no-checks"]
    called, found = robustaug(*base), robustaug(*base, "--json").json
    assert called.code == 0, called.err
    lines = [line.split("  ") for line in called.out.splitlines()]
    rows = {cells[0].strip(): [cell.strip() for cell in cells[1:] if cell.strip()] for cells in lines}
    left = found["clean"]["estimate"] * 60
    assert rows["none"] == [f"{left / 60:.1%}"]
    for name in ("attack.fgsm", "attack.pgd", "attack.pgd (steps 3)"):
        left -= found["broke"][name]
        assert rows[name] == [str(found["broke"][name]), f"{left / 60:.1%}"]
    assert found["broke"]["attack.pgd"] > 0
    assert left / 60 == pytest.approx(found["robust"]["estimate"])


def test_an_attack_that_stops_early_says_what_its_figures_are_about(robustaug, weights):
    attack = "{attack.autoattack_fast: {tolerance: 0.3, block: 10}}"
    base = ["attack", attack, *DATA, "--checkpoint", weights, "--eps", "0.05", "--limit", 60, "--no-checks"]
    called, found = robustaug(*base), robustaug(*base, "--json").json
    assert 0 < found["tried"] < found["samples"] == 60
    assert f"on {found['tried']} of 60 samples of digits" in called.out
    assert "all figures are about the samples it tried" in called.out


def test_a_surrogate_is_followed_where_the_model_hides_its_gradients(robustaug, weights, tmp_path):
    """Weights that are large enough saturate the loss: no gradient is left, and every answer stays as it was."""
    import torch

    from robustaug import create
    from robustaug.models import checkpoints

    spec = checkpoints.read_metadata(weights)["model"]
    steep = create("model.small_cnn", **spec["model.small_cnn"])
    checkpoints.load_into(weights, steep)
    with torch.no_grad():
        last = [layer for layer in steep.modules() if isinstance(layer, torch.nn.Linear)][-1]
        last.weight.mul_(1e5)
        last.bias.mul_(1e5)
    checkpoints.save(tmp_path / "steep.safetensors", steep, {"model": spec})
    base = ["attack", "{attack.pgd: {steps: 2}}", *DATA, "--checkpoint", tmp_path / "steep.safetensors"]
    base += ["--eps", "0.1", "--limit", 40]
    given = ["--surrogate-model", "{model.small_cnn: {channels: 1, classes: 10, width: 4, size: 8}}"]
    found = robustaug(*base, "--json", "--surrogate", weights, *given).json
    [finding] = [finding for finding in found["findings"] if finding["name"] == "transfer"]
    assert finding["after"] < finding["before"]
    assert f"masking the model: {finding['message']}" in robustaug(*base, "--surrogate", weights).out
    called = robustaug(*base, "--surrogate", weights, "--no-checks")
    assert called == (2, "", "error: a surrogate is for the checks, which are off; leave one of the two out\n")


def test_progress_shows_the_interval_so_far_and_ends_once(capsys):
    with progress.attacking() as show:
        for fraction in (0.5, 0.996, 0.999, 1.0, 1.0):
            show(Progress("attack.some", 10, 5, fraction, 1.0, 1.0, (0.2, 0.4)))
    first, last = capsys.readouterr().err.splitlines()
    assert first.startswith("attack.some: 50%, ")
    assert first.endswith("accuracy 20.0% to 40.0% so far")
    assert last.startswith("attack.some: 100%, ")


def test_a_part_of_the_data_gives_the_same_points(robustaug, weights, tmp_path):
    base = ["attack", "{attack.pgd: {steps: 3}}", *DATA, "--checkpoint", weights, "--eps", "0.1"]
    base += ["--no-checks", "--json"]
    robustaug(*base, "--limit", 40, "--batch-size", 7, "--out", tmp_path / "part.safetensors")
    robustaug(*base, "--limit", 120, "--out", tmp_path / "more.safetensors")
    part, more = (witness.read(tmp_path / f"{name}.safetensors") for name in ("part", "more"))
    rows = {int(index): row for row, index in enumerate(more.index)}
    shared = [(row, rows[int(index)]) for row, index in enumerate(part.index) if int(index) in rows]
    assert sum(bool((part.points[a] != part.clean[a]).any()) for a, _ in shared) > 3
    assert all((part.points[a] - more.points[b]).abs().max() < 1e-5 for a, b in shared)


def test_a_stopped_attack_goes_on_from_its_file(robustaug, weights, tmp_path, monkeypatch):
    from robustaug.attacks import execution as module
    from robustaug.attacks.pgd import PGD

    base = ["attack", "{attack.pgd: {steps: 6}}", *DATA, "--checkpoint", weights, "--eps", "0.02"]
    base += ["--limit", 30, "--no-checks", "--json"]
    whole = robustaug(*base).json
    file = tmp_path / "place"
    kept = module.Execution.__init__
    monkeypatch.setattr(module.Execution, "__init__", lambda self, **k: kept(self, **k | {"checkpoint_every_s": 0}))
    step, taken = PGD.step, []

    def interrupted(self, state, ask):
        taken.append(state.steps)
        if len(taken) == 4:
            raise KeyboardInterrupt
        return step(self, state, ask)

    monkeypatch.setattr(PGD, "step", interrupted)
    assert robustaug(*base, "--resume", file).code == 130
    assert file.exists()
    resumed = robustaug(*base, "--resume", file).json
    assert taken[4:][0] == 3, "went on with the step that was interrupted"
    assert not file.exists()
    assert {**resumed, "seconds": 0} == {**whole, "seconds": 0}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["attack.pgdd"], "did you mean 'attack.pgd'"),
        (["[1"], "ATTACK: not valid YAML"),
        (["image.brightness"], "'image.brightness' is no attack on tensors"),
        (["{attack.pgd: {stepps: 2}}"], "did you mean 'steps'"),
        (["{attack.pgd: {eps: 0.1}}", "--eps", "0.2"], "eps is given twice, 0.1 and 0.2"),
        (["attack.pgd", "--eps", "8"], "did you mean 8/255?"),
        (["attack.pgd", "--out", "w.pt"], "--out must end in .safetensors, got 'w.pt'"),
        (["attack.pgd", "--precision", "fp8"], "precision must be one of"),
        (["attack.pgd", "--data", "{data.digits: {splt: 1}}"], "splt"),
        (["attack.pgd", "--device", "tpu9"], "device must be auto, cpu, cuda"),
        (["attack.pgd", "--checkpoint", "none.safetensors"], "none.safetensors"),
        (["attack.pgd", "--surrogate", "other.safetensors"], "other.safetensors"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_message(robustaug, weights, arguments, message):
    data = [] if "--data" in arguments else DATA
    checkpoint = [] if "--checkpoint" in arguments else ["--checkpoint", weights]
    called = robustaug("attack", *arguments, *data, *checkpoint)
    assert called.code == 2
    assert called.err.startswith("error: ")
    assert message in called.err


def test_a_model_must_be_named(robustaug):
    called = robustaug("attack", "attack.pgd", *DATA)
    assert called == (2, "", "error: give --checkpoint, or --model for weights that the model brings along, or both\n")


def test_under_torchrun_one_process_speaks_for_all(robustaug, weights, tmp_path):
    arguments = ["attack", "{attack.pgd: {steps: 3}}", *DATA, "--checkpoint", str(weights), "--eps", "0.1"]
    arguments += ["--limit", "31", "--no-checks", "--json", "--device", "cpu"]
    alone = robustaug(*arguments, "--out", tmp_path / "alone.safetensors").json
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-addr", "127.0.0.1"]
    command += ["--master-port", str(port), "-m", "robustaug.cli.main", *arguments]
    command += ["--out", str(tmp_path / "two.safetensors")]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path.cwd())}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240)
    assert done.returncode == 0, done.stderr
    together = json.loads(done.stdout)  # one document: only one process printed
    same = ("attack", "samples", "clean", "robust", "broke", "forwards", "backwards", "fragile", "silent")
    assert {key: together[key] for key in same} == {key: alone[key] for key in same}
    one, two = (witness.read(tmp_path / f"{name}.safetensors") for name in ("alone", "two"))
    assert one.index.tolist() == two.index.tolist()
    assert (one.points - two.points).abs().max() < 1e-5
