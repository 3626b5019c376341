import numpy as np
import pytest
import torch

import robustaug
from robustaug.config import validate
from robustaug.evaluate import intervals as module
from robustaug.evaluate import summary
from robustaug.evaluate.gates import FIGURES
from robustaug.evaluate.intervals import intervals
from robustaug.evaluate.records import Cell, Records
from robustaug.evaluate.runner import EvalData, run_suite
from robustaug.evaluate.statistics import anytime, wilson
from robustaug.evaluate.suite import Suite
from robustaug.models.classifier import wrap

ALL = {
    "scenarios": {
        "shift": {"operators": ["image.gaussian_noise", "image.brightness"], "severities": [1, 5], "seeds": [0, 1]},
        "uneven": {"operators": ["image.gaussian_noise", "image.contrast"], "severities": [3]},
        "pgd": {"attack": {"attack.pgd": {"steps": 3}}, "eps": [0.02, 0.1], "limit": 60, "seeds": [0, 1]},
        "turned": {"attack": {"attack.worst_case": {"operator": "image.rotate", "tries": 4}}, "limit": 40},
        "stays": {"operators": ["image.rotate"], "severities": [1, 5], "seeds": [0, 1], "expects": "same"},
        "elsewhere": {"data": {"data.digits": {"split": "train"}}, "limit": 120},
        "near": {"attack": {"attack.deepfool": {"steps": 5}}, "eps": [0.1]},
        "noise": {"certify": {"sigma": 0.25, "n0": 10, "n": 50}, "radii": [0.1, 0.2], "limit": 40},
        "texture": {"ood": {"data.synthetic": {"size": 8, "channels": 1, "n": 50}}},
        "photos": {"ood": {"data.synthetic": {"size": 8, "channels": 1, "n": 40, "seed": 1}}},
        "turning": {"sequence": {"operator": "image.rotate", "frames": 5}, "limit": 60, "seeds": [0, 1]},
        "corner": {"cue": {"operator": {"image.erasing": {"area": 0.2, "fill": 1.0}}, "towards": 8}},
    },
    "domains": "ink",
    "scores": ["ood.msp", "ood.energy"],
    "masking_checks": False,
}


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A linear reader of digits, measured in every way there is."""
    layer = torch.nn.Linear(64, 10)
    train = robustaug.create("data.digits", split="train")
    x, y = torch.stack([train[i].image for i in range(300)]).flatten(1) / 255, [train[i].label for i in range(300)]
    layer.weight.data = torch.stack([x[np.array(y) == k].mean(0) for k in range(10)])
    layer.bias.data = -layer.weight.data.square().sum(1) / 2
    model = wrap(torch.nn.Sequential(torch.nn.Flatten(), layer), num_classes=10).eval()
    digits = {split: robustaug.create("data.digits", split=split) for split in ("val", "test")}
    records = Records(tmp_path_factory.mktemp("run"), create=True)
    data = EvalData(digits["test"].subset(range(150)), digits["val"])
    run_suite(records, {"m": model}, data, validate(ALL, Suite, "suite"), torch.device("cpu"))
    return records


def test_every_figure_lies_in_its_interval_and_few_have_none(measured):
    figures = summary.figures(measured, "m")
    found = intervals(measured, "m", figures, 0.95)
    # of 40 samples no domain is large
    assert {*figures} - {*found} == {"temperature", "turned_worst_domain_accuracy"}
    assert {*FIGURES} <= {*figures}
    for name, interval in found.items():
        # sums of groups are kept as float32
        assert interval.estimate == pytest.approx(figures[name], abs=1e-7 if "classwise" in name else 1e-9), name
        assert interval.low <= interval.estimate <= interval.high, name
        assert interval.low < interval.high, name


def test_gates_can_name_every_figure_and_every_figure_that_they_can_name_is_measured(measured):
    figures = {*summary.figures(measured, "m")}
    named = summary.figure_names(validate(ALL, Suite, "suite"), against=False)
    assert figures <= named | FIGURES
    assert named <= figures


def test_a_higher_confidence_is_a_wider_interval(measured):
    names = [name for name in summary.figures(measured, "m") if not name.startswith(("gaussian_noise_", "brightness_"))]
    narrow, wide = (intervals(measured, "m", names, level) for level in (0.8, 0.95))
    for name, interval in narrow.items():
        assert wide[name].low <= interval.low, name
        assert interval.high <= wide[name].high, name


def test_a_share_of_samples_has_the_interval_of_wilson(measured):
    figures = summary.figures(measured, "m")
    found = intervals(measured, "m", ["clean_accuracy"], 0.99)["clean_accuracy"]
    assert found == pytest.approx(wilson(round(figures["clean_accuracy"] * 150), 150, 0.99))


class Kept:
    """Records of model "m" that are kept in memory."""

    def __init__(self):
        self.kept = {}

    def store(self, scenario, kind, severity, correct, **metrics):
        cell = Cell(
            "m", scenario, kind, float(severity), 0, "f", len(correct), 0.0, {"accuracy": correct.mean()} | metrics
        )
        self.kept[cell.id] = cell, {"index": np.arange(len(correct)), "correct": correct}

    def cells(self, **where):
        return [cell for cell, _ in self.kept.values()]

    def samples(self, cell, columns):
        return self.kept[cell.id][1]


def test_an_attack_that_stops_itself_has_an_interval_that_allows_for_it():
    records, correct = Kept(), np.arange(50) < 20
    records.store("aa", "attack", 0.1, correct, asked=400.0)
    assert intervals(records, "m", ["aa@0.1"], 0.95)["aa@0.1"] == anytime(20, 50, 0.95)


def test_the_least_of_several_attacks_holds_for_all_at_once():
    records = Kept()
    for scenario, right in (("one", 60), ("two", 50), ("three", 55)):
        records.store(scenario, "attack", 0.1, np.arange(100) < right)
        records.store(scenario, "attack", 0.05, np.arange(100) < 99)
    found = intervals(records, "m", ["robust_accuracy"], 0.97)["robust_accuracy"]
    assert found == pytest.approx(wilson(50, 100, 0.99))


def test_means_over_severities_of_the_same_samples_cover_the_truth():
    """Samples are easy or hard under all four corruptions alike: 120 of them count as far fewer than 480 draws. Of 300
    intervals at 90 %, the truth is in at least 85 % and, were severities taken as independent, in 63 %."""
    draw, hits, naive = np.random.default_rng(0), 0, 0
    truth = 0.7 * 0.95 + 0.3 * 0.2
    for _ in range(300):
        records = Kept()
        easy = draw.random(120) < 0.7
        cells = [draw.random(120) < np.where(easy, 0.95, 0.2) for _ in range(4)]
        for severity, correct in enumerate(cells, 1):
            records.store("fog", "operator", severity, correct)
        low, high = intervals(records, "m", ["corruption_accuracy"], 0.9)["corruption_accuracy"][1:]
        hits += low <= truth <= high
        low, high = wilson(int(np.sum(cells)), 480, 0.9)[1:]
        naive += low <= truth <= high
    assert hits >= 255
    assert naive <= 220


def test_the_threshold_of_fpr95_is_in_doubt_too():
    """Of 400 intervals at 90 % the truth, 0.2594, is in at least 360."""
    draw, hits = np.random.default_rng(0), 0
    truth = 0.2594  # the share of N(-2.29, 1) above the 5 % quantile of N(0, 1), -1.6449
    for _ in range(400):
        found = module._fpr95(draw.normal(size=200), draw.normal(-2.29, size=200), 0.9)
        hits += found.low <= truth <= found.high
    assert hits >= 360


def test_a_median_lies_between_order_statistics():
    draw = np.random.default_rng(0)
    hits = [(found := module._median(draw.normal(size=41), 0.95)).low <= 0.0 and found.high >= 0 for _ in range(1000)]
    assert np.mean(hits) >= 0.94
    assert module._median(np.array([0.1, np.inf, np.inf]), 0.95).high == np.inf
    # five below the median by chance alone: 1 in 32, more often than an end may be missed
    assert module._median(np.arange(1.0, 6), 0.95) == (3, 0, np.inf)
    assert module._median(np.arange(1.0, 7), 0.95) == (3.5, 1, 6)


def test_few_known_samples_do_not_bound_the_threshold_of_fpr95_from_below():
    known, foreign = np.arange(20.0), np.full(50, -5.0)
    assert module._fpr95(known, foreign, 0.95).estimate == 0
    assert module._fpr95(known, foreign, 0.95).high == 1
    assert module._fpr95(np.arange(200.0), foreign, 0.95).high < 0.15
