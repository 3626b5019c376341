import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import binom

from robustaug.evaluate.calibration_intervals import (
    GROUPS,
    calibration_intervals,
    classwise_interval,
    ece_interval,
    gap_sums,
    intervals_of,
    reliability_intervals,
)
from robustaug.evaluate.statistics import bootstrap_ci, wilson
from robustaug.trust import calibration
from robustaug.trust.calibration import Tally


def drawn(n, seed, by, classes=3):
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=2, size=(n, classes))
    labels = (rng.random((n, 1)) > softmax(logits, axis=1).cumsum(axis=1)).sum(axis=1).clip(max=classes - 1)
    return logits * by, labels


@pytest.mark.parametrize("by", [1.0, 2.0])
def test_they_hold_the_truth_as_often_as_they_say(by):
    everyone = Tally(3, 10).add(*drawn(400_000, 10**6, by))
    found = everyone.predictions
    parts = calibration.brier_parts_of(everyone)
    # of a calibrated model the errors are known, the others are so up to what 400,000 samples leave open
    truth = {"nll": found.nll.mean(), "brier": found.brier.mean(), "brier_resolution": parts.resolution}
    truth["ece"] = 0.0 if by == 1 else calibration.ece_from_confidence(found.confidence, found.correct, 10)
    truth["classwise_ece"] = 0.0 if by == 1 else calibration.classwise_ece_of(everyone)
    truth["brier_reliability"] = 0.0 if by == 1 else parts.reliability
    truth["brier_uncertainty"] = 2 / 3  # the classes are equally frequent
    held = dict.fromkeys(truth, 0)
    for trial in range(100):
        figures = calibration_intervals(*drawn(500, trial, by), bins=10, n_resamples=400)
        for name, value in truth.items():
            held[name] += figures[name].low <= value <= figures[name].high
    assert min(held.values()) >= binom.ppf(0.001, 100, 0.95), held


def test_the_estimates_are_the_figures_and_lie_inside():
    logits, labels = drawn(300, 0, 2.0)
    found = calibration_intervals(logits, labels)
    parts = calibration.brier_parts(logits, labels)
    wanted = {
        "ece": calibration.ece(logits, labels),
        "ece_equal_mass": calibration.ece(logits, labels, binning="equal_mass"),
        "classwise_ece": calibration.classwise_ece(logits, labels),
        "nll": calibration.nll(logits, labels),
        "brier": calibration.brier(logits, labels),
        "brier_reliability": parts.reliability,
        "brier_resolution": parts.resolution,
        "brier_uncertainty": parts.uncertainty,
    }
    assert {name: one.estimate for name, one in found.items()} == pytest.approx(wanted, abs=1e-12)
    assert all(one.low <= one.estimate <= one.high for one in found.values())
    # from sums that are kept in place of logits, however many batches they came in
    tally = calibration.Tally(3, groups=GROUPS)
    for rows in (slice(0, 7), slice(7, 300)):
        tally.add(logits[rows], labels[rows])
    sums = gap_sums(tally)
    assert sums["gaps"].shape == (GROUPS, 3, 15)
    assert sums["size"].sum() == 300
    assert classwise_interval(sums) == pytest.approx(found["classwise_ece"], abs=1e-7)
    assert gap_sums(tally.add([[np.nan, 0.0, 0.0]], [0])) == {}
    p = calibration.predictions(logits, labels)
    assert ece_interval(p.confidence, p.correct) == pytest.approx(found["ece"], abs=1e-12)


def test_groups_say_what_samples_say():
    logits, labels = drawn(4000, 0, 1.0)
    sample = bootstrap_ci(calibration.predictions(logits, labels).brier, n_resamples=2000)
    group = calibration_intervals(logits, labels)["brier"]
    assert group.high - group.low == pytest.approx(sample.high - sample.low, rel=0.2)


@pytest.mark.parametrize("n", [1, 2])
def test_few_samples_have_intervals_too(n):
    found = calibration_intervals(np.tile([2.0, 0.0], (n, 1)), np.zeros(n, int))
    assert all(0 <= one.low <= one.high < np.inf for one in found.values())
    assert found["nll"].low == pytest.approx(found["nll"].high)


def test_a_diagram_has_the_interval_of_a_share_in_each_bin():
    found = reliability_intervals(calibration.reliability([0.9] * 20, [1] * 18 + [0] * 2, bins=2))
    assert found[0] is None
    assert found[1] == pytest.approx((0.9, 0.699, 0.972), abs=1e-3)


def test_what_has_no_interval_is_refused():
    logits, labels = drawn(20, 0, 1.0)
    with pytest.raises(ValueError, match="need groups to resample"):
        intervals_of(Tally(3).add(logits, labels))
    logits[0] = np.nan
    with pytest.raises(ValueError, match=r"1 of 20 rows of logits hold NaN or \+inf"):
        calibration_intervals(logits, labels)


@pytest.mark.parametrize("shift", [0.0, 0.1])
def test_the_calibration_error_is_covered_though_its_estimate_is_too_high(shift):
    """A calibrated model, and one that is too sure by 0.1 everywhere; of 200 intervals at 90 % at least 180 cover."""
    draw, hits = np.random.default_rng(0), 0
    for _ in range(200):
        confidence = draw.uniform(0.5, 1, 400)
        found = ece_interval(confidence, draw.random(400) < confidence - shift, n_resamples=400, confidence=0.9)
        hits += found.low <= shift <= found.high
    assert hits >= 180


def test_a_few_samples_that_are_all_right_do_not_prove_calibration():
    found = ece_interval(np.full(20, 0.99), np.ones(20, dtype=bool))
    assert found.high == pytest.approx(0.99 - wilson(20, 20).low)
    assert found.high > 0.1
    many = ece_interval(np.full(20_000, 0.99), np.ones(20_000, dtype=bool))
    assert many.high == pytest.approx(0.01, abs=1e-3)
