import numpy as np
import pytest
import torch

import robustaug
from robustaug.config import validate
from robustaug.evaluate import summary
from robustaug.evaluate.calibrate import calibrate
from robustaug.evaluate.confidence import set_intervals
from robustaug.evaluate.gates import check_figures
from robustaug.evaluate.records import Records
from robustaug.evaluate.runner import EvalData, run_suite
from robustaug.evaluate.statistics import wilson
from robustaug.evaluate.suite import Suite
from robustaug.models.classifier import wrap
from robustaug.trust import calibration
from robustaug.trust.conformal import fit_sets

SUITE = {
    "scenarios": {"shift": {"operators": ["image.gaussian_noise", "image.brightness"], "severities": [1, 5]}},
    "alpha": 0.2,
    "examples": 0,
}


def linear_model():
    weight = torch.randn(10, 64, generator=torch.Generator().manual_seed(0))
    layer = torch.nn.Linear(64, 10)
    layer.weight.data, layer.bias.data = weight, torch.zeros(10)
    return wrap(torch.nn.Sequential(torch.nn.Flatten(), layer), num_classes=10, name="linear").eval()


def logits_of(model, source):
    image, label = zip(*[(source[at].image, source[at].label) for at in range(len(source))], strict=True)
    with torch.inference_mode():
        return model(torch.stack(image).float() / 255), np.array(label)


@pytest.fixture(scope="module")
def data():
    digits = {split: robustaug.create("data.digits", split=split) for split in ("val", "test")}
    return EvalData(digits["test"].subset(range(120)), digits["val"])


@pytest.fixture(scope="module")
def measured(data, tmp_path_factory):
    records = Records(tmp_path_factory.mktemp("run"), create=True)
    run_suite(records, {"m": linear_model()}, data, validate(SUITE, Suite, "suite"), torch.device("cpu"))
    return records


def test_a_cell_says_what_its_logits_say(measured, data):
    [clean] = measured.cells(kind="clean")
    logits, labels = logits_of(linear_model(), data.test)
    sets = fit_sets(*logits_of(linear_model(), data.validation), 0.2).outcome(logits, labels)
    wanted = {
        "ece": calibration.ece(logits, labels),
        "classwise_ece": calibration.classwise_ece(logits, labels),
        "nll": calibration.nll(logits, labels),
        "brier": calibration.brier(logits, labels),
        "coverage": sets.covered.mean(),
        "set_size": sets.size.mean(),
    }
    assert {key: clean.metrics[key] for key in wanted} == pytest.approx(wanted, abs=1e-6)
    assert measured.samples(clean)["set_size"].tolist() == sets.size.tolist()


def test_figures_under_shift_are_means_that_gates_can_name(measured):
    figures = summary.figures(measured, "m")
    noise = [cell for cell in measured.cells(kind="operator") if cell.scenario == "gaussian_noise"]
    for figure in ("ece", "classwise_ece", "nll", "brier", "coverage", "set_size"):
        mean = np.mean([cell.metrics[figure] for cell in noise])
        assert figures[f"gaussian_noise_{figure}"] == pytest.approx(mean)
        both = [figures[f"{shift}_{figure}"] for shift in ("gaussian_noise", "brightness")]
        assert figures[f"corruption_{figure}"] == pytest.approx(np.mean(both))
    limits = {"min_gaussian_noise_coverage": 0.7, "max_corruption_classwise_ece": 0.2, "max_set_size": 3}
    check_figures(limits, summary.figure_names(validate(SUITE, Suite, "suite")))


def test_too_few_held_out_samples_leave_no_sets_and_a_sentence(data, tmp_path):
    records = Records(tmp_path, create=True)
    few = EvalData(data.test, data.validation.subset(range(20)))
    suite = validate({"scenarios": {}, "alpha": 0.01, "examples": 0}, Suite, "suite")
    limits = run_suite(records, {"m": linear_model()}, few, suite, torch.device("cpu"))
    assert "No prediction sets were fitted: alpha = 0.01 needs at least 99 held-out samples, got 20." in limits
    assert "coverage" not in records.cells()[0].metrics


def test_sets_have_the_intervals_of_a_share_and_of_a_mean():
    found = set_intervals([True] * 18 + [False] * 2, [2] * 20)
    assert found["coverage"] == wilson(18, 20)
    assert found["set_size"] == (2, 2, 2)


def test_a_model_is_calibrated_on_held_out_samples(data, tmp_path):
    model, path = linear_model(), tmp_path / "a" / "calibration.safetensors"
    made = calibrate(model, "temperature", data.validation, path, torch.device("cpu"))
    logits, labels = logits_of(model, data.validation)
    best = calibration.fit_temperature(logits, labels)
    assert torch.allclose(logits_of(made, data.test)[0], logits_of(model, data.test)[0] / best)
    again = robustaug.models.calibrated.calibrated(model, robustaug.models.scaling.load_scaling(path))
    assert torch.equal(logits_of(again, data.test)[0], logits_of(made, data.test)[0])
    with pytest.raises(ValueError, match="is in train mode"):
        calibrate(linear_model().train(), "temperature", data.validation, path, torch.device("cpu"))
