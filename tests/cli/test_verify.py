from dataclasses import replace

import pytest

from robustaug.attacks import witness

DATA = ["--data", "{data.digits: {split: test}}"]
SECOND = ["--model", "{model.small_cnn: {channels: 1, classes: 10, width: 4, size: 8, seed: 1}}"]


@pytest.fixture
def claimed(robustaug, weights, tmp_path):
    """A file of witnesses as somebody would send it."""
    path = tmp_path / "claim.safetensors"
    base = ["attack", "attack.pgd", *DATA, "--checkpoint", weights, "--eps", "0.1", "--limit", 60, "--no-checks"]
    assert robustaug(*base, "--out", path).code == 0
    return path


def test_an_honest_claim_holds(robustaug, claimed, weights):
    called = robustaug("verify", claimed, "--checkpoint", weights, *DATA)
    assert called.code == 0, called.err
    count = len(witness.read(claimed))
    assert f"{count} of {count} witnesses hold" in called.out
    assert f"claim: {count} of 60 samples broken by" in called.out
    assert "threat: Linf, eps at most 0.1, values in [0, 1]" in called.out
    assert "note" not in called.out


def test_parameters_are_replayed(robustaug, weights, tmp_path):
    path = tmp_path / "turned.safetensors"
    attack = "{attack.worst_case: {operator: {image.rotate: {angle_deg: [-60, 60]}}}}"
    called = robustaug("attack", attack, *DATA, "--checkpoint", weights, "--limit", 60, "--no-checks", "--out", path)
    assert called.code == 0, called.err
    verify = ["verify", path, "--checkpoint", weights, *DATA]
    called = robustaug(*verify)
    assert called.code == 0, called.out
    assert "no limit but the attack's own parameters" in called.out
    honest = witness.read(path)
    moved = int((honest.points != honest.clean).flatten(1).any(1).sum())
    assert moved > 3
    witness.write(path, replace(honest, params={"angle_deg": -honest.params["angle_deg"]}))
    called = robustaug(*verify)
    assert called.code == 1
    assert f"{moved}: its parameters do not make it" in called.out


def test_without_data_it_says_what_was_believed(robustaug, claimed, weights):
    called = robustaug("verify", claimed, "--checkpoint", weights)
    assert called.code == 0
    assert "No data was given" in called.out


def test_what_does_not_hold_is_counted_by_reason_and_fails(robustaug, claimed, weights):
    honest = witness.read(claimed)
    label = honest.label.clone()
    label[0] = (label[0] + 1) % 10
    witness.write(claimed, replace(honest, label=label, eps=honest.eps / 2))
    called = robustaug("verify", claimed, "--checkpoint", weights, *DATA)
    assert called.code == 1
    assert "its norm is above eps" in called.out
    assert "1: its true class is not the data's" in called.out
    content = robustaug("verify", claimed, "--checkpoint", weights, *DATA, "--json")
    assert content.code == 1
    assert content.json["faults"]["its true class is not the data's"] == 1
    assert content.json["hold"] < content.json["witnesses"] == len(honest)


def test_another_model_is_said(robustaug, claimed):
    called = robustaug("verify", claimed, *SECOND, *DATA)
    assert called.code in (0, 1)
    assert "other weights" in called.out


def test_text_of_the_file_cannot_steer_the_terminal(robustaug, claimed, weights):
    honest = witness.read(claimed)
    hostile = honest.claim._replace(attack={"[red]\x1b[2J": {}}, version="\x1b[31m")
    witness.write(claimed, replace(honest, claim=hostile))
    called = robustaug("verify", claimed, "--checkpoint", weights, *DATA)
    assert "\x1b" not in called.out
    assert "[red]" in called.out


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "no readable file of witnesses"), (None, "no witnesses at")],
    ids=["damaged", "missing"],
)
def test_bad_files_are_bad_input(robustaug, weights, tmp_path, content, message):
    path = tmp_path / "w.safetensors"
    if content is not None:
        path.write_bytes(content)
    called = robustaug("verify", path, "--checkpoint", weights)
    assert called.code == 2
    assert message in called.err


def test_bad_options_are_bad_input(robustaug, claimed, weights):
    for options, message in (
        ([], "give --checkpoint"),
        (["--checkpoint", weights, "--data", "{data.synthetic: {size: 16, n: 4}}"], "samples have shape"),
        (["--checkpoint", weights, "--data", "data.digit"], "did you mean 'data.digits'"),
    ):
        called = robustaug("verify", claimed, *options)
        assert (called.code, message in called.err) == (2, True), called.err
