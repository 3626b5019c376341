import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from robustaug.trust.fairness import COMPARED, Confusion, confusion, fairness, rates, undefined

ADULT = Path(__file__).parents[3] / "shared/data/adult/adult.csv"


def drawn(seed, n, groups):
    draw = np.random.default_rng(seed)
    group = draw.integers(0, groups, n)
    positive = draw.random(n) < 0.3 + 0.1 * group
    selected = draw.random(n) < np.where(positive, 0.7, 0.2) - 0.05 * group
    return group, positive, selected


def theirs(group, positive, selected):
    metrics = pytest.importorskip("fairlearn.metrics")
    given = {"y_true": positive.astype(int), "y_pred": selected.astype(int), "sensitive_features": group}
    names = {
        "demographic_parity_difference": metrics.demographic_parity_difference,
        "equalised_odds_difference": metrics.equalized_odds_difference,
        "equal_opportunity_difference": metrics.equal_opportunity_difference,
        "disparate_impact": metrics.demographic_parity_ratio,
    }
    return {name: figure(**given) for name, figure in names.items()}


@pytest.mark.parametrize("groups", [2, 5])
def test_figures_are_those_of_fairlearn(groups):
    samples = drawn(groups, 900, groups)
    assert fairness(confusion(*samples).counts) == pytest.approx(theirs(*samples), abs=1e-12)


@pytest.mark.skipif(not ADULT.exists(), reason="needs ../shared/data/adult")
@pytest.mark.parametrize("column", ["sex", "race"])
def test_figures_on_adult_are_those_of_fairlearn(column):
    """Of a rule that selects people with many years of schooling."""
    with ADULT.open(newline="") as file:
        rows = [*csv.DictReader(file)]
    group = np.array([row[column] for row in rows])
    positive = np.array([row["income-per-year"].strip().startswith(">50K") for row in rows])
    selected = np.array([int(row["education-num"]) >= 12 for row in rows])
    assert 0.2 < positive.mean() < 0.3
    found = confusion(group, positive, selected)
    assert found.counts.sum() == len(rows)
    assert fairness(found.counts) == pytest.approx(theirs(group, positive, selected), abs=1e-12)


def test_one_class_against_the_rest():
    label, prediction = np.array([0, 1, 2, 2, 1, 0]), np.array([2, 1, 2, 0, 2, 0])
    found = confusion(list("aaabbb"), label == 2, prediction == 2)
    assert found.groups == ["a", "b"]
    assert found.counts.tolist() == [[[1, 1], [0, 1]], [[1, 1], [1, 0]]]
    assert rates(found.counts).selection == pytest.approx([2 / 3, 1 / 3])
    figures = fairness(found.counts)
    assert figures == pytest.approx(
        {
            "demographic_parity_difference": 1 / 3,
            "equalised_odds_difference": 1.0,
            "equal_opportunity_difference": 1.0,
            "disparate_impact": 0.5,
        }
    )


@pytest.mark.parametrize(
    ("counts", "figure", "reason"),
    [
        ([[[3, 1], [1, 3]]], "demographic_parity_difference", "fewer than two groups to compare: a"),
        ([], "disparate_impact", "no group to compare"),
        ([[[3, 1], [1, 3]], [[4, 1], [0, 0]]], "equal_opportunity_difference", "no positive samples in b"),
        ([[[0, 0], [1, 3]], [[4, 1], [1, 0]]], "equalised_odds_difference", "no negative samples in a"),
        ([[[3, 0], [1, 0]], [[4, 0], [1, 0]]], "disparate_impact", "no sample of any group is selected"),
        ([[[0, 0], [0, 0]], [[4, 0], [1, 0]]], "demographic_parity_difference", "no samples in a"),
    ],
)
def test_what_cannot_be_told_is_nan_and_says_why(counts, figure, reason):
    table = Confusion([*"ab"[: len(counts)]], np.array(counts).reshape(-1, 2, 2))
    assert np.isnan(fairness(table.counts)[figure])
    assert undefined(figure, table) == reason


@given(arrays(np.int64, st.tuples(st.integers(1, 4), st.just(2), st.just(2)), elements=st.integers(0, 5)))
def test_a_figure_is_a_share_or_nan_with_a_reason(counts):
    table = Confusion([str(at) for at in range(len(counts))], counts)
    figures = fairness(counts)
    assert {*figures} == {*COMPARED}
    for name, value in figures.items():
        assert (0 <= value <= 1) if undefined(name, table) == "" else np.isnan(value)
    assert fairness(counts[::-1]) == pytest.approx(figures, nan_ok=True)


def test_groups_treated_alike_have_no_gap():
    counts = [[[30, 10], [5, 15]], [[60, 20], [10, 30]]]
    assert fairness(counts) == pytest.approx(dict.fromkeys(COMPARED, 0.0) | {"disparate_impact": 1.0})


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ((["a"], [1, 0], [1, 0]), "same shape"),
        ((["a"], [np.nan], [1]), "positive must hold only true and false"),
        ((["a"], [1], [2]), "selected must hold only true and false"),
    ],
)
def test_bad_samples_are_refused(samples, message):
    with pytest.raises(ValueError, match=message):
        confusion(*samples)
