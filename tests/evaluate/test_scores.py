import math

import numpy as np
import pytest
import torch

import robustaug
from robustaug.config import validate
from robustaug.evaluate import summary
from robustaug.evaluate.records import Cell, Records
from robustaug.evaluate.runner import EvalData, run_suite
from robustaug.evaluate.scores import score_limits
from robustaug.evaluate.suite import Suite
from robustaug.models.classifier import wrap
from robustaug.trust import ood

CPU = torch.device("cpu")
EVERY = [*robustaug.list(kind="score")]
FOREIGN = {"texture": {"ood": {"data.synthetic": {"n": 30}}}}


def suite(scores):
    return validate({"scenarios": FOREIGN, "scores": scores, "batch_size": 64}, Suite, "suite")


@pytest.fixture(scope="module")
def data():
    digits = {split: robustaug.create("data.digits", split=split) for split in ("train", "test")}
    return EvalData(digits["test"].subset(range(80)), None, digits["train"].subset(range(200)))


def network(last):
    torch.manual_seed(0)
    return wrap(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 20), torch.nn.ReLU(), last).eval())


@pytest.fixture(scope="module")
def measured(data, tmp_path_factory):
    records = Records(tmp_path_factory.mktemp("run"), create=True)
    scores = [{"ood.knn": {"k": 7, "bank": 150}}, *(name for name in EVERY if name != "ood.knn")]
    with torch.random.fork_rng():
        limits = run_suite(records, {"m": network(torch.nn.Linear(20, 10))}, data, suite(scores), CPU)
    return records, limits, scores


def test_every_score_is_measured_where_it_can_be(measured):
    records, limits, scores = measured
    [cell] = records.cells(kind="ood")
    names = {name.removeprefix("ood.") for name in EVERY} - {"disagreement"}
    assert set(cell.metrics) == {f"{name}_{figure}" for name in names for figure in ood.FIGURES}
    assert set(summary.figures(records, "m")) >= {f"texture_{key}" for key in cell.metrics}
    assert summary.figure_names(suite(scores)) >= {f"texture_{key}" for key in cell.metrics}
    [missing] = [sentence for sentence in limits if "not measured" in sentence]
    assert missing.startswith("ood.disagreement was not measured: model 'Sequential' is no ensemble")


def test_the_figures_are_those_of_the_samples(measured, data):
    records, _, _ = measured
    [cell], [clean] = records.cells(kind="ood"), records.cells(kind="clean")
    known, foreign = records.samples(clean), records.samples(cell)
    with torch.random.fork_rng():
        model = network(torch.nn.Linear(20, 10))
    score = robustaug.create("ood.knn", k=7, bank=150)
    ood.fit([score], ood.observed(model, data.train, 64, CPU, score.learns))
    by_hand = [score.score(part) for part in ood.observed(model, data.test, 64, CPU, score.needs)]
    assert known["score_knn"] == pytest.approx(np.concatenate(by_hand), abs=1e-6)
    for name in ("knn", "vim", "odin"):
        expected = ood.detection(known[f"score_{name}"], foreign[f"score_{name}"], known["correct"])
        assert {figure: cell.metrics[f"{name}_{figure}"] for figure in ood.FIGURES} == expected


class Cosine(torch.nn.Linear):
    def forward(self, x):
        return 9 * torch.nn.functional.linear(torch.nn.functional.normalize(x), self.weight)


@pytest.mark.parametrize(
    ("last", "train", "missing", "reason"),
    [
        (torch.nn.Linear(20, 10), False, {"knn", "mahalanobis", "vim", "react", "she"}, "no training data was given"),
        (
            Cosine(20, 10),
            True,
            {"vim", "react", "ash", "grad_norm"},
            "not what its last nn.Linear makes of its features",
        ),
        (torch.nn.Linear(20, 10).requires_grad_(False), True, set(), ""),
    ],
)
def test_what_cannot_be_measured_is_said_in_words(last, train, missing, reason, data, tmp_path):
    names = ["msp", "odin", "knn", "mahalanobis", "vim", "react", "ash", "she", "grad_norm"]
    names = names if reason else [*names, "energy"]
    asked = suite([f"ood.{name}" if name != "knn" else {"ood.knn": {"k": 5}} for name in names])
    found = EvalData(data.test, None, data.train if train else None)
    with torch.random.fork_rng():
        limits = run_suite(Records(tmp_path, create=True), {"m": network(last)}, found, asked, CPU)
    said = [sentence for sentence in limits if "was not measured" in sentence]
    assert {sentence.split()[0].removeprefix("ood.") for sentence in said} == missing
    assert all(reason in sentence for sentence in said)


def test_a_score_that_the_training_data_cannot_fit_is_left_out_with_its_reason(data, tmp_path):
    last = torch.nn.Linear(20, 10)
    last.weight.data.zero_()
    last.bias.data = torch.eye(10)[0]  # says class 0 of everything, of which there is no training sample
    without = data.train.subset([at for at, label in enumerate(data.train.labels.tolist()) if label != 0])
    asked = suite(["ood.msp", "ood.she", {"ood.knn": {"k": 500}}, "ood.react"])
    records, found = Records(tmp_path, create=True), EvalData(data.test, None, without)
    said = [
        [sentence for sentence in run_suite(records, {"m": network(last)}, found, asked, CPU) if "fit it" in sentence]
        for _ in range(2)  # the second time nothing is measured or fitted, and it is said again
    ]
    assert said[0] == said[1]
    assert said[0] == [
        "m: ood.she was not measured: the training data cannot fit it (of no training sample the model is right, so "
        "there is no pattern to store).",
        f"m: ood.knn was not measured: the training data cannot fit it (k must be <= the {len(without)} training "
        "features, got 500; set a smaller k).",
    ]
    [cell] = records.cells(kind="ood")
    assert set(cell.metrics) == {f"{name}_{figure}" for name in ("msp", "react") for figure in ood.FIGURES}
    assert records.notes("another") == {}


def cell(source="svhn", **metrics):
    return Cell("m", source, "ood", 0.0, 0, "f", 9, 0.1, {f"{key}_auroc": value for key, value in metrics.items()})


def test_a_score_below_the_plain_one_is_warned_of_with_figures():
    assert score_limits("m", [cell(msp=0.8, knn=0.9, energy=0.8)]) == []
    assert score_limits("m", [cell(msp=0.8001, knn=0.7999)]) == []  # the same in the digits shown
    assert score_limits("m", [cell(knn=0.3)]) == []  # nothing to compare with
    assert score_limits("m", [cell(msp=0.8, knn=0.9, ash=0.7531, odin=0.79), cell("photos", msp=0.8, ash=0.7)]) == [
        "m: ood.ash tells foreign data apart less well than plain ood.msp, by AUROC, on svhn (0.753 against 0.800), "
        "photos (0.700 against 0.800).",
        "m: ood.odin tells foreign data apart less well than plain ood.msp, by AUROC, on svhn (0.790 against 0.800).",
    ]
    assert score_limits("m", [cell(msp=0.8, ash=math.nan)]) == ["m: ood.ash gave NaN for some samples of svhn."]


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (["ood.knn", {"ood.knn": {"k": 3}}], "'ood.knn' is given twice"),
        ([{"ood.knn": {"neighbours": 3}}], "neighbours"),
        ([{"ood.knn": {"k": 0}}], "k must be a whole number >= 1"),
        (["image.brightness"], "is of kind 'operator', not 'score'"),
        (["ood.mps"], "did you mean 'ood.msp'"),
    ],
)
def test_scores_that_do_not_fit_are_refused_before_anything_runs(scores, message):
    with pytest.raises(ValueError, match=message):
        suite(scores)
