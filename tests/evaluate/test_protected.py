import numpy as np
import pytest
import torch

from robustaug.config import ConfigError, validate
from robustaug.data.images import InMemory
from robustaug.data.source import Source
from robustaug.evaluate import protected, summary
from robustaug.evaluate.gaps import gap_intervals
from robustaug.evaluate.gates import check_figures, check_gates
from robustaug.evaluate.intervals import intervals
from robustaug.evaluate.kinds import check_suite
from robustaug.evaluate.records import Records
from robustaug.evaluate.runner import EvalData, run_suite
from robustaug.evaluate.suite import Suite
from robustaug.models.classifier import wrap
from robustaug.trust.fairness import COMPARED, confusion, fairness

CPU = torch.device("cpu")


class Dark(torch.nn.Module):
    """Says the second class of dark pictures, and nothing a number of the darkest."""

    def forward(self, x):
        mean = x.mean(dim=(1, 2, 3))
        dark = torch.where(mean < 0.02, torch.nan, 0.5 - mean)
        return torch.stack([torch.zeros_like(mean), dark, torch.full_like(mean, -9)], dim=1)


def source(classes=2, n=300, **more):
    draw = np.random.default_rng(0)
    levels = draw.integers(10, 256, n)
    levels[:3] = 0
    pixels = torch.from_numpy(levels.astype(np.uint8))[:, None, None, None].expand(n, 1, 8, 8)
    labels = torch.from_numpy((levels + draw.normal(0, 60, n) < 128).astype(np.int64))
    sex = np.where(draw.random(n) < 0.4 + 0.2 * (levels < 128), "f", "m")
    sex[-5:] = "x"
    names = ["no", "yes", "perhaps"][:classes]
    columns = {"sex": sex, "one": np.full(n, "same")} | more
    return Source("made", InMemory(pixels, "made"), labels, names, fingerprint="f", cohorts=columns)


def suite(**more):
    return validate({"scenarios": {}, "protected": ["sex"]} | more, Suite, "suite")


def run(folder, made, test=None):
    test = test or source()
    records = Records(folder, create=True)
    model = wrap(torch.nn.Sequential(Dark(), torch.nn.Identity()), num_classes=3).eval()
    run_suite(records, {"m": model}, EvalData(test), made, CPU)
    return records


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return run(tmp_path_factory.mktemp("run"), suite(protected=["sex", "one"], positive="yes"), source(3))


def test_figures_are_those_of_predictions_counted_by_hand(records):
    test, clean = source(3), records.samples(records.cells(kind="clean")[0])
    kept = test.cohorts["sex"] != "x"
    selected = (clean["prediction"] == 1) & (np.arange(300) >= 3)  # NaN selects nobody
    table = confusion(test.cohorts["sex"][kept], test.labels.numpy()[kept] == 1, selected[kept])
    figures = summary.figures(records, "m")
    for name, value in fairness(table.counts).items():
        assert figures[f"sex_{name}"] == value
    found = intervals(records, "m", protected.figure_names(suite()), 0.9)
    assert found == {f"sex_{name}": one for name, one in gap_intervals(table.counts, 0.9).items()}


def test_small_groups_are_left_out_and_counted_and_one_group_has_no_gap(records):
    sex, one = protected.compared(records, "m")
    assert (sex.table.groups, sex.suppressed, sex.reasons) == (["f", "m"], 1, {})
    assert one.table.groups == ["same"]
    assert {*one.reasons} == {*COMPARED}
    assert one.reasons["disparate_impact"] == "fewer than two groups to compare: same"
    assert np.isnan(summary.figures(records, "m")["one_disparate_impact"])


def test_gates_read_the_figures_and_fail_where_there_is_none(records):
    limits = {
        "max_sex_demographic_parity_difference": 1.0,
        "min_sex_disparate_impact": 0.999,
        "min_one_disparate_impact": 0,
    }
    check_figures(limits, summary.figure_names(suite(protected=["sex", "one"])))
    figures = summary.figures(records, "m")
    known = intervals(records, "m", figures, 0.95)
    results = check_gates(limits, figures, known)
    assert [result.verdict for result in results] == ["pass", "fail", "fail"]
    assert "NaN" in results[2].message
    with pytest.raises(ValueError, match=r"sex_disparate_impakt.*did you mean 'sex_disparate_impact'"):
        check_figures({"min_sex_disparate_impakt": 0.8}, summary.figure_names(suite()))


def test_without_protected_columns_nothing_is_compared(tmp_path):
    records = run(tmp_path, suite(protected=[]), source(3))
    assert protected.compared(records, "m") == []
    assert not any(name.endswith(tuple(COMPARED)) for name in summary.figures(records, "m"))


def test_columns_may_change_without_measuring_anew(tmp_path):
    [before] = run(tmp_path, suite(positive="yes"), source(3)).cells()
    again = run(tmp_path, suite(positive="no", protected=["sex", "one"]), source(3))
    assert [(cell.fingerprint, cell.seconds) for cell in again.cells()] == [(before.fingerprint, before.seconds)]
    assert [(one.column, one.positive) for one in protected.compared(again, "m")] == [("sex", 0), ("one", 0)]


def test_the_last_of_two_classes_counts_as_a_selection():
    assert protected.check_protected(suite(), source(2)) == 1
    assert protected.check_protected(suite(positive="no"), source(2)) == 0


@pytest.mark.parametrize(
    ("more", "classes", "message"),
    [
        ({"protected": ["sexx"]}, 2, "protected names 'sexx'; did you mean 'sex'"),
        ({"positive": "yess"}, 3, "positive names no class of made: 'yess'; did you mean 'yes'"),
        ({}, 3, "protected needs positive, the class that counts as a selection: made has 3 classes"),
        ({"protected": ["id"]}, 2, "'id' has 300 groups, 50 can be compared"),
    ],
)
def test_what_does_not_fit_the_data_is_refused_before_measuring(more, classes, message):
    with pytest.raises(ValueError, match=message):
        check_suite(suite(**more), source(classes, id=np.arange(300)))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"protected": ["class"]}, "class is what is predicted"),
        ({"protected": [], "positive": "x"}, "goes with protected"),
    ],
)
def test_keys_that_make_no_sense_are_refused(more, message):
    with pytest.raises(ConfigError, match=message):
        suite(**more)
