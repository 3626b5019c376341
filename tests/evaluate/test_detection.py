import numpy as np
import pytest
from scipy.special import expit, logit

from robustaug.evaluate.detection import detection_draws, detection_interval
from robustaug.evaluate.statistics import wilson
from robustaug.trust import ood

FIGURES = ("aupr", "aupr_foreign", "aurc")


def drawn(n, m, seed, digits=1):
    rng = np.random.default_rng(seed)
    known = rng.normal(1, 1, n).round(digits)  # many ties
    return known, rng.normal(0, 1, m).round(digits), rng.random(n) < 0.5 + 0.2 * np.tanh(known)


@pytest.mark.parametrize("figure", FIGURES)
def test_the_estimate_is_the_figure_itself(figure):
    for seed in range(5):
        known, foreign, correct = drawn(60, 40, seed)
        found = detection_interval(figure, known, foreign, correct, 0.9)
        assert found.estimate == pytest.approx(ood.detection(known, foreign, correct)[figure], abs=1e-12)


def test_resamples_are_drawn_from_known_and_foreign_samples_apart():
    known, foreign, correct = drawn(40, 30, 3)
    rng, values = np.random.default_rng(0), []
    for _ in range(800):
        rows, others = rng.integers(40, size=40), rng.integers(30, size=30)
        values.append(ood.detection(known[rows], foreign[others], correct[rows]))
    for figure in FIGURES:
        expected = np.quantile([found[figure] for found in values], [0.05, 0.95])
        draws = detection_draws(figure, known, foreign, correct, 0.9)
        assert np.quantile(draws[1:], [0.05, 0.95]) == pytest.approx(expected, abs=0.025)
        reach = np.quantile(np.abs(logit(draws[1:]) - logit(draws[0])), 0.9)
        ends = expit(logit(draws[0]) - reach), expit(logit(draws[0]) + reach)
        assert detection_interval(figure, known, foreign, correct, 0.9)[1:] == pytest.approx(ends)


def test_intervals_hold_foreign_data_that_look_more_known_than_the_known():
    def turned(n, m, rng):
        return rng.normal(-1, 1, n), rng.normal(0, 1, m), np.ones(n, dtype=bool)

    truth = ood.detection(*turned(120_000, 40_000, np.random.default_rng(0)))["aupr_foreign"]
    covered = 0
    for seed in range(40):
        estimate, low, high = detection_interval("aupr_foreign", *turned(120, 40, np.random.default_rng(seed)), 0.9)
        covered += low <= truth <= high
        assert low <= estimate <= high
    assert covered >= 31  # three standard deviations


def test_where_all_are_told_apart_doubt_remains():
    found = detection_interval("aupr", np.arange(50.0) + 50, np.arange(30.0), np.ones(50, dtype=bool), 0.95)
    assert found == pytest.approx(wilson(30, 30))


@pytest.mark.parametrize("figure", FIGURES)
def test_intervals_cover(figure):
    truth = ood.detection(*drawn(60_000, 40_000, 99, digits=3))[figure]
    covered = 0
    for seed in range(100):
        _, low, high = detection_interval(figure, *drawn(60, 40, seed), 0.9)
        covered += low <= truth <= high
    assert 80 <= covered <= 98  # three standard deviations


def test_pieces_do_not_change_the_interval(monkeypatch):
    data = drawn(30, 20, 0)
    whole = detection_interval("aurc", *data, 0.9)
    monkeypatch.setattr("robustaug.evaluate.detection._CHUNK_VALUES", 1000)
    assert detection_interval("aurc", *data, 0.9) == pytest.approx(whole, abs=1e-12)
    with pytest.raises(ValueError, match="must be fpr95, aupr, aupr_foreign or aurc, got 'f1'"):
        detection_interval("f1", *data, 0.9)
