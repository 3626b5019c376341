import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax, softmax
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss

from robustaug.trust.calibration import (
    TEMPERATURE_BOUNDS,
    brier,
    ece,
    ece_from_confidence,
    fit_temperature,
    nll,
    reliability,
)

BINNINGS = ["equal_width", "equal_mass"]


def calibrated(n, classes=5, scale=2.0, seed=0):
    """Logits whose softmax is the true distribution of the labels."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=scale, size=(n, classes))
    cumulative = softmax(logits, axis=1).cumsum(axis=1)
    labels = (rng.random((n, 1)) > cumulative).sum(axis=1).clip(max=classes - 1)
    return logits, labels


def test_ece_by_hand():
    confidence = [0.95, 0.95, 0.95, 0.95, 0.55, 0.55]
    correct = [1, 1, 1, 0, 1, 0]
    assert ece_from_confidence(confidence, correct, bins=10) == pytest.approx((4 * 0.20 + 2 * 0.05) / 6)
    assert ece_from_confidence(confidence, correct, bins=1) == pytest.approx(4.9 / 6 - 4 / 6)


def test_bins_are_closed_on_the_right_and_the_first_on_both_sides():
    found = reliability([0.0, 0.25, 0.2500001, 0.5, 1.0], [1, 1, 0, 0, 1], bins=4)
    assert found.count.tolist() == [2, 2, 0, 1]
    assert found.edges.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert found.accuracy[:2].tolist() == [1, 0]
    assert math.isnan(found.confidence[2])
    assert math.isnan(found.accuracy[2])


def test_equal_mass_bins_hold_as_many_samples_up_to_one():
    confidence = np.random.default_rng(0).random(103)
    found = reliability(confidence, confidence > 0.5, bins=10, binning="equal_mass")
    assert found.count.sum() == 103
    assert set(found.count.tolist()) == {10, 11}


def test_equal_mass_keeps_ties_together():
    found = reliability([0.5] * 7 + [0.9] * 3, [1, 0, 1, 0, 1, 0, 1, 1, 1, 1], bins=5, binning="equal_mass")
    assert sorted(found.count[found.count > 0].tolist()) == [3, 7]


def test_reliability_agrees_with_scikit_learn():
    rng = np.random.default_rng(1)
    confidence = rng.random(500)
    correct = rng.random(500) < confidence**2
    found = reliability(confidence, correct, bins=10)
    accuracy, mean = calibration_curve(correct, confidence, n_bins=10)
    assert found.accuracy == pytest.approx(accuracy)
    assert found.confidence == pytest.approx(mean)


@pytest.mark.parametrize("binning", BINNINGS)
def test_a_calibrated_model_has_a_small_ece_and_an_overconfident_one_has_not(binning):
    logits, labels = calibrated(20_000)
    assert ece(logits, labels, binning=binning) < 0.015
    assert ece(logits * 3, labels, binning=binning) > 0.1


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60),
    st.integers(1, 20),
    st.sampled_from(BINNINGS),
    st.randoms(use_true_random=False),
)
def test_ece_is_bounded_counts_everyone_and_ignores_order(samples, bins, binning, shuffler):
    confidence, correct = zip(*samples, strict=True)
    found = reliability(confidence, correct, bins, binning)
    assert found.count.sum() == len(samples)
    assert found.edges.shape == (bins + 1,)
    value = ece_from_confidence(confidence, correct, bins, binning)
    gap = abs(np.mean(confidence) - np.mean(correct))
    assert gap - 1e-9 <= value <= 1 + 1e-9  # one bin is the least fine and gives the least
    shuffler.shuffle(samples)
    confidence, correct = zip(*samples, strict=True)
    assert ece_from_confidence(confidence, correct, bins, binning) == pytest.approx(value, abs=1e-12)


def test_nll_and_brier_agree_with_scikit_learn_and_the_formula():
    logits, labels = calibrated(300, classes=2)
    p = softmax(logits, axis=1)
    assert nll(logits, labels) == pytest.approx(log_loss(labels, p))
    assert brier(logits, labels) == pytest.approx(2 * brier_score_loss(labels, p[:, 1]))  # both classes are summed
    logits, labels = calibrated(300, classes=4)
    assert nll(logits, labels) == pytest.approx(log_loss(labels, softmax(logits, axis=1)))


def test_extremes_of_the_losses():
    sure_and_right, sure_and_wrong = np.array([[1000.0, 0.0]]), np.array([[0.0, 1000.0]])
    assert (nll(sure_and_right, [0]), brier(sure_and_right, [0])) == (0, 0)
    assert (nll(sure_and_wrong, [0]), brier(sure_and_wrong, [0])) == (1000, 2)
    uniform = np.zeros((3, 8))
    assert nll(uniform, [0, 3, 7]) == pytest.approx(math.log(8))
    assert brier(uniform, [0, 3, 7]) == pytest.approx(1 - 1 / 8)


def test_a_class_that_cannot_happen_is_allowed_unless_none_can():
    assert nll([[0.0, 0.0, -np.inf]], [0]) == pytest.approx(math.log(2))
    assert nll([[0.0, 0.0, -np.inf]], [2]) == math.inf
    assert math.isnan(brier([[-np.inf, -np.inf]], [0]))


def test_torch_and_numpy_in_any_precision_give_the_same():
    logits, labels = calibrated(200)
    logits = logits.astype(np.float16)
    for measure in (ece, nll, brier, fit_temperature):
        expected = measure(logits.astype(np.float64), labels)
        assert measure(torch.from_numpy(logits).requires_grad_(), torch.from_numpy(labels)) == expected


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_figures_of_unusable_logits_are_nan_and_a_fit_counts_them(bad):
    logits, labels = calibrated(50)
    logits[3, 1] = logits[3, 2] = logits[9, 0] = bad
    assert all(math.isnan(figure(logits, labels)) for figure in (ece, nll, brier))
    with pytest.raises(ValueError, match="3 values in 2 of 50 rows"):
        fit_temperature(logits, labels)


@pytest.mark.parametrize("temperature", [0.05, 0.5, 1.0, 2.5, 20.0])
def test_a_known_temperature_is_recovered_within_one_per_cent(temperature):
    logits, labels = calibrated(60_000, classes=6, seed=4)
    true_optimum = fit_temperature(logits, labels)
    assert true_optimum == pytest.approx(1, rel=0.01)
    assert fit_temperature(logits * temperature, labels) == pytest.approx(true_optimum * temperature, rel=1e-6)


def test_the_temperature_is_the_best_one_and_moves_no_prediction():
    logits, labels = calibrated(2000)
    logits = logits * 3
    best = fit_temperature(logits, labels)
    grid = np.exp(np.linspace(math.log(0.5), math.log(20), 400))
    assert nll(logits / best, labels) <= min(nll(logits / t, labels) for t in grid)
    assert ece(logits / best, labels) < ece(logits, labels)
    assert np.array_equal((logits / best).argmax(1), logits.argmax(1))


def test_a_common_offset_changes_nothing():
    logits, labels = calibrated(500)
    offsets = np.random.default_rng(0).normal(scale=100, size=(500, 1))
    assert fit_temperature(logits + offsets, labels) == pytest.approx(fit_temperature(logits, labels), rel=1e-6)


def test_a_sound_fit_is_quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit_temperature(*calibrated(200))


@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0, 1e6])
def test_separable_logits_stop_at_the_lower_bound_and_say_so(scale):
    labels = np.arange(30) % 3
    with pytest.warns(UserWarning, match="all 30 samples are classified correctly"):
        assert fit_temperature(np.eye(3)[labels] * scale, labels) == TEMPERATURE_BOUNDS[0]


def test_tiny_logits_stop_at_the_lower_bound_and_say_so():
    logits, labels = calibrated(200)
    with pytest.warns(UserWarning, match="the logits are tiny"):
        assert fit_temperature(logits * 1e-4, labels) == TEMPERATURE_BOUNDS[0]


def test_logits_worse_than_chance_stop_at_the_upper_bound_and_say_so():
    labels = np.arange(30) % 3
    with pytest.warns(UserWarning, match="no better than chance"):
        assert fit_temperature(-np.eye(3)[labels], labels) == TEMPERATURE_BOUNDS[1]


def test_constant_logits_have_no_temperature():
    with pytest.warns(UserWarning, match="constant"):
        assert fit_temperature(np.ones((4, 3)) * [[1], [2], [3], [4]], [0, 1, 2, 0]) == 1.0


@pytest.mark.parametrize(
    ("logits", "labels", "error", "message"),
    [
        (np.zeros((0, 3)), np.zeros(0, int), ValueError, r"N >= 1 and K >= 2, got \(0, 3\)"),
        (np.zeros(3), [0, 0, 0], ValueError, r"must have shape \(N, K\)"),
        (np.zeros((3, 1)), [0, 0, 0], ValueError, "K >= 2"),
        (np.zeros((3, 2)), [0, 1], ValueError, r"labels must have shape \(3,\)"),
        (np.zeros((3, 2)), [0.0, 1.0, 1.0], TypeError, "labels must be integers, got float64"),
        (np.zeros((3, 2)), [0, 2, -1], ValueError, r"labels must be in \[0, 2\), 2 of 3 are not"),
    ],
)
@pytest.mark.parametrize("figure", [ece, nll, brier, fit_temperature])
def test_what_cannot_be_judged_is_refused(figure, logits, labels, error, message):
    with pytest.raises(error, match=message):
        figure(logits, labels)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], []), r"confidence must have shape \(N,\)"),
        (([0.5], [1, 0]), "same length, got 1 and 2"),
        (([0.5, 1.2, -0.1], [1, 1, 0]), "2 of 3 values are not"),
        (([0.5, np.nan], [1, 1]), "1 of 2 values are not"),
        (([0.5], [2]), "only true and false"),
        (([0.5], [1], 0), "bins must be a whole number >= 1, got 0"),
        (([0.5], [1], 3, "equal"), "'equal_width' or 'equal_mass', got 'equal'"),
    ],
)
def test_what_cannot_be_binned_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        reliability(*arguments)


def test_a_nan_confidence_gives_a_nan_error():
    assert math.isnan(ece_from_confidence([0.5, np.nan], [True, False]))


def test_the_loss_is_the_log_softmax_of_the_label():
    logits, labels = calibrated(20)
    assert nll(logits, labels) == pytest.approx(-log_softmax(logits, axis=1)[np.arange(20), labels].mean())
