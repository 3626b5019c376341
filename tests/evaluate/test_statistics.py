import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, false_discovery_control, norm
from sklearn.metrics import roc_auc_score

from robustaug.evaluate import statistics
from robustaug.evaluate.statistics import (
    auroc_interval,
    bootstrap_ci,
    bootstrap_statistic,
    clopper_pearson_lower,
    holm,
    mcnemar,
    paired_bootstrap,
    wilson,
)

OUTCOMES = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=50)


@pytest.mark.parametrize(("successes", "n"), [(0, 1), (0, 30), (1, 1), (7, 9), (18, 20), (30, 30), (4321, 10_000)])
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
def test_wilson_agrees_with_scipy(successes, n, confidence):
    expected = binomtest(successes, n).proportion_ci(confidence, method="wilson")
    found = wilson(successes, n, confidence)
    assert found.estimate == successes / n
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize("alpha", [0.001, 0.05, 0.5])
def test_clopper_pearson_agrees_with_scipy(alpha):
    counts = [0, 1, 5, 17, 29, 30]
    tests = [binomtest(k, 30, alternative="greater").proportion_ci(1 - alpha, method="exact") for k in counts]
    assert clopper_pearson_lower(counts, 30, alpha) == pytest.approx([t.low for t in tests], abs=1e-12)
    with pytest.raises(ValueError, match="0 <= successes <= n"):
        clopper_pearson_lower([31], 30, alpha)
    with pytest.raises(ValueError, match=r"alpha must be in \(0, 1\), got 5"):
        clopper_pearson_lower([3], 30, 5)


def test_the_interval_of_auroc_is_delongs_and_covers():
    """The variance written out with every pair; 300 draws of two normals whose AUROC is known: 95 % within 3 sigma."""
    draw = np.random.default_rng(0)
    a, b = draw.normal(1, 1, 30).round(1), draw.normal(0, 1, 40).round(1)
    wins = (a[:, None] > b) + 0.5 * (a[:, None] == b)
    half = 1.959964 * math.sqrt(wins.mean(1).var(ddof=1) / 30 + wins.mean(0).var(ddof=1) / 40)
    found = auroc_interval(a, b)
    assert found.estimate == pytest.approx(wins.mean()) == pytest.approx(roc_auc_score([1] * 30 + [0] * 40, [*a, *b]))
    assert (found.low, found.high) == pytest.approx((wins.mean() - half, min(1, wins.mean() + half)))
    true, covered = norm.cdf(1 / math.sqrt(2)), 0
    for _ in range(300):
        _, low, high = auroc_interval(draw.normal(1, 1, 60), draw.normal(0, 1, 60))
        covered += low <= true <= high
    assert covered / 300 >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / 300)
    assert auroc_interval([2, 3], [0, 1]) == wilson(2, 2)  # wholly apart, which two of a kind may be by chance
    assert auroc_interval([0, 1], [2, 3, 4]) == wilson(0, 2)
    assert auroc_interval([1, 1, 1], [1, 1, 1, 1]) == wilson(1.5, 3)
    with pytest.raises(ValueError, match="at least two scores of either kind, got 1 and 2"):
        auroc_interval([1], [0, 1])


@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
@settings(max_examples=60, deadline=None)
def test_wilson_is_ordered_and_symmetric(counts):
    k, n = counts
    estimate, low, high = wilson(k, n)
    assert 0 <= low <= estimate <= high <= 1
    mirrored = wilson(n - k, n)
    assert (low, high) == pytest.approx((1 - mirrored.high, 1 - mirrored.low))


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (-1, 5), (6, 5)])
def test_wilson_refuses_impossible_counts(successes, n):
    with pytest.raises(ValueError, match=f"got successes={successes}, n={n}"):
        wilson(successes, n)


def test_a_seed_gives_one_interval():
    a, b = np.arange(200) % 3 == 0, np.linspace(0, 1, 200)
    for first, second in ((a, ~a), (a, b)):  # drawn as counts, and by index
        assert paired_bootstrap(first, second, seed=5) == paired_bootstrap(first, second, seed=5)
    assert paired_bootstrap(a, b, seed=5) != paired_bootstrap(a, b, seed=6)


def test_no_global_generator_is_touched():
    torch.manual_seed(1)
    state, legacy = torch.random.get_rng_state(), repr(np.random.get_state())  # noqa: NPY002
    bootstrap_ci(np.linspace(0, 1, 30), n_resamples=100)
    assert torch.equal(state, torch.random.get_rng_state())
    assert repr(np.random.get_state()) == legacy  # noqa: NPY002


def test_the_order_of_samples_does_not_matter_for_shares():
    rng = np.random.default_rng(0)
    a, b = rng.random(300) < 0.7, rng.random(300) < 0.8
    order = rng.permutation(300)
    assert paired_bootstrap(a, b) == paired_bootstrap(a[order], b[order])


def test_the_estimate_is_b_less_a():
    a, b = [1, 0, 0, 0], [1, 1, 1, 0]
    assert paired_bootstrap(a, b).estimate == 0.5
    assert paired_bootstrap(b, a).estimate == -0.5


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_the_interval_of_a_share_meets_the_normal_one_for_many_samples(share):
    n = 20_000
    values = np.arange(n) < share * n
    half = 1.96 * math.sqrt(share * (1 - share) / n)
    found = bootstrap_ci(values)
    assert (found.low, found.high) == pytest.approx((share - half, share + half), abs=half * 0.05)


def test_counts_and_indices_draw_from_the_same_distribution(monkeypatch):
    values = np.repeat([-1.0, 0.0, 1.0], [20, 50, 30])
    by_counts = bootstrap_ci(values)
    monkeypatch.setattr(statistics, "_FEW_VALUES", 0)
    by_indices = bootstrap_ci(values)
    assert by_counts != by_indices
    assert by_counts == pytest.approx(by_indices, abs=0.012)


def test_resampled_counts_are_multinomial():
    counts = np.array([10, 25, 0, 65])
    drawn = statistics._multinomial(counts, seed=0, n_resamples=20_000)
    assert (drawn >= 0).all()
    assert (drawn.sum(axis=1) == 100).all()
    p = counts / 100
    assert drawn.mean(axis=0) == pytest.approx(counts, abs=0.15)
    assert np.cov(drawn.T) == pytest.approx(100 * (np.diag(p) - np.outer(p, p)), abs=0.7)


def test_resampled_rows_are_uniform():
    rows = np.concatenate([*statistics._resamples(10, seed=0, n_resamples=20_000)])
    assert rows.shape == (20_000, 10)
    assert np.bincount(rows.ravel(), minlength=10) / rows.size == pytest.approx(0.1, abs=0.003)


def test_pieces_do_not_change_the_draws(monkeypatch):
    values = np.random.default_rng(0).normal(size=40)
    whole = bootstrap_ci(values, n_resamples=500)
    sizes = []
    draw = statistics._resamples
    monkeypatch.setattr(statistics, "_CHUNK_DRAWS", 1000)
    monkeypatch.setattr(statistics, "_resamples", lambda *a: (sizes.append(r.size) or r for r in draw(*a)))
    assert bootstrap_ci(values, n_resamples=500) == whole
    assert max(sizes) <= 1000


@pytest.mark.parametrize("shift", [0.0, 0.08])
def test_the_paired_interval_covers_the_truth_as_often_as_it_says(shift):
    rng = np.random.default_rng(7)
    rounds, n, covered = 400, 200, 0
    for seed in range(rounds):
        hard = rng.random(n)
        a, b = hard < 0.7, (hard + 0.1 * rng.normal(size=n)) < 0.7 + shift
        truth = b_rate(shift) - 0.7
        _, low, high = paired_bootstrap(a, b, seed=seed, n_resamples=1000)
        covered += low <= truth <= high
    assert 0.91 <= covered / rounds <= 0.98  # the percentile interval is a little short at n = 200


def b_rate(shift):
    """P(U + 0.1 Z < 0.7 + shift) by integration over the uniform U."""
    from scipy.stats import norm

    u = (np.arange(100_000) + 0.5) / 100_000
    return float(norm.cdf((0.7 + shift - u) / 0.1).mean())


def test_pairing_narrows_the_interval():
    rng = np.random.default_rng(1)
    a = rng.random(500) < 0.7
    b = np.where(rng.random(500) < 0.05, ~a, a)
    paired = paired_bootstrap(a, b)
    apart = paired_bootstrap(a, rng.permutation(b))
    assert paired.high - paired.low < 0.5 * (apart.high - apart.low)


def test_losses_can_be_paired_too():
    rng = np.random.default_rng(2)
    a = rng.gamma(2, size=300)
    found = paired_bootstrap(a, a + 0.5 + 0.1 * rng.normal(size=300), n_resamples=2000)
    assert found.low < 0.5 < found.high
    assert found.high - found.low < 0.05


@pytest.mark.parametrize("outcomes", [np.zeros(10), np.ones(10), np.arange(10) % 2])
def test_identical_outcomes_differ_by_nothing(outcomes):
    assert paired_bootstrap(outcomes, outcomes) == (0, 0, 0)
    assert mcnemar(outcomes, outcomes) == (0, 0, 1.0)


def test_one_sample_and_equal_values_give_no_width():
    assert bootstrap_ci([0.3]) == (0.3, 0.3, 0.3)
    assert bootstrap_ci([True] * 8) == (1, 1, 1)


@settings(max_examples=30, deadline=None)
@given(OUTCOMES)
def test_intervals_are_ordered_and_swap_with_the_models(pairs):
    a, b = np.array(pairs).T
    estimate, low, high = paired_bootstrap(a, b, n_resamples=200)
    assert -1 <= low <= high <= 1
    assert estimate == pytest.approx(b.mean() - a.mean())
    first, second = mcnemar(a, b), mcnemar(b, a)
    assert 0 < first.p_value <= 1
    assert (first.only_a, first.only_b, first.p_value) == (second.only_b, second.only_a, second.p_value)


def test_a_statistic_that_is_no_mean():
    values = np.random.default_rng(0).normal(size=101)
    found = bootstrap_statistic(lambda rows: float(np.median(values[rows])), len(values))
    assert found.estimate == np.median(values)
    assert found.low < found.estimate < found.high
    mean = bootstrap_statistic(lambda rows: float(values[rows].mean()), len(values), n_resamples=1000)
    assert mean == pytest.approx(bootstrap_ci(values, n_resamples=1000))


def test_a_statistic_without_a_value_is_refused():
    with pytest.raises(ValueError, match="NaN on 101 of 101"):
        bootstrap_statistic(lambda rows: math.nan, 5, n_resamples=100)
    with pytest.raises(ValueError, match="n must be >= 1, got 0"):
        bootstrap_statistic(lambda rows: 0.0, 0)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: paired_bootstrap([1, 0], [1]), "same samples, got 2 and 1"),
        (lambda: mcnemar([1, 0], [1]), "same samples, got 2 and 1"),
        (lambda: paired_bootstrap([], []), r"a must have shape \(N,\) with N >= 1"),
        (lambda: mcnemar([], []), r"a must have shape \(N,\) with N >= 1"),
        (lambda: paired_bootstrap([1, 0], [1, np.nan]), "b must be finite, 1 of 2 values are not"),
        (lambda: bootstrap_ci([1, np.inf]), "values must be finite, 1 of 2"),
        (lambda: bootstrap_ci([[1.0]]), r"got \(1, 1\)"),
        (lambda: mcnemar([0, 2], [0, 1]), "a must hold only true and false"),
        (lambda: bootstrap_ci([1, 0], confidence=95), r"confidence must be in \(0, 1\), got 95; write 0.95"),
        (lambda: bootstrap_ci([1, 0], n_resamples=10), "n_resamples must be >= 40 for confidence 0.95, got 10"),
        (lambda: bootstrap_ci([1, 0], seed=-1), "seed must be in"),
    ],
)
def test_what_has_no_interval_is_refused(act, message):
    with pytest.raises(ValueError, match=message):
        act()


@pytest.mark.parametrize(
    ("only_a", "only_b", "p"),
    [(0, 5, 2 * 0.5**5), (1, 5, 2 * (1 + 6) * 0.5**6), (3, 3, 1.0), (10, 0, 2 * 0.5**10), (1, 0, 1.0)],
)
def test_mcnemar_by_hand(only_a, only_b, p):
    a = np.repeat([1, 0, 1, 0], [only_a, only_b, 4, 2])
    b = np.repeat([0, 1, 1, 0], [only_a, only_b, 4, 2])
    found = mcnemar(a, b)
    assert (found.only_a, found.only_b) == (only_a, only_b)
    assert found.p_value == pytest.approx(p)


def test_mcnemar_meets_the_chi_square_test_for_many_pairs():
    from scipy.stats import chi2

    a, b = np.repeat([1, 0], [5200, 4800]), np.repeat([0, 1], [5200, 4800])
    corrected = chi2.sf((400 - 1) ** 2 / 10_000, 1)
    assert mcnemar(a, b).p_value == pytest.approx(corrected, rel=0.01)


def test_mcnemar_keeps_its_level():
    rng = np.random.default_rng(3)
    p = [mcnemar(*(rng.random((2, 60)) < 0.8)).p_value for _ in range(400)]
    assert np.mean(np.array(p) <= 0.05) <= 0.07


def test_holm_by_hand():
    # Holm's steps: 4 x .005, then 3 x .011, 2 x .02, 1 x .04, each at least the one before
    assert holm([0.02, 0.005, 0.04, 0.011]) == pytest.approx([0.04, 0.02, 0.04, 0.033])
    assert holm([0.6, 0.9]).tolist() == [1, 1]
    assert holm([]).tolist() == []
    assert holm([0.03]).tolist() == [0.03]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_lies_between_uncorrected_and_bonferroni_and_keeps_the_order(p):
    corrected = holm(p)
    p = np.array(p)
    assert (corrected >= p).all()
    assert (corrected <= np.minimum(1, p * len(p)) + 1e-12).all()
    assert (np.diff(corrected[np.argsort(p, kind="stable")]) >= 0).all()
    assert (corrected >= false_discovery_control(p) - 1e-12).all()  # the weaker promise corrects less


@pytest.mark.parametrize(
    ("p", "message"), [([0.1, np.nan], "1 of 2 are not"), ([-0.1], "1 of 1"), ([[0.1]], r"shape \(M,\)")]
)
def test_holm_refuses_what_is_no_p_value(p, message):
    with pytest.raises(ValueError, match=message):
        holm(p)
