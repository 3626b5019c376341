import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from robustaug.evaluate import clusters
from robustaug.evaluate.clusters import KEPT, embedded, find_clusters, over_represented
from robustaug.models.classifier import wrap

INDEX = np.arange(1200)


def blobs(draw, n=1200):
    """Six groups of eight features, and which each sample is in."""
    at = draw.integers(0, 6, n)
    return draw.normal(size=(6, 8))[at] * 4 + draw.normal(size=(n, 8)), at


def test_a_planted_group_is_found_and_measured_on_the_half_that_it_was_not_found_on():
    draw = np.random.default_rng(0)
    x, at = blobs(draw)
    correct = draw.random(1200) < np.where(at == 2, 0.5, 0.95)
    [one] = find_clusters(x, correct, INDEX).found
    assert (at[one.members] == 2).mean() > 0.9
    assert one.low < 0.5 < one.high
    assert one.n < one.members.sum()
    assert one.rest < 0.1
    assert one.p_value < 1e-6


def test_by_chance_alone_the_false_alarm_rate_is_held(monkeypatch):
    """Errors that have nothing to do with the features, 150 times: at most 5 % may find anything."""
    monkeypatch.setattr(clusters, "_COUNTS", (4, 8))
    draw, alarms = np.random.default_rng(1), 0
    for run in range(150):
        x, _ = blobs(draw, 400)
        alarms += bool(find_clusters(x, draw.random(400) < 0.8, INDEX[:400], min_size=10, seed=run).found)
    assert binomtest(alarms, 150, 0.05, alternative="greater").pvalue > 0.01


def test_the_same_samples_in_another_order_give_the_same_halves():
    draw = np.random.default_rng(2)
    x, at = blobs(draw)
    correct = draw.random(1200) < np.where(at == 1, 0.5, 0.95)
    order = draw.permutation(1200)
    one, other = find_clusters(x, correct, INDEX).found, find_clusters(x[order], correct[order], INDEX[order]).found
    assert [a.n for a in one] == pytest.approx([a.n for a in other], rel=0.05)
    again = find_clusters(x, correct, INDEX).found
    assert [a[1:] for a in again] == [a[1:] for a in one]


@pytest.mark.parametrize("correct", [np.ones(1200), np.zeros(1200)])
def test_where_nothing_can_differ_nothing_is_found(correct):
    assert find_clusters(np.random.default_rng(3).normal(size=(1200, 4)), correct, INDEX).found == []
    assert find_clusters(np.ones((1200, 4)), correct, INDEX).found == []


def test_too_few_samples_are_not_searched():
    found = find_clusters(np.eye(30, 4), np.arange(30) % 2, np.arange(30))
    assert found == ([], 0)


def test_over_representation_is_tested_and_sorted_by_share():
    values = np.array(["a"] * 50 + ["b"] * 50 + ["c"] * 300)
    inside = np.r_[np.ones(40), np.zeros(10), np.ones(20), np.zeros(30), np.ones(20), np.zeros(280)].astype(bool)
    assert over_represented(values, inside, 0.01) == [("a", 0.5), ("b", 0.25)]
    assert over_represented(values, np.ones(400, dtype=bool), 0.01) == []


def test_an_embedding_keeps_distances_and_is_the_features_where_they_are_few():
    few = wrap(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3)), num_classes=3).eval()
    x = torch.rand(40, 3, 2, 2)
    np.testing.assert_allclose(embedded(few.features(x))["embedding"], x.flatten(1).numpy())
    many = wrap(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3072, 3)), num_classes=3).eval()
    images = torch.rand(40, 3, 32, 32)
    kept = embedded(many.features(images))["embedding"]
    assert kept.shape == (40, KEPT)
    ratio = np.linalg.norm(kept[1:] - kept[0], axis=1) / (images[1:] - images[0]).flatten(1).norm(dim=1).numpy()
    assert 0.8 < np.median(ratio) < 1.25
    assert embedded(None) == {}


@pytest.mark.parametrize(
    ("x", "correct", "options", "message"),
    [
        (np.ones((3, 2)), [1, 0], {}, r"must have shape \(N, E\)"),
        ([[np.nan], [1.0]], [1, 0], {}, "must be finite"),
        (np.ones((2, 2)), [1, 2], {}, "only true and false"),
        (np.ones((2, 2)), [1, 0], {"alpha": 5}, "alpha in"),
    ],
)
def test_bad_input_is_refused(x, correct, options, message):
    with pytest.raises(ValueError, match=message):
        find_clusters(x, correct, np.arange(2), **options)
