"""Cues that should not matter: put on samples by an operator, or told apart by a metadata column."""

import json
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import robustaug
from robustaug.config import ConfigError, validate
from robustaug.evaluate import cue_gaps, summary
from robustaug.evaluate.intervals import intervals
from robustaug.evaluate.kinds import check_suite
from robustaug.evaluate.records import Cell, Records
from robustaug.evaluate.resamples import Resamples
from robustaug.evaluate.runner import EvalData, run_suite
from robustaug.evaluate.statistics import paired_bootstrap, wilson
from robustaug.evaluate.suite import Suite
from robustaug.models.classifier import wrap

CPU = torch.device("cpu")
SQUARE = {"image.erasing": {"area": 0.06, "aspect": 1.0, "x": 0.0, "y": 0.0, "fill": 1.0}}


def suite(**cues):
    scenarios = {name: {"cue": cue} if "cue" not in cue else cue for name, cue in cues.items()}
    return validate({"scenarios": scenarios, "masking_checks": False}, Suite, "suite")


class Corner(torch.nn.Module):
    """Says 8 where the corner is white and else what the labels, hidden in the image's sum, would not tell: 1."""

    def forward(self, x):
        white = (x[:, 0, :1, :1].flatten(1).mean(1) > 0.9).float()
        logits = torch.zeros(len(x), 10)
        logits[:, 1] = 1.0
        logits[:, 8] = 2 * white
        return logits


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    records = Records(tmp_path_factory.mktemp("run"), create=True)
    asked = suite(
        corner={"operator": SQUARE, "towards": 8},
        some={"operator": SQUARE, "only": {"class": [1, 8]}},
    )
    source = robustaug.create("data.digits", split="test")
    run_suite(records, {"m": wrap(Corner(), num_classes=10).eval()}, EvalData(source), asked, CPU)
    return records, asked, source


def test_the_gap_is_what_the_same_samples_lose(measured):
    records, asked, source = measured
    share = {k: float((source.labels == k).double().mean()) for k in (1, 8)}
    found = summary.figures(records, "m")
    assert found["corner_cued_accuracy"] == pytest.approx(share[8])
    assert found["corner_gap"] == pytest.approx(share[1] - share[8])
    assert found["corner_towards"] == pytest.approx(1)  # every other digit is now read as 8
    eights = share[8] / (share[1] + share[8])
    assert found["some_gap"] == pytest.approx(1 - 2 * eights)
    assert found["cue_gap"] == pytest.approx(max(found["corner_gap"], found["some_gap"]))
    assert {name for name in found if name.startswith(("corner", "some", "cue"))} == cue_gaps.figure_names(asked)
    [cell] = records.cells(scenario="some")
    assert {*records.samples(cell)["label"].tolist()} == {1, 8}


def test_every_gap_lies_in_its_interval_and_that_of_pairs_is_the_bootstraps(measured):
    records, asked, source = measured
    found = intervals(records, "m", cue_gaps.figure_names(asked), 0.95)
    figures = summary.figures(records, "m")
    assert {*found} == cue_gaps.figure_names(asked)
    for name, (estimate, low, high) in found.items():
        assert estimate == pytest.approx(figures[name]), name
        assert low < high, name
        assert low <= estimate <= high, name
    label = source.labels.numpy()
    peer = paired_bootstrap(label == 8, label == 1)
    assert found["corner_gap"] == pytest.approx(peer, abs=0.012)
    assert found["corner_towards"].low > 0.98


def test_cells_of_cues_are_paired_between_models(measured):
    from robustaug.evaluate.compare import compare

    records, _, source = measured
    rows = {row.scenario: row for row in compare(records, "m", records, "m")}
    assert rows["corner"].difference == 0
    assert rows["corner"].accuracy_a == pytest.approx(float((source.labels == 8).double().mean()))


def cohorts_run(folder, label, cue, correct, prediction=None, confidence=1.0, towards=None, only=None):
    records, n = Records(folder, create=True), len(label)
    names = pa.array(["with" if there else "without" for there in cue])
    side = pa.array(["a" if i % 2 else "b" for i in range(n)])
    table = pa.table({"index": np.arange(n), "class": pa.array([str(k) for k in label]), "cue": names, "side": side})
    pq.write_table(table, folder / "cohorts.parquet")
    asked = {"column": "cue", "present": "with", "absent": "without", "towards": towards, "only": only or {}}
    folder.joinpath("asked.json").write_text(json.dumps({"references": [], "cues": {"square": asked}}))
    samples = {"index": np.arange(n), "label": label, "correct": correct, "confidence": np.full(n, confidence)}
    samples["prediction"] = label if prediction is None else prediction
    records.store(Cell("m", "clean", "clean", 0.0, 0, "f", n, 0.1, {"accuracy": correct.mean()}), samples)
    return records


def counted(*cells):
    """Label, cue and correct of cells (class, cue, right, n)."""
    label, cue, right = [], [], []
    for k, there, hits, n in cells:
        label += [k] * n
        cue += [there] * n
        right += [i < hits for i in range(n)]
    return np.array(label), np.array(cue, dtype=bool), np.array(right, dtype=bool)


def test_cohorts_are_compared_class_by_class(tmp_path):
    """Each class loses 0.2 to the cue; the plain difference between cohorts is another, as their classes differ."""
    label, cue, right = counted((0, True, 14, 20), (0, False, 72, 80), (1, True, 24, 80), (1, False, 10, 20))
    records = cohorts_run(tmp_path, label, cue, right)
    found = summary.figures(records, "m")
    assert found["square_gap"] == pytest.approx(0.2)
    assert found["square_cued_accuracy"] == pytest.approx((0.7 + 0.3) / 2)
    assert right[~cue].mean() - right[cue].mean() == pytest.approx(0.44)
    interval = intervals(records, "m", ["square_gap"], 0.95)["square_gap"]
    ends = [(wilson(72, 80), wilson(14, 20)), (wilson(10, 20), wilson(24, 80))]
    below = sum(((0.5 * (a.estimate - a.low)) ** 2 + (0.5 * (b.high - b.estimate)) ** 2) for a, b in ends)
    above = sum(((0.5 * (a.high - a.estimate)) ** 2 + (0.5 * (b.estimate - b.low)) ** 2) for a, b in ends)
    assert interval == pytest.approx((0.2, 0.2 - math.sqrt(below), 0.2 + math.sqrt(above)))


def test_predictions_are_drawn_to_the_class_of_the_cue_among_the_others(tmp_path):
    label, cue, right = counted((0, True, 0, 40), (0, False, 40, 40), (1, True, 30, 30), (1, False, 30, 30))
    prediction = np.where(cue, 1, label)
    records = cohorts_run(tmp_path, label, cue, right, prediction, towards=1)
    assert summary.figures(records, "m")["square_towards"] == pytest.approx(1)
    low = intervals(records, "m", ["square_towards"], 0.95)["square_towards"].low
    assert 0.8 < low < 1


def test_classes_of_one_cohort_alone_do_not_count_and_none_leaves_no_figure(tmp_path):
    label, cue, right = counted((0, True, 10, 20), (0, False, 20, 20), (1, True, 0, 30))
    records = cohorts_run(tmp_path / "a", label, cue, right)
    assert summary.figures(records, "m")["square_gap"] == pytest.approx(0.5)
    label, cue, right = counted((0, False, 20, 20), (1, True, 0, 30))
    records = cohorts_run(tmp_path / "b", label, cue, right)
    assert np.isnan(summary.figures(records, "m")["square_gap"])
    assert np.isnan(summary.figures(records, "m")["cue_gap"])
    assert cue_gaps.intervals(records, "m", Resamples(0.95)) == {}


def test_only_some_samples_may_be_looked_at_and_answers_may_be_no_numbers(tmp_path):
    label, cue, right = counted((0, True, 0, 20), (0, False, 20, 20))
    right[1::2] = True
    records = cohorts_run(tmp_path / "a", label, cue, right, only={"side": ["a"]})
    assert summary.figures(records, "m")["square_gap"] == 0
    records = cohorts_run(tmp_path / "b", label, cue, right, np.full(40, 1), np.nan, towards=1)
    assert summary.figures(records, "m")["square_towards"] == 0


@pytest.mark.parametrize(
    ("cue", "message"),
    [
        ({}, "give either operator"),
        ({"operator": SQUARE, "column": "cue"}, "give either operator"),
        ({"column": "cue", "present": "with"}, "give either operator"),
        ({"column": "cue", "present": "with", "absent": "with"}, "must be two values"),
        ({"operator": "image.erasin"}, "did you mean 'image.erasing'"),
        ({"cue": {"column": "cue", "present": "a", "absent": "b"}, "limit": 5}, "limit and seeds are for what is"),
    ],
)
def test_a_cue_that_says_nothing_names_its_mistake(cue, message):
    with pytest.raises(ConfigError, match=message):
        suite(s=cue)


@pytest.mark.parametrize(
    ("cue", "message"),
    [
        ({"operator": SQUARE, "towards": "eight"}, "scenario 's': cue: no class 'eight'"),
        ({"operator": SQUARE, "only": {"clas": ["8"]}}, "no metadata column 'clas'; did you mean 'class'"),
        ({"operator": SQUARE, "only": {"class": ["11"]}}, "no sample has class = '11'"),
        ({"column": "class", "present": "1", "absent": "12"}, "no sample has class = '12'"),
        ({"operator": "signal.scaling"}, "data of kind 'signal'"),
    ],
)
def test_a_cue_that_does_not_fit_the_data_is_refused_before_anything_is_measured(cue, message):
    with pytest.raises(ValueError, match=message):
        check_suite(suite(s=cue), robustaug.create("data.digits", split="test"))


def test_a_made_up_cue_is_found_in_the_data(tmp_path):
    """The source that puts a cue on some samples, and the column by which it says so."""
    spurious = {"data.spurious": {"of": {"data.digits": {"split": "test"}}, "agreement": 0.5}}
    from robustaug.data.opening import open_source

    records, source = Records(tmp_path, create=True), open_source(spurious)
    asked = suite(square={"column": "cue", "present": "with", "absent": "without", "towards": 8})
    run_suite(records, {"m": wrap(Corner(), num_classes=10).eval()}, EvalData(source), asked, CPU)
    found = intervals(records, "m", ["square_towards", "square_gap"], 0.95)
    assert found["square_towards"].low > 0.9
    assert found["square_towards"].estimate == pytest.approx(1)
    assert not records.cells(kind="cue")
