import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax

from robustaug.trust import conformal
from robustaug.trust.conformal import METHODS, conformal_quantile, fit_sets, load_sets, save_sets


def drawn(n, seed, classes=4, by=3.0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=2, size=(n, classes))
    labels = (rng.random((n, 1)) > softmax(logits, axis=1).cumsum(axis=1)).sum(axis=1).clip(max=classes - 1)
    return logits * by, labels


@pytest.mark.parametrize("method", METHODS)
def test_coverage_is_what_was_promised_and_not_much_more(method):
    covered = []
    for trial in range(300):
        sets = fit_sets(*drawn(99, 2 * trial), 0.2, method, seed=trial, penalty=0.05, free=1)
        covered.append(sets.outcome(*drawn(50, 2 * trial + 1)).covered.mean())
    # 80 of 100 exactly, but for the trials' own chance
    assert np.mean(covered) == pytest.approx(0.8, abs=4 * np.std(covered) / 300**0.5)


@pytest.mark.parametrize("by", ["", "class"])
def test_only_by_class_is_every_class_covered(by):
    covered = np.zeros((200, 2))
    for trial in range(200):
        rng = np.random.default_rng(trial)
        labels = np.repeat([0, 1], [90, 30])
        # the second class is hard: its logits are noise
        logits = rng.normal(size=(240, 2))
        logits[np.tile(labels, 2) == 0, 0] += 3
        sets = fit_sets(logits[:120], labels, 0.2, by=by)
        found = sets.outcome(logits[120:], labels).covered
        covered[trial] = found[labels == 0].mean(), found[labels == 1].mean()
    easy, hard = covered.mean(axis=0)
    assert (hard > 0.78) == (by == "class")
    assert easy > 0.78


def test_cohorts_get_thresholds_of_their_own():
    (hard, a), (easy, b) = drawn(60, 0, by=1.0), drawn(60, 1, by=1.0)
    easy = 50 * np.eye(4)[b] + easy
    logits, labels, cohort = np.concatenate([hard, easy]), np.concatenate([a, b]), ["x"] * 60 + ["y"] * 60
    sets = fit_sets(logits, labels, 0.1, by="cohort", cohort=cohort)
    assert sets.cohorts == ("x", "y")
    assert sets.outcome(logits, labels, cohort=cohort).size[60:].max() <= 1
    alone = fit_sets(hard, a, 0.1)
    assert sets.thresholds[0] == alone.thresholds[0]
    assert np.array_equal(sets.sets(hard, cohort=["x"] * 60), alone.sets(hard))


@pytest.mark.parametrize(("n", "alpha"), [(9, 0.1), (99, 0.01), (4, 0.2), (1, 0.5), (199, 0.1)])
def test_the_quantile_is_the_exact_one(n, alpha):
    scores = np.random.default_rng(0).permutation(n) + 1.0
    exact = -(-(n + 1) * round(1000 * (1 - alpha)) // 1000)  # in whole numbers
    assert conformal_quantile(scores, alpha) == exact


def test_adaptive_scores_by_hand(monkeypatch):
    monkeypatch.setattr(conformal, "_uniform", lambda seed, n, index, use: np.full(n, 0.5))
    p = np.array([[0.2, 0.5, 0.3]])
    wanted = [[0.5 + 0.3 + 0.1, 0.25, 0.5 + 0.15]]
    assert conformal._scores("aps", p, np.array([0.5]), 0, 0) == pytest.approx(np.array(wanted))
    wanted = [[0.9 + 0.2, 0.25, 0.65 + 0.1]]
    assert conformal._scores("raps", p, np.array([0.5]), 0.1, 1) == pytest.approx(np.array(wanted))
    assert conformal._scores("lac", p, np.array([0.5]), 0, 0) == pytest.approx(1 - p)


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(METHODS), st.integers(1, 30), st.integers(2, 5), st.booleans(), st.integers(0, 1000))
def test_sets_follow_the_sample_and_not_the_batch(method, n, classes, tied, seed):
    rng = np.random.default_rng(seed)
    logits, labels = rng.normal(size=(n, classes)), rng.integers(0, classes, n)
    logits = np.zeros_like(logits) if tied else logits
    sets = fit_sets(logits, labels, 0.6, method, seed=seed)
    whole = sets.sets(logits, index=np.arange(n) + 7)
    single = [sets.sets(torch.from_numpy(row[None]), index=[at + 7]) for at, row in enumerate(logits)]
    assert np.array_equal(whole, np.concatenate(single))
    found = sets.outcome(logits, labels, index=np.arange(n) + 7)
    assert found.size.tolist() == whole.sum(axis=1).tolist()
    assert found.covered.tolist() == whole[np.arange(n), labels].tolist()


def test_one_class_predicted_everywhere_leaves_sets_that_tell():
    logits, labels = np.tile([5.0, 0.0, 0.0], (60, 1)), np.arange(60) % 3
    found = fit_sets(logits, labels, 0.1).outcome(logits, labels)
    assert found.size.tolist() == [3] * 60
    assert found.covered.all()


def test_a_row_without_a_softmax_has_the_empty_set():
    sets = fit_sets(*drawn(50, 0))
    found = sets.outcome([[np.nan, 0, 0, 0], [9.0, 0, 0, 0]], [1, 0])
    assert found.size.tolist() == [0, 1]
    assert found.covered.tolist() == [False, True]


@pytest.mark.parametrize("options", [{}, {"by": "class", "method": "raps", "seed": 3}, {"by": "cohort"}])
def test_stored_sets_are_the_same(options, tmp_path):
    logits, labels = drawn(200, 0)
    cohort = {"cohort": [str(at % 3) for at in range(200)]} if options.get("by") == "cohort" else {}
    sets = fit_sets(logits, labels, 0.2, **options, **cohort)
    save_sets(tmp_path / "sets.safetensors", sets)
    again = load_sets(tmp_path / "sets.safetensors")
    assert np.array_equal(again.sets(logits, **cohort), sets.sets(logits, **cohort))
    assert again.cohorts == sets.cohorts
    (tmp_path / "sets.safetensors").write_bytes(b"no")
    with pytest.raises(ValueError, match="damaged or holds no prediction sets"):
        load_sets(tmp_path / "sets.safetensors")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 0.001}, "alpha = 0.001 needs at least 999 held-out samples, got 50"),
        ({"alpha": 0.05, "by": "class"}, "needs at least 19 held-out samples of class [0-3], got"),
        ({"by": "cohort", "cohort": ["a"] * 49 + ["b"]}, "at least 9 held-out samples of cohort 'b', got 1"),
        ({"alpha": 10}, r"alpha must be in \(0, 1\), got 10; write 0.1"),
        ({"method": "apps"}, "method must be one of lac, aps, raps"),
        ({"by": "klass"}, "by must be"),
        ({"by": "cohort"}, "go together"),
        ({"by": "cohort", "cohort": ["a"]}, "50 of them, got 1"),
        ({"index": [1, 2]}, "50 samples, 2 indices"),
    ],
)
def test_what_cannot_be_fitted_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        fit_sets(*drawn(50, 0), **options)


def test_new_samples_must_fit():
    sets = fit_sets(*drawn(60, 0), by="cohort", cohort=["a"] * 30 + ["b"] * 30)
    with pytest.raises(ValueError, match="cohort 'c' has no threshold; fitted were a, b"):
        sets.sets(np.zeros((1, 4)), cohort=["c"])
    with pytest.raises(ValueError, match="must have one entry a sample, 1 of them, got none"):
        sets.sets(np.zeros((1, 4)))
    with pytest.raises(ValueError, match=r"shape \(N, 4\) with N >= 1, got \(1, 3\)"):
        sets.sets(np.zeros((1, 3)), cohort=["a"])
