import numpy as np
import pytest
import torch

import robustaug
from robustaug.config import ConfigError, validate
from robustaug.evaluate import spectrum, summary
from robustaug.evaluate.asked import asked_of
from robustaug.evaluate.gates import check_figures
from robustaug.evaluate.intervals import intervals
from robustaug.evaluate.records import Records
from robustaug.evaluate.runner import EvalData, run_suite
from robustaug.evaluate.suite import Suite
from robustaug.models.classifier import wrap
from robustaug.trust import ood

CPU = torch.device("cpu")
SCENARIOS = {
    "shift": {"operators": ["image.gaussian_noise"], "severities": [2, 4], "limit": 50, "role": "shifted"},
    "elsewhere": {
        "data": {"data.subset": {"of": {"data.digits": {"split": "val"}}, "per_class": 3}},
        "role": "shifted",
    },
    "other": {"operators": ["image.contrast"], "severities": [3]},
    "stripes": {"ood": {"data.synthetic": {"n": 40}}, "role": "near"},
    "blobs": {"ood": {"data.synthetic": {"n": 60, "seed": 1}}, "role": "near"},
    "photos": {"ood": {"data.photos": {"n": 30}}, "role": "far"},
    "unsaid": {"ood": {"data.synthetic": {"n": 20, "seed": 2}}},
}


def suite(scenarios=SCENARIOS, **more):
    return validate({"scenarios": scenarios, "scores": ["ood.msp", "ood.energy"], **more}, Suite, "suite")


def reader():
    layer = torch.nn.Linear(64, 10)
    layer.weight.data = torch.randn(10, 64, generator=torch.Generator().manual_seed(0)) / 4
    layer.bias.data.zero_()
    return wrap(torch.nn.Sequential(torch.nn.Flatten(), layer), num_classes=10).eval()


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    records = Records(tmp_path_factory.mktemp("run"), create=True)
    test = robustaug.create("data.digits", split="test").subset(range(80))
    run_suite(records, {"m": reader()}, EvalData(test), suite(), CPU)
    return records


def scores_of(records, score, **where):
    return [records.samples(cell)[f"score_{score}"] for cell in records.cells(**where)]


def test_figures_of_a_role_are_means_over_its_sources(measured):
    found = summary.figures(measured, "m")
    for score in ("msp", "energy"):
        for figure in ("auroc", "fpr95"):
            mean = (found[f"stripes_{score}_{figure}"] + found[f"blobs_{score}_{figure}"]) / 2
            assert found[f"ood_near_{score}_{figure}"] == pytest.approx(mean)
            assert found[f"ood_far_{score}_{figure}"] == found[f"photos_{score}_{figure}"]
    assert found["ood_near_auroc"] == found["ood_near_energy_auroc"]  # energy stands for all
    assert {name for name in found if name.startswith(("ood_near", "ood_far"))} == spectrum.figure_names(suite())


def test_the_full_spectrum_counts_shifted_test_data_as_known(measured):
    found = summary.figures(measured, "m")
    [clean] = scores_of(measured, "msp", kind="clean")
    shifted = scores_of(measured, "msp", scenario="gaussian_noise")
    assert [len(part) for part in shifted] == [50, 50]
    elsewhere = scores_of(measured, "msp", scenario="elsewhere")
    assert [len(part) for part in elsewhere] == [30]
    known = np.concatenate([clean, *shifted, *elsewhere])
    each = [ood.auroc(known, *scores_of(measured, "msp", scenario=name)) for name in ("stripes", "blobs")]
    assert found["ood_near_msp_full_auroc"] == pytest.approx(np.mean(each))
    [other] = measured.cells(scenario="contrast")
    assert "score_msp" not in measured.samples(other)  # no role: not judged by scores


def test_every_figure_has_an_interval_that_gates_can_be_held_by(measured):
    names = spectrum.figure_names(suite())
    found, figures = intervals(measured, "m", names, 0.95), summary.figures(measured, "m")
    assert {*found} == names
    for name, interval in found.items():
        assert interval.estimate == pytest.approx(figures[name]), name
        assert interval.low <= figures[name] <= interval.high, name
        assert interval.low < interval.high, name
    wide = intervals(measured, "m", names, 0.999)
    assert all(wide[name].low <= one.low for name, one in found.items())
    check_figures({"min_ood_near_full_auroc": 0.5, "min_ood_far_msp_auroc": 0.5}, summary.figure_names(suite()))


def test_a_role_only_puts_cells_together_unless_it_asks_for_scores(measured, tmp_path):
    """Near may become far without a new measurement; shifted data need scores."""
    test = robustaug.create("data.digits", split="test").subset(range(80))
    changed = {**SCENARIOS, "unsaid": {**SCENARIOS["unsaid"], "role": "far"}}
    changed["other"] = {**SCENARIOS["other"], "role": "shifted"}
    for name in ("records.sqlite", "cohorts.parquet"):
        (tmp_path / name).write_bytes((measured.folder / name).read_bytes())
    for folder in ("samples", "examples", "sums"):
        (tmp_path / folder).mkdir()
        for file in (measured.folder / folder).iterdir():
            (tmp_path / folder / file.name).write_bytes(file.read_bytes())
    records = Records(tmp_path)
    run_suite(records, {"m": reader()}, EvalData(test), suite(changed), CPU)
    seconds = {cell.id: cell.seconds for cell in measured.cells()}
    assert [cell.scenario for cell in records.cells() if cell.seconds != seconds[cell.id]] == ["contrast"]
    found = summary.figures(records, "m")
    assert found["ood_far_msp_auroc"] == pytest.approx((found["photos_msp_auroc"] + found["unsaid_msp_auroc"]) / 2)
    assert asked_of(records).roles["contrast"] == "shifted"


@pytest.mark.parametrize(
    ("scenarios", "words"),
    [
        ({"a": {"operators": ["image.contrast"], "role": "near"}}, "role near is for ood"),
        ({"a": {"ood": "data.photos", "role": "shifted"}}, "role shifted is for operators and data"),
        ({"a": {"operators": ["image.contrast"], "role": "shifted"}}, "goes with foreign data"),
        (
            {
                "mild": {"operators": ["image.contrast"], "severities": [1], "role": "shifted"},
                "harsh": {"operators": ["image.contrast"], "severities": [5]},
                "photos": {"ood": "data.photos", "role": "far"},
            },
            "'contrast' is given with role shifted and without",
        ),
        ({"ood_near": {"ood": "data.photos"}}, "name the scenario otherwise"),
        ({"a": {"ood": "data.photos", "role": "nearest"}}, "near"),
    ],
)
def test_roles_that_mean_nothing_are_refused(scenarios, words):
    with pytest.raises(ConfigError, match=words):
        suite(scenarios)


def test_records_without_roles_have_no_such_figures(measured, tmp_path):
    records = Records(tmp_path, create=True)
    assert spectrum.Spectrum(records, "m").figures() == {}
