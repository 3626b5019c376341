import math

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize

import robustaug
from robustaug.trust import ood
from robustaug.trust.ood import Bank, Evidence, neighbours


def features(n, width=16, seed=0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, width)).astype(np.float32)


def fitted(rows, k=3, **params):
    score = robustaug.create("ood.knn", k=k, **params)
    ood.fit([score], [Evidence(features=rows)])
    return lambda query: score.score(Evidence(features=query))


@pytest.mark.parametrize("k", [1, 5, 50])
def test_nearest_neighbours_agree_with_scikit_learn(k):
    bank, query = features(120), features(30, seed=1)
    unit_bank, unit_query = (normalize(x.astype(np.float64)) for x in (bank, query))
    distance = NearestNeighbors(n_neighbors=k).fit(unit_bank).kneighbors(unit_query)[0][:, -1]
    assert fitted(bank, k)(query) == pytest.approx(-distance, abs=1e-6)


def test_nearest_neighbours_by_hand():
    score = fitted([[2.0, 0.0], [0.0, 0.5]], 1)
    assert score([[7.0, 0.0], [-1.0, 0.0], [3.0, 3.0]]) == pytest.approx(
        [0, -math.sqrt(2), -math.sqrt(2 - math.sqrt(2))]
    )


def test_the_length_of_a_feature_does_not_count():
    score = fitted(features(30))
    query = features(6, seed=1)
    assert score(query * 64) == pytest.approx(score(query), abs=1e-12)


def test_small_distances_keep_their_digits():
    bank = features(60)
    near = bank + 1e-6 * features(60, seed=2)
    found = fitted(bank, 1)(near)
    assert (found < 0).all()
    assert (found > -1e-5).all()


def test_a_row_of_zeros_is_at_distance_one():
    score = fitted([[1.0, 0.0], [0.6, 0.8]], 1)
    assert score([[0.0, 0.0]]) == pytest.approx([-1])
    with_zero = fitted([[0.0, 0.0], [math.cos(1.4), math.sin(1.4)]], 1)
    assert with_zero([[1.0, 0.0]]) == pytest.approx([-1])  # the other is further away, although more similar


def test_pieces_do_not_change_the_scores(monkeypatch):
    score = fitted(features(100))
    query = features(50, seed=1)
    whole = score(query)
    monkeypatch.setattr(neighbours, "_CHUNK_VALUES", 300)
    assert score(query) == pytest.approx(whole, abs=1e-6)


def test_nothing_as_large_as_bank_times_queries_is_held(monkeypatch):
    monkeypatch.setattr(neighbours, "_CHUNK_VALUES", 1000)
    sizes = []
    topk = torch.Tensor.topk

    def spy(self, *args, **kwargs):
        sizes.append(self.numel())
        return topk(self, *args, **kwargs)

    monkeypatch.setattr(torch.Tensor, "topk", spy)
    fitted(features(100))(features(75, seed=1))
    assert sum(sizes) == 7500
    assert max(sizes) <= 1000


def test_read_only_features_are_taken_without_a_warning(recwarn):
    bank = features(30)
    bank.flags.writeable = False
    fitted(bank)(bank)
    assert not recwarn.list


@pytest.mark.parametrize("k", [0, 2.5, True])
def test_a_neighbour_has_a_number(k):
    with pytest.raises(ValueError, match=f"k must be a whole number >= 1, got {k}"):
        robustaug.create("ood.knn", k=k)


def test_more_neighbours_than_samples_are_refused():
    with pytest.raises(ValueError, match="k must be <= the 30 training features, got 50; set a smaller k"):
        fitted(features(30), k=50)


def test_a_bank_is_a_fair_choice_that_does_not_depend_on_batches():
    rows = torch.arange(5000.0)[:, None]
    kept = []
    for size in (13, 700, 5000):
        bank = Bank(1000, seed=3)
        for part in rows.split(size):
            bank.add(part)
            assert bank.held <= 2000 + size
        kept.append(bank.rows())
    assert len(kept[0]) == 1000
    assert torch.equal(kept[0], kept[1])
    assert torch.equal(kept[0], kept[2])
    assert (kept[0].diff(dim=0) > 0).all()  # in the order of the stream, none twice
    thirds = torch.histc(kept[0], bins=3, min=0, max=5000)
    assert ((thirds - 1000 / 3).abs() < 60).all()  # four standard deviations
    other = Bank(1000, seed=4)
    other.add(rows)
    assert not torch.equal(other.rows(), kept[0])


def test_a_bank_that_is_large_enough_is_all_of_the_data():
    rows = torch.rand(90, 2)
    bank = Bank(90)
    for part in rows.split(40):
        bank.add(part)
    assert torch.equal(bank.rows(), rows)
    assert Bank(3).rows() is None


def test_neighbours_are_looked_for_in_the_bank():
    data = features(500)
    bank = Bank(50, seed=1)
    bank.add(torch.from_numpy(data))
    query = features(9, seed=1)
    assert fitted(data, bank=50, seed=1)(query) == pytest.approx(fitted(bank.rows())(query), abs=1e-6)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_nearest_neighbours_on_cuda_agree_with_the_cpu():
    bank, query = torch.from_numpy(features(200)), torch.from_numpy(features(40, seed=1))
    here = fitted(bank)(query)
    assert fitted(bank.cuda())(query) == pytest.approx(here, abs=1e-5)
    assert fitted(bank)(query.cuda()) == pytest.approx(here, abs=1e-5)
