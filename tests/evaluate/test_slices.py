import numpy as np
import pytest
from scipy.stats import binomtest, fisher_exact

from robustaug.evaluate.slices import Slice, find_slices


def people(draw, n):
    return {
        "age": draw.integers(17, 80, n),
        "sex": draw.choice(["Female", "Male"], n),
        "work": draw.choice(["private", "state", "own", "none"], n, p=[0.5, 0.2, 0.2, 0.1]),
        "site": draw.choice([*"abcdefgh"], n),
        "id": [f"n{i}" for i in range(n)],
    }


def test_a_planted_slice_is_found_and_named_in_words():
    draw = np.random.default_rng(0)
    columns = people(draw, 3000)
    bad = (columns["age"] < 30) & (columns["sex"] == "Female")
    found = find_slices(draw.random(3000) < np.where(bad, 0.5, 0.95), columns)
    first = found.slices[0]
    assert first.words.startswith("age 17 to 3")
    assert first.words.endswith("and sex = Female")
    assert first.error_rate > 0.35
    assert first.low < first.error_rate < first.high
    assert first.rest < 0.1
    assert first.p_value < 1e-20
    assert len(found.slices) == 1  # neither all the young, nor parts of the slice


def test_two_slices_are_both_found():
    draw = np.random.default_rng(1)
    columns = people(draw, 3000)
    bad = (columns["site"] == "c") | ((columns["work"] == "none") & (columns["sex"] == "Male"))
    found = find_slices(draw.random(3000) < np.where(bad, 0.5, 0.95), columns)
    assert {one.words for one in found.slices} == {"site = c", "sex = Male and work = none"}


def test_a_single_slice_has_the_p_value_of_fisher_times_what_was_possible():
    values = np.array(["a"] * 40 + ["b"] * 60)
    wrong = np.r_[np.ones(20), np.zeros(20), np.ones(6), np.zeros(54)]
    [one] = find_slices(1 - wrong, {"x": values}).slices
    expected = fisher_exact([[20, 20], [6, 54]], alternative="greater").pvalue
    assert one[:3] == ((("x", "a"),), 40, 20)
    assert one.p_value == pytest.approx(2 * expected)
    assert one.rest == 0.1


def test_by_chance_alone_the_false_alarm_rate_is_held():
    """Of 200 runs whose errors have nothing to do with the metadata, at most 5 % may find anything."""
    draw, alarms = np.random.default_rng(2), 0
    for _ in range(200):
        columns = people(draw, 400)
        alarms += bool(find_slices(draw.random(400) < 0.8, columns, beam=5).slices)
    assert binomtest(alarms, 200, 0.05, alternative="greater").pvalue > 0.01


def test_what_is_possible_is_counted_over_values_that_are_large_enough():
    draw = np.random.default_rng(3)
    found = find_slices(draw.random(4000) < 0.5, people(draw, 4000), beam=10**6)
    a, b, c, d = 4, 2, 4, 8  # age in quarters, sex, work and site; no id has 20 samples
    pairs = a * b + a * c + a * d + b * c + b * d + c * d
    triples = a * b * c + a * b * d + a * c * d + b * c * d
    assert found.possible == a + b + c + d + pairs + triples
    assert found.looked_at <= found.possible


@pytest.mark.parametrize("correct", [np.ones(60), np.zeros(60), np.ones(0), np.arange(60) % 2])
@pytest.mark.parametrize("value", ["same", float("nan"), None])
def test_where_nothing_can_differ_nothing_is_found(correct, value):
    found = find_slices(correct, {"one": [value] * len(correct), "two": ["x", "y"] * (len(correct) // 2)})
    assert [one for one in found.slices if "one" in one.words] == []
    assert find_slices(correct, {}) == ([], 0, 0)


def test_no_slice_is_smaller_than_asked():
    values = np.array(["a"] * 19 + ["b"] * 181)
    wrong = np.arange(200) < 19
    assert [one.words for one in find_slices(~wrong, {"x": values}).slices] == []
    assert [one.words for one in find_slices(~wrong, {"x": values}, min_size=19).slices] == ["x = a"]


def test_words():
    parts = (("age", "17 to 25.5"), ("sex", "Female"), ("gain", "-1 to 1e+06"), ("mood", "up to you"))
    assert Slice(parts, 20, 9, 0.45, 0.2, 0.6, 0.1, 0.01).words == (
        "age 17 to 25.5 and sex = Female and gain -1 to 1e+06 and mood = up to you"
    )


@pytest.mark.parametrize(
    ("correct", "columns", "options", "message"),
    [
        ([1, 0], {"x": ["a"]}, {}, "column 'x' has 1 values for 2 samples"),
        ([1, np.nan], {}, {}, "only true and false"),
        ([1, 0], {}, {"alpha": 5}, "alpha in"),
        ([1, 0], {}, {"beam": 0}, "beam=0"),
    ],
)
def test_bad_input_is_refused(correct, columns, options, message):
    with pytest.raises(ValueError, match=message):
        find_slices(correct, columns, **options)
