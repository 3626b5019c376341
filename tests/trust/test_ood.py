import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp, softmax
from scipy.stats import mannwhitneyu
from sklearn.metrics import roc_curve
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize

import robustaug
from robustaug.trust import ood

LOGITS = np.random.default_rng(0).normal(scale=3, size=(40, 7))
NAMES = robustaug.list(kind="score")


def features(n, width=16, seed=0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, width)).astype(np.float32)


def make(name):
    return robustaug.create(name, **({"k": 3} if name == "ood.knn" else {}))


def test_the_scores():
    assert {"ood.msp", "ood.energy", "ood.max_logit", "ood.knn"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["float16", "float32", "float64"])
@pytest.mark.parametrize("convert", [np.asarray, torch.from_numpy])
def test_every_score_has_the_same_face(name, kind, convert):
    score = make(name)
    bank, values = features(30), convert(features(9, seed=1).astype(kind))
    assert score.fit(bank) is score
    found = score.score(values)
    assert isinstance(found, np.ndarray)
    assert found.dtype == np.float64
    assert found.shape == (9,)
    assert score.needs in ("logits", "features")
    assert score.name == name
    assert score.score(values[:0]).shape == (0,)


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_scores_like_its_rows_and_the_input_stays(name):
    score = make(name).fit(features(30))
    query = features(8, seed=1)
    before = query.copy()
    one_by_one = np.concatenate([score.score(row[None]) for row in query])
    assert score.score(query) == pytest.approx(one_by_one, abs=1e-6)
    assert np.array_equal(query, before)


@pytest.mark.parametrize("name", NAMES)
def test_nan_scores_nan_and_only_there(name):
    query = features(5, seed=1)
    query[2, 3] = np.nan
    assert np.isnan(make(name).fit(features(30)).score(query)).tolist() == [False, False, True, False, False]


@pytest.mark.parametrize("name", NAMES)
def test_another_rank_is_refused(name):
    with pytest.raises(ValueError, match=r"must have shape \(N, [KD]\), got \(4,\)"):
        make(name).fit(features(30)).score(np.zeros(4))


def test_scores_of_logits_against_their_formulas():
    assert robustaug.create("ood.msp").score(LOGITS) == pytest.approx(softmax(LOGITS, axis=1).max(axis=1))
    assert robustaug.create("ood.max_logit").score(LOGITS) == pytest.approx(LOGITS.max(axis=1))
    assert robustaug.create("ood.energy").score(LOGITS) == pytest.approx(logsumexp(LOGITS, axis=1))
    scaled = robustaug.create("ood.energy", temperature=2.5).score(LOGITS)
    assert scaled == pytest.approx(2.5 * np.asarray(logsumexp(LOGITS / 2.5, axis=1)))


def test_energy_goes_to_the_greatest_logit_and_does_not_overflow():
    cold = robustaug.create("ood.energy", temperature=1e-3).score(LOGITS)
    assert cold == pytest.approx(LOGITS.max(axis=1), abs=0.01)
    assert robustaug.create("ood.energy").score([[5000.0, 0.0]]) == pytest.approx(5000)


@pytest.mark.parametrize("temperature", [0, -1, math.nan, math.inf])
def test_a_temperature_must_be_positive(temperature):
    with pytest.raises(ValueError, match="temperature must be > 0"):
        robustaug.create("ood.energy", temperature=temperature)


@pytest.mark.parametrize("k", [1, 5, 50])
def test_nearest_neighbours_agree_with_scikit_learn(k):
    bank, query = features(120), features(30, seed=1)
    unit_bank, unit_query = (normalize(x.astype(np.float64)) for x in (bank, query))
    distance = NearestNeighbors(n_neighbors=k).fit(unit_bank).kneighbors(unit_query)[0][:, -1]
    assert robustaug.create("ood.knn", k=k).fit(bank).score(query) == pytest.approx(-distance, abs=1e-6)


def test_nearest_neighbours_by_hand():
    score = robustaug.create("ood.knn", k=1).fit([[2.0, 0.0], [0.0, 0.5]])
    assert score.score([[7.0, 0.0], [-1.0, 0.0], [3.0, 3.0]]) == pytest.approx(
        [0, -math.sqrt(2), -math.sqrt(2 - math.sqrt(2))]
    )


def test_the_length_of_a_feature_does_not_count():
    score = make("ood.knn").fit(features(30))
    query = features(6, seed=1)
    assert score.score(query * 64) == pytest.approx(score.score(query), abs=1e-12)


def test_small_distances_keep_their_digits():
    bank = features(60)
    near = bank + 1e-6 * features(60, seed=2)
    found = robustaug.create("ood.knn", k=1).fit(bank).score(near)
    assert (found < 0).all()
    assert (found > -1e-5).all()


def test_a_row_of_zeros_is_at_distance_one():
    score = robustaug.create("ood.knn", k=1).fit([[1.0, 0.0], [0.6, 0.8]])
    assert score.score([[0.0, 0.0]]) == pytest.approx([-1])
    with_zero = robustaug.create("ood.knn", k=1).fit([[0.0, 0.0], [math.cos(1.4), math.sin(1.4)]])
    assert with_zero.score([[1.0, 0.0]]) == pytest.approx([-1])  # the other is further away, although more similar


def test_pieces_do_not_change_the_scores(monkeypatch):
    score = make("ood.knn").fit(features(100))
    query = features(50, seed=1)
    whole = score.score(query)
    monkeypatch.setattr(ood, "_CHUNK_VALUES", 300)
    assert score.score(query) == pytest.approx(whole, abs=1e-6)


def test_nothing_as_large_as_bank_times_queries_is_held(monkeypatch):
    monkeypatch.setattr(ood, "_CHUNK_VALUES", 1000)
    sizes = []
    topk = torch.Tensor.topk

    def spy(self, *args, **kwargs):
        sizes.append(self.numel())
        return topk(self, *args, **kwargs)

    monkeypatch.setattr(torch.Tensor, "topk", spy)
    make("ood.knn").fit(features(100)).score(features(75, seed=1))
    assert sum(sizes) == 7500
    assert max(sizes) <= 1000


def test_read_only_features_are_taken_without_a_warning(recwarn):
    bank = features(30)
    bank.flags.writeable = False
    make("ood.knn").fit(bank).score(bank)
    assert not recwarn.list


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: robustaug.create("ood.knn", k=0), "k must be a whole number >= 1, got 0"),
        (lambda: robustaug.create("ood.knn", k=2.5), "k must be a whole number >= 1, got 2.5"),
        (lambda: robustaug.create("ood.knn").fit(features(30)), "k must be <= the 30 training features, got 50"),
        (lambda: robustaug.create("ood.knn").fit(), "needs the training features"),
        (lambda: robustaug.create("ood.knn").score(features(3)), "not fitted"),
        (lambda: make("ood.knn").fit(features(9) * np.nan), "9 of 9 training features hold NaN"),
        (lambda: make("ood.knn").fit(features(9)).score(features(3, width=4)), "fitted on 16 features a sample, got 4"),
    ],
)
def test_nearest_neighbours_say_what_they_miss(act, message):
    with pytest.raises(ValueError, match=message):
        act()


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_nearest_neighbours_on_cuda_agree_with_the_cpu():
    bank, query = torch.from_numpy(features(200)), torch.from_numpy(features(40, seed=1))
    here = make("ood.knn").fit(bank).score(query)
    assert make("ood.knn").fit(bank.cuda()).score(query) == pytest.approx(here, abs=1e-5)
    assert make("ood.knn").fit(bank).score(query.cuda()) == pytest.approx(here, abs=1e-5)


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
