import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score

from robustaug.evaluate.metrics import (
    accuracy,
    area_under_severity,
    cohort_accuracy,
    mean_corruption_error,
    robust_accuracy,
    worst_cohort,
)
from robustaug.evaluate.statistics import wilson


def cohorts(counts, **options):
    """cohort -> (hits, size), expanded into samples."""
    correct = np.concatenate([np.arange(n) < hits for hits, n in counts.values()])
    values = np.repeat([*counts], [n for _, n in counts.values()])
    return cohort_accuracy(correct, values, **options)


def test_accuracy_agrees_with_scikit_learn():
    rng = np.random.default_rng(0)
    prediction, label = rng.integers(0, 3, (2, 50))
    assert accuracy(prediction, label) == accuracy_score(label, prediction)
    assert accuracy(torch.from_numpy(prediction), label) == accuracy(prediction, label)


def test_cohorts_by_hand():
    found = cohorts({"night": (15, 30), "day": (45, 50), "dusk": (2, 5)})
    assert [(c.cohort, c.n, c.accuracy, c.worst) for c in found] == [
        ("day", 50, 0.9, False),
        ("dusk", 5, 0.4, False),
        ("night", 30, 0.5, True),
    ]
    assert (found[2].low, found[2].high) == wilson(15, 30)[1:]
    named = worst_cohort(found)
    assert named is not None
    assert named.cohort == "night"


def test_a_small_cohort_is_named_when_asked_for():
    named = worst_cohort(cohorts({"night": (15, 30), "dusk": (2, 5)}, min_size=5))
    assert named is not None
    assert named.cohort == "dusk"


def test_no_cohort_is_worst_where_all_are_small():
    assert worst_cohort(cohorts({"a": (1, 19), "b": (0, 3)})) is None


def test_of_equally_accurate_cohorts_the_first_by_name_is_worst():
    found = cohorts({"c": (40, 40), "b": (10, 20), "a": (15, 30)})
    assert [c.cohort for c in found if c.worst] == ["a"]


def test_values_of_any_type_become_text():
    found = cohort_accuracy([1, 0, 1, 1], np.array([3, 3, None, "x"], dtype=object), min_size=1)
    assert [(c.cohort, c.accuracy) for c in found] == [("3", 0.5), ("None", 1), ("x", 1)]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.sampled_from("abcd")), min_size=1, max_size=80), st.integers(1, 30))
def test_cohorts_split_the_whole(samples, min_size):
    correct, values = zip(*samples, strict=True)
    found = cohort_accuracy(correct, values, min_size)
    assert sum(c.n for c in found) == len(samples)
    assert sum(c.n * c.accuracy for c in found) == pytest.approx(sum(correct))
    assert all(0 <= c.low <= c.accuracy <= c.high <= 1 for c in found)
    assert sum(c.worst for c in found) == any(c.n >= min_size for c in found)
    assert all(c.accuracy <= other.accuracy for c in found if c.worst for other in found if other.n >= min_size)


def test_mean_corruption_error_weighs_scenarios_alike():
    graded = {"noise": {1: 0.9, 2: 0.8, 3: 0.7}, "blur": {5: 0.4}}
    assert mean_corruption_error(graded) == pytest.approx((0.2 + 0.6) / 2)
    assert math.isnan(mean_corruption_error({"noise": {1: math.nan}, "blur": {1: 0.5}}))


def test_area_under_severity():
    assert area_under_severity({5: 0.2, 0: 1.0}) == pytest.approx(0.6)  # in any order
    assert area_under_severity({0: 1.0, 1: 0.5, 5: 0.5}) == pytest.approx((0.75 + 4 * 0.5) / 5)  # uneven steps
    assert area_under_severity(dict.fromkeys(range(6), 0.7)) == pytest.approx(0.7)
    assert math.isnan(area_under_severity({0: 1.0, 1: math.nan}))


def test_robust_accuracy_counts_the_unbroken():
    broken_at = np.array([0.0, 0.03, 0.1, np.inf])
    assert [robust_accuracy(broken_at, eps) for eps in (0, 0.03, 0.05, 0.1, 100)] == [0.75, 0.5, 0.5, 0.25, 0.25]


@given(st.lists(st.floats(0, 1) | st.just(math.inf), min_size=1), st.floats(0, 1), st.floats(0, 1))
@settings(max_examples=40, deadline=None)
def test_robust_accuracy_falls_with_the_budget(broken_at, eps, more):
    assert robust_accuracy(broken_at, eps) >= robust_accuracy(broken_at, eps + more)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: accuracy([], []), r"prediction must have shape \(N,\) with N >= 1"),
        (lambda: accuracy([1], [1, 2]), "same length, got 1 and 2"),
        (lambda: accuracy([[1]], [1]), r"got \(1, 1\)"),
        (lambda: cohort_accuracy([1], ["a", "b"]), "same length, got 1 and 2"),
        (lambda: cohort_accuracy([np.nan], ["a"]), "only true and false"),
        (lambda: cohort_accuracy([1], ["a"], min_size=0), "min_size must be >= 1, got 0"),
        (lambda: cohort_accuracy([1], ["a"], confidence=95), r"confidence must be in \(0, 1\)"),
        (lambda: mean_corruption_error({}), "at least one scenario"),
        (lambda: mean_corruption_error({"fog": {}}), "'fog' has no severities"),
        (lambda: mean_corruption_error({"fog": {2: 75}}), "'fog': accuracy at severity 2 must be in"),
        (lambda: area_under_severity({1: 0.5}), "at least two severities"),
        (lambda: area_under_severity({1: 0.5, 2: 1.5}), r"accuracy at severity 2 must be in \[0, 1\], got 1.5"),
        (lambda: area_under_severity({1: 0.5, math.inf: 0.5}), "severities must be finite"),
        (lambda: robust_accuracy([0.1, np.nan, -1], 0.1), "broken_at must be >= 0, 2 of 3 values are not"),
        (lambda: robust_accuracy([0.1], -0.1), "eps must be >= 0"),
        (lambda: robust_accuracy([0.1], math.inf), "eps must be >= 0 and finite"),
    ],
)
def test_what_cannot_be_measured_is_refused(act, message):
    with pytest.raises(ValueError, match=message):
        act()
