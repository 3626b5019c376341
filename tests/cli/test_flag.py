import csv

import numpy as np
import pytest
from PIL import Image

import robustaug as package
from robustaug.trust.ood import Detector

KNOWN = "{data.digits: {split: val}}"


@pytest.fixture(scope="module")
def inbox(tmp_path_factory):
    """Twenty digits, sixteen pictures of noise and a damaged file, without labels."""
    folder = tmp_path_factory.mktemp("inbox")
    digits, noise = package.create("data.digits", split="test"), np.random.default_rng(0)
    for at in range(20):
        Image.fromarray(digits[at].image[0].numpy()).save(folder / f"digit{at:02}.png")
    (folder / "odd").mkdir()
    for at in range(16):
        Image.fromarray(noise.integers(0, 2, (8, 8), dtype=np.uint8) * 255).save(folder / "odd" / f"noise{at:02}.png")
    (folder / "cut.png").write_bytes(b"no picture")
    return folder


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return [*csv.DictReader(file)]


@pytest.fixture
def weights(finished):
    return finished / "models" / "first" / "best" / "model.safetensors"


def test_foreign_pictures_come_first_in_the_table(robustaug, weights, inbox, tmp_path):
    table, kept = tmp_path / "review.csv", tmp_path / "detector.safetensors"
    fitting = ("--known", KNOWN, "--train", "data.digits", "--score", "ood.mahalanobis", "--review-rate", "0.1")
    called = robustaug("flag", inbox, "--checkpoint", weights, *fitting, "--save", kept, "--out", table)
    assert called.code == 0, called.err
    rows = rows_of(table)
    assert [float(row["score"]) for row in rows] == sorted(float(row["score"]) for row in rows)
    assert sum("noise" in row["place"] for row in rows) >= 8  # of sixteen; a tenth of known data is flagged
    assert len(rows) < 20
    assert {row["flagged"] for row in rows} == {"yes"}
    assert f"{len(rows)} of 36 samples flagged for review" in called.out
    assert "1 could not be read" in called.out
    assert "these data differ from the known ones" in called.out

    again = robustaug("flag", inbox, "--checkpoint", weights, "--detector", kept, "--out", table, "--all", "--json")
    assert again.json["flagged"] == len(rows)
    assert again.json["samples"] == len(rows_of(table)) == 36
    assert again.json["unreadable"] == 1
    assert again.json["surprise"] < 0.01


def test_known_data_are_flagged_at_about_the_rate(robustaug, weights, tmp_path):
    fitting = ("--known", KNOWN, "--review-rate", "0.2", "--out", tmp_path / "r.csv", "--json")
    called = robustaug("flag", "{data.digits: {split: test}}", "--checkpoint", weights, *fitting)
    assert called.code == 0, called.err
    found = called.json
    assert 0.1 < found["flagged"] / found["samples"] < 0.3
    assert found["surprise"] > 0.01


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "give --known"),
        (("--known", KNOWN, "--score", "ood.knn"), "give --train, or another --score"),
        (("--known", KNOWN, "--train", "data.digits"), "ood.msp learns from no training data"),
        (("--known", KNOWN, "--score", "ood.disagreement"), "is no ensemble"),
        (("--known", KNOWN, "--review-rate", "5"), "write 0.05 for 5 %"),
        (("--detector", "d.safetensors", "--known", KNOWN), "leave --known out"),
    ],
)
def test_what_cannot_be_done_says_why(robustaug, weights, options, words, tmp_path):
    data = "{data.digits: {split: test}}"
    called = robustaug("flag", data, "--checkpoint", weights, "--out", tmp_path / "r.csv", *options)
    assert called.code == 2
    assert words in called.err
    assert not (tmp_path / "r.csv").exists()


def test_data_that_are_neither_a_path_nor_a_source_are_said_to_be_neither(robustaug, weights):
    called = robustaug("flag", "data.digit", "--checkpoint", weights, "--known", KNOWN)
    assert called.code == 2
    assert "there is no file or folder 'data.digit', and as a source: unknown name 'data.digit'; did you" in called.err


def test_new_data_of_another_shape_are_refused(robustaug, weights, tmp_path):
    other = "{data.synthetic: {n: 40, size: 16, channels: 1}}"
    called = robustaug("flag", other, "--checkpoint", weights, "--known", KNOWN, "--out", tmp_path / "r.csv")
    assert called.code == 2
    assert "has samples of shape (1, 16, 16), the detector knows (1, 8, 8)" in called.err


def test_the_surprise_of_known_data_is_uniform_enough(tmp_path):
    """A false alarm at p < 0.05 happens in at most about 5 % of cases, whatever the threshold's luck."""
    import torch

    from robustaug.models.classifier import wrap

    model, score = wrap(torch.nn.Identity(), num_classes=2).eval(), package.create("ood.max_logit")
    draw, alarms = np.random.default_rng(0), 0
    for _ in range(300):
        known, further = (torch.tensor(np.stack([draw.random(n), np.full(n, -5.0)], axis=1)) for n in (59, 200))
        detector = Detector.calibrated(model, score, known, 0.1)
        alarms += detector.surprise(detector.flag(further)) < 0.05
    assert alarms <= 27  # 0.05 of 300, and three standard deviations
