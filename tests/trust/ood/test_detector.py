import csv
import json
import math

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

import robustaug
from robustaug.models.classifier import wrap
from robustaug.trust.ood import Detector

MSP = robustaug.create("ood.max_logit")


@pytest.fixture
def plain():
    """A model whose greatest logit is the first of two inputs, where it is above 0."""
    return wrap(nn.Identity(), num_classes=2).eval()


def rows(*first):
    return torch.tensor([[value, 0.0] for value in first])


def test_the_threshold_by_hand(plain):
    known = rows(*torch.arange(1.0, 20.0).flip(0))  # 19 scores, 1 to 19
    detector = Detector.calibrated(plain, MSP, known, 0.1, classes=["cat", "dog"], batch_size=4)
    assert detector.threshold == 2  # the floor(0.1 * 20)-th lowest
    found = detector.flag(rows(5, 1.5, 2, math.nan, 0.5), index=[10, 11, 12, 13, 14])
    assert found.flagged.tolist() == [False, True, False, True, True]
    assert found.predicted_class[0] == "cat"
    review = found.review()
    assert review.index.tolist() == [13, 14, 11]  # what could not be judged first, then the most foreign
    assert len(review) == 3
    assert detector.flag(known).flagged.mean() <= 0.1


def test_further_known_data_is_flagged_at_the_stated_rate(plain):
    draw = np.random.default_rng(0)
    shares = []
    for _ in range(200):
        known, further = draw.random((2, 59)) + 1
        detector = Detector.calibrated(plain, MSP, rows(*known), 0.1)
        shares.append(detector.flag(rows(*further)).flagged.mean())
    assert np.mean(shares) == pytest.approx(0.1, abs=0.02)  # six of 60


def test_ties_are_not_flagged_beyond_the_rate(plain):
    detector = Detector.calibrated(plain, MSP, rows(*[1.0] * 30), 0.3)
    assert not detector.flag(rows(1.0, 1.0)).flagged.any()
    assert detector.flag(rows(0.9)).flagged.all()


@pytest.mark.parametrize(
    ("values", "rate", "message"),
    [
        ([1.0] * 18, 0.05, "a review_rate of 0.05 needs at least 19 known samples, got 18"),
        ([1.0], 0.0, r"review_rate must be in \(0, 1\)"),
        ([1.0], 5, "write 0.05 for 5 %"),
        ([math.nan] * 3 + [1.0] * 17, 0.1, "3 of 20 known samples have no finite score, more than the 2"),
    ],
)
def test_a_rate_that_cannot_be_held_is_refused(plain, values, rate, message):
    with pytest.raises(ValueError, match=message):
        Detector.calibrated(plain, MSP, rows(*values), rate)


def test_a_model_in_train_mode_and_a_wrong_number_of_indices_are_refused(plain):
    detector = Detector.calibrated(plain, MSP, rows(*[1.0] * 30), 0.1)
    with pytest.raises(ValueError, match="index must name each sample, got 1 for 2"):
        detector.flag(rows(1, 2), index=[7])
    with pytest.raises(ValueError, match=r"eval\(\)"):
        Detector.calibrated(wrap(nn.Dropout(), num_classes=2).train(), MSP, rows(1, 2), 0.5)


def test_the_table_is_read_back_and_runs_no_formula(plain, tmp_path):
    names = ['=HYPERLINK("http://x"),"a\nb', "ok"]
    detector = Detector.calibrated(plain, MSP, rows(*[1.0] * 30), 0.1, classes=names)
    found = detector.flag(torch.cat([rows(2, 0.5), torch.tensor([[0.0, 0.25], [-1.0, math.nan]])]))
    found.write_csv(tmp_path / "review.csv")
    with (tmp_path / "review.csv").open(newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert [row["flagged"] for row in table] == ["no", "yes", "yes", "yes"]
    assert [float(row["score"]) for row in table] == pytest.approx([2, 0.5, 0.25, math.nan], nan_ok=True)
    assert {float(row["threshold"]) for row in table} == {1.0}
    assert table[0]["predicted_class"] == "'" + names[0]
    assert table[2]["predicted_class"] == "ok"
    assert [row["index"] for row in table] == ["0", "1", "2", "3"]


def test_no_sample_is_a_table_without_rows(plain, tmp_path):
    found = Detector.calibrated(plain, MSP, rows(*[1.0] * 30), 0.1).flag(torch.zeros(0, 2))
    assert len(found.review()) == 0
    found.write_csv(tmp_path / "none.csv")
    assert (tmp_path / "none.csv").read_text() == "index,score,threshold,predicted_class,flagged\n"


def test_a_detector_belongs_to_its_model(model, fitted, known, tmp_path):
    path = tmp_path / "detector.safetensors"
    Detector.calibrated(model, fitted("ood.knn", k=2), known(40)[0], 0.1).save(path)
    other = wrap(nn.Linear(16, 4), num_classes=4).eval()
    with pytest.raises(ValueError, match="made for a model of other weights than 'Linear'"):
        Detector.load(path, other)
    assert Detector.load(path, model).score.k == 2


def test_a_file_that_is_no_detector_is_refused(model, fitted, known, tmp_path):
    path = tmp_path / "detector.safetensors"
    Detector.calibrated(model, fitted("ood.mahalanobis"), known(40)[0], 0.1).save(path)
    with safe_open(path, framework="pt") as file:
        [(key, said)] = file.metadata().items()
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    described = json.loads(said)

    def written(state, **changes):
        save_file(state, path, metadata={key: json.dumps(described | changes)})

    for write, message in [
        (lambda: path.write_bytes(b"not safetensors"), "holds no detector"),
        (lambda: save_file(state, path), "holds no detector"),
        (lambda: written(state, score="image.brightness"), "not 'score'"),
        (lambda: written(state, threshold="low"), "holds no detector"),
        (lambda: written({"means": state["means"]}), "keeps .*'whiten'.*, the file holds"),
    ]:
        write()
        with pytest.raises(ValueError, match=message):
            Detector.load(path, model)
    with pytest.raises(FileNotFoundError):
        Detector.load(tmp_path / "none", model)
