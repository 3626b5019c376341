import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu
from sklearn.metrics import roc_curve

from robustaug.trust import ood


def test_detection_by_hand():
    known, foreign = [4, 3, 2, 1], [2.5, 0]
    assert ood.auroc(known, foreign) == 6 / 8  # (2 + 4) of 8 pairs in order
    assert ood.fpr_at_tpr(known, foreign, tpr=0.5) == 0
    assert ood.fpr_at_tpr(known, foreign) == 0.5  # 95 % of four needs all four
    assert ood.aupr(known, foreign) == pytest.approx((1 + 1 + 3 / 4 + 4 / 5) / 4)


def test_separated_reversed_and_tied_scores():
    high, low = [5, 6, 7], [1, 2]
    assert (ood.auroc(high, low), ood.fpr_at_tpr(high, low), ood.aupr(high, low)) == (1, 0, 1)
    assert (ood.auroc(low, high), ood.fpr_at_tpr(low, high)) == (0, 1)
    assert (ood.auroc([1, 1], [1, 1, 1]), ood.fpr_at_tpr([1, 1], [1, 1, 1])) == (0.5, 1)
    assert ood.aupr([1, 1], [1, 1, 1]) == pytest.approx(2 / 5)


def test_foreign_samples_as_positives():
    known, foreign = np.array([4.0, 3, 2, 1]), np.array([2.5, 0])
    assert ood.aupr(-foreign, -known) == pytest.approx((1 + 2 / 4) / 2)


@pytest.mark.parametrize("tpr", [0.07, 0.5, 0.8, 0.95, 1.0])
def test_fpr_agrees_with_the_roc_curve(tpr):
    rng = np.random.default_rng(3)
    known, foreign = rng.normal(1, 1, 100).round(1), rng.normal(0, 1, 80).round(1)
    truth = np.repeat([1, 0], [100, 80])
    fpr, reached, _ = roc_curve(truth, np.concatenate([known, foreign]), drop_intermediate=False)
    assert ood.fpr_at_tpr(known, foreign, tpr) == pytest.approx(fpr[reached >= tpr - 1e-9].min())


SCORES = st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=30)


@settings(max_examples=40, deadline=None)
@given(SCORES, SCORES)
def test_only_the_order_of_scores_counts(known, foreign):
    known, foreign = np.array(known), np.array(foreign)
    for figure in (ood.auroc, ood.aupr, ood.fpr_at_tpr):
        value = figure(known, foreign)
        assert 0 <= value <= 1
        assert figure(np.exp(known), np.exp(foreign)) == value
        assert figure(torch.from_numpy(known), torch.from_numpy(foreign)) == value
    assert ood.auroc(foreign, known) == pytest.approx(1 - ood.auroc(known, foreign))
    u = mannwhitneyu(known, foreign).statistic
    assert ood.auroc(known, foreign) == pytest.approx(u / (len(known) * len(foreign)))


def test_infinite_scores_are_in_order():
    assert ood.auroc([np.inf, 1], [0, -np.inf]) == 1
    assert ood.fpr_at_tpr([np.inf, 1], [2, -np.inf]) == 0.5


def test_nan_scores_give_nan_figures():
    for figure in (ood.auroc, ood.aupr, ood.fpr_at_tpr):
        assert math.isnan(figure([1, np.nan], [0.0]))
        assert math.isnan(figure([1.0], [0.0, np.nan]))


@pytest.mark.parametrize("figure", [ood.auroc, ood.aupr, ood.fpr_at_tpr])
def test_detection_needs_both_kinds(figure):
    with pytest.raises(ValueError, match=r"known scores must have shape \(N,\) with N >= 1"):
        figure([], [1.0])
    with pytest.raises(ValueError, match=r"foreign scores must have shape .* got \(1, 1\)"):
        figure([1.0], [[1.0]])


@pytest.mark.parametrize("tpr", [0, 95, -0.1, math.nan])
def test_a_rate_is_a_share(tpr):
    with pytest.raises(ValueError, match=r"tpr must be in \(0, 1\].*write 0.95"):
        ood.fpr_at_tpr([1.0], [0.0], tpr)


def mean_risk(score, correct):
    """The mean over k of the share of wrong among the first k, in the order given by score."""
    wrong = 1 - np.asarray(correct)[np.argsort(-np.asarray(score), kind="stable")]
    return (wrong.cumsum() / np.arange(1, len(wrong) + 1)).mean()


def test_the_area_under_risk_and_coverage_is_the_mean_over_orders_of_ties():
    rng = np.random.default_rng(0)
    score, correct = rng.normal(size=50), rng.integers(2, size=50)
    assert ood.aurc(score, correct) == pytest.approx(mean_risk(score, correct), abs=1e-12)
    tied, right = [3, 2, 2, 2, 1, 1], np.array([1, 0, 1, 1, 0, 1])
    orders = [[0, *a, *b] for a in itertools.permutations([1, 2, 3]) for b in itertools.permutations([4, 5])]
    by_hand = np.mean([mean_risk(np.arange(6, 0, -1), right[order]) for order in orders])
    assert ood.aurc(tied, right) == pytest.approx(by_hand, abs=1e-12)


def test_risk_and_coverage_at_the_ends():
    assert ood.aurc([0.3], [1]) == 0
    assert ood.aurc([0.3], [0]) == 1
    assert ood.aurc([1, 1, 1, 1], [1, 0, 0, 1]) == pytest.approx(0.5)
    curve = ood.risk_coverage([1, 1, 1, 1], [True, False, False, True])
    assert [part.tolist() for part in curve] == [[1], [1], [0.5]]
    curve = ood.risk_coverage([5, np.inf, -np.inf], [1, 1, 0])
    assert [part.tolist() for part in curve] == [[np.inf, 5, -np.inf], [1 / 3, 2 / 3, 1], [0, 0, 1 / 3]]
    assert math.isnan(ood.aurc([1, np.nan], [1, 0]))
    assert all(np.isnan(part).all() for part in ood.risk_coverage([1, np.nan], [1, 0]))


@pytest.mark.parametrize("figure", [ood.aurc, ood.risk_coverage])
def test_risk_is_of_answers_that_are_right_or_wrong(figure):
    for args, message in [
        (([1, 2], [1]), "same length, got 2 and 1"),
        (([1], [0.5]), "correct must hold only true and false"),
        (([], []), "N >= 1"),
    ]:
        with pytest.raises(ValueError, match=message):
            figure(*args)


def test_all_figures_of_a_score():
    known, foreign, correct = [4, 3, 2, 1], [2.5, 0], [True, True, False, True]
    found = ood.detection(known, foreign, correct)
    assert tuple(found) == ood.FIGURES
    assert (found["auroc"], found["fpr95"], found["aupr"]) == (0.75, 0.5, ood.aupr(known, foreign))
    assert found["aupr_foreign"] == pytest.approx((1 + 2 / 4) / 2)
    assert found["aurc"] == pytest.approx(mean_risk([4, 3, 2, 1, 2.5, 0], [1, 1, 0, 1, 0, 0]))
