"""Changes between two models: closed forms, and A/A simulations in which both are equally good."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest, norm
from sklearn.metrics import roc_auc_score

from robustaug.evaluate import paired
from robustaug.evaluate.paired import Drawn, Weighed
from robustaug.trust.calibration import ece_from_confidence

WEIGHED = Weighed(0.95)
RUNS, LEVEL = 200, 0.05


def alarms_are_rare(missed, runs=RUNS):
    assert binomtest(missed, runs, LEVEL, alternative="greater").pvalue > 0.001, f"{missed} of {runs}"


@pytest.mark.parametrize("counts", [(50, 8, 3, 9), (20, 0, 0, 5), (0, 7, 0, 0)])
def test_a_share_has_the_interval_of_agresti_and_min(counts):
    _, only_a, only_b, _ = counts
    d = np.repeat([0, -1, 1, 0], counts)
    n, b, c = sum(counts) + 2, only_b + 0.5, only_a + 0.5
    half = norm.ppf(0.975) * math.sqrt((b + c) - (b - c) ** 2 / n) / n
    found = paired.share_change(d, 0.95)
    assert found.value == pytest.approx((only_b - only_a) / sum(counts))
    assert (found.low, found.high) == pytest.approx((max(-1, found.value - half), min(1, found.value + half)))


def test_what_was_never_seen_is_not_held_impossible():
    found = paired.share_change(np.zeros(98), 0.95)
    assert found.value == 0
    assert found.high == -found.low == pytest.approx(1.96 / 100, rel=1e-3)
    assert found.p_value == 1


def test_the_same_figure_is_drawn_for_both_from_the_same_weights():
    draw = np.random.default_rng(0)
    index, values = np.arange(500), draw.exponential(size=500)
    a, b = WEIGHED.mean(index, values), WEIGHED.mean(index, values + 0.25)
    change = paired.between(a, b, 0.95)
    assert change == pytest.approx((0.25, 0.25, 0.25, change.p_value, values.mean(), values.mean() + 0.25))
    back = WEIGHED.mean(index[::-1], values[::-1])  # the samples count, not their order
    np.testing.assert_allclose(back.draws, a.draws)
    p, right = draw.random(500), draw.random(500) < 0.5
    assert WEIGHED.ece(index, p, right).estimate == pytest.approx(ece_from_confidence(p, right))
    at = draw.integers(0, 3, 500)
    least = min(right[at == k].mean() for k in range(3))
    assert WEIGHED.least_share(index, at, right, 3).estimate == pytest.approx(least)


def test_the_change_of_auroc_is_delongs():
    """The variance written out with the covariance of the two curves (DeLong et al. 1988, eq. 4 to 6)."""
    draw = np.random.default_rng(1)
    known, foreign = draw.normal(1, 1, (2, 40)), draw.normal(0, 1, (2, 30))
    known[1], foreign[1] = 0.3 * known[0] + known[1], 0.3 * foreign[0] + foreign[1]
    wins = [k[:, None] > f[None] for k, f in zip(known, foreign, strict=True)]
    up, down = (np.cov([w.mean(axis) for w in wins]) for axis in (1, 0))
    step = np.array([-1, 1])
    deviation = math.sqrt(step @ (up / 40 + down / 30) @ step)
    found = paired.auroc_change((known[0], known[1]), (foreign[0], foreign[1]), 0.95)
    a, b = (roc_auc_score([1] * 40 + [0] * 30, [*k, *f]) for k, f in zip(known, foreign, strict=True))
    assert (found.a, found.b, found.value) == pytest.approx((a, b, b - a))
    assert found.high - found.value == pytest.approx(norm.ppf(0.975) * deviation)
    assert found.p_value == pytest.approx(2 * norm.sf(abs(b - a) / deviation))


@pytest.mark.parametrize(("n", "accuracy"), [(60, 0.9), (400, 0.97), (400, 0.6)])
def test_shares_of_two_equally_good_models(n, accuracy):
    draw, missed = np.random.default_rng(2), 0
    for _ in range(4 * RUNS):
        hard = draw.beta(accuracy * 2, (1 - accuracy) * 2, n)  # samples are hard or easy for both
        a, b = draw.random((2, n)) < hard
        change = paired.share_change(b.astype(float) - a, 0.95)
        missed += not change.low <= 0 <= change.high
    alarms_are_rare(missed, 4 * RUNS)


@pytest.mark.parametrize("sharpness", [1.0, 2.0])
def test_calibration_errors_of_two_equally_calibrated_models(sharpness):
    draw, missed, index = np.random.default_rng(3), 0, np.arange(400)
    for _ in range(RUNS):
        true = draw.uniform(0.3, 0.99, (2, 400))
        said = 1 / (1 + ((1 - true) / true) ** sharpness)
        right = draw.random((2, 400)) < true
        drawn = (WEIGHED.ece(index, p, y) for p, y in zip(said, right, strict=True))
        change = paired.between(*drawn, 0.95)
        missed += not change.low <= 0 <= change.high
    alarms_are_rare(missed)


@pytest.mark.parametrize("worst", [0.9, 0.7])
def test_worst_cohorts_of_two_equally_good_models(worst):
    draw, missed, index = np.random.default_rng(4), 0, np.arange(400)
    at = index % 8
    for _ in range(RUNS):
        a, b = draw.random((2, 400)) < np.where(at == 0, worst, 0.9)
        drawn = (WEIGHED.least_share(index, at, hits, 8) for hits in (a, b))
        change = paired.between(*drawn, 0.95, paired.least_reach(50, 0.95))
        missed += not change.low <= 0 <= change.high
    alarms_are_rare(missed)


@pytest.mark.parametrize("n", [300, 2000])
def test_a_model_that_is_off_against_one_that_is_calibrated(n):
    """By chance alone the calibrated one's error is measured too high, the other's hardly."""
    draw, missed, index = np.random.default_rng(6), 0, np.arange(n)
    for _ in range(RUNS):
        p, q = draw.uniform(0.5, 1, n), draw.uniform(0.6, 1, n)
        a, b = WEIGHED.ece(index, p, draw.random(n) < p), WEIGHED.ece(index, q, draw.random(n) < q - 0.1)
        change = paired.between(a, b, 0.95)
        missed += not change.low <= 0.1 <= change.high
    alarms_are_rare(missed)


@pytest.mark.parametrize("n", [300, 1000])
def test_a_model_with_one_bad_cohort_against_one_without(n):
    """By chance alone the least of many equal shares is measured too low, that of one bad cohort is not."""
    draw, missed, index = np.random.default_rng(7), 0, np.arange(n)
    at = index % 10
    for _ in range(RUNS):
        a, b = draw.random(n) < np.where(at == 0, 0.6, 0.8), draw.random(n) < 0.8
        drawn = (WEIGHED.least_share(index, at, hits, 10) for hits in (a, b))
        change = paired.between(*drawn, 0.95, paired.least_reach(n // 10, 0.95))
        missed += not change.low <= 0.2 <= change.high
    alarms_are_rare(missed)


def test_two_models_that_hardly_differ_hardly_change():
    draw, index = np.random.default_rng(8), np.arange(1000)
    p, at = draw.uniform(0.5, 1, 1000), index % 10
    a = draw.random(1000) < p
    b = np.where(index < 3, ~a, a)
    found = paired.between(*(WEIGHED.ece(index, p, right) for right in (a, b)), 0.95)
    assert found.high - found.low < 0.04
    found = paired.between(*(WEIGHED.least_share(index, at, right, 10) for right in (a, b)), 0.95)
    assert found.high - found.low < 0.12


def test_losses_of_two_equally_good_models_are_told_apart_no_more_often_than_stated():
    draw, missed, index = np.random.default_rng(5), 0, np.arange(300)
    for _ in range(RUNS):
        shared = draw.exponential(size=300)
        a, b = (WEIGHED.mean(index, shared + draw.exponential(size=300)) for _ in range(2))
        missed += paired.between(a, b, 0.95).p_value < LEVEL
    alarms_are_rare(missed)


def test_two_intervals_of_their_own_leave_the_most_doubt():
    found = paired.apart((0.5, 0.4, 0.6), (0.7, 0.65, 0.8))
    assert found[:3] == pytest.approx((0.2, 0.05, 0.4))
    assert math.isnan(found.p_value)
    assert paired.mean_of([found, found])[:3] == pytest.approx(found[:3])


def test_nothing_drawn_differently_is_no_change():
    same = Drawn(0.3, np.full(2000, 0.3))
    assert paired.between(same, same, 0.95)[:4] == paired.SAME[:4]
