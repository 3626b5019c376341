"""Philox against its published vectors, and keys that depend on the sample alone."""

import pytest
import torch
from scipy import stats

from robustaug import rng
from robustaug.rng import Keys, normal_field, permutation, philox, subset, torch_seed, uniform_field

# Known answers of the Random123 distribution (kat_vectors, philox4x32, 10 rounds)
KNOWN_ANSWERS = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def words(text: str) -> list[int]:
    return [int(word, 16) for word in text.split()]


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS)
def test_known_answers(counter, key, answer):
    tensors = [torch.tensor([word]) for word in words(counter)]
    out = philox(tensors, [torch.tensor([word]) for word in words(key)])
    assert [int(word) for word in out] == words(answer)
    c0, c1, c2, c3 = words(counter)
    k0, k1 = words(key)
    assert list(rng._philox_int((c0, c1, c2, c3), (k0, k1))) == words(answer)


def test_all_known_answers_in_one_batch():
    counter = torch.tensor([words(row[0]) for row in KNOWN_ANSWERS]).unbind(1)
    key = torch.tensor([words(row[1]) for row in KNOWN_ANSWERS]).unbind(1)
    assert torch.stack(philox(counter, key), dim=1).tolist() == [words(row[2]) for row in KNOWN_ANSWERS]


def test_draws_belong_to_the_sample_not_to_its_batch():
    keys = Keys.of(5, 100, epoch=2).fold("operator")
    whole = keys.uniform(3)
    order = torch.randperm(100, generator=torch.Generator().manual_seed(0))
    assert torch.equal(Keys.of(5, order, epoch=2).fold("operator").uniform(3), whole[order])
    for i in (0, 17, 99):
        assert torch.equal(Keys.of(5, [i], epoch=2).fold("operator").uniform(3)[0], whole[i])
    assert torch.equal(keys[20:30].uniform(3), whole[20:30])
    assert torch.equal(keys[order < 50].uniform(3), whole[order < 50])


def test_fields_belong_to_the_sample_not_to_its_batch():
    keys = Keys.of(1, 7)
    field = uniform_field(keys.rows(), (3, 5, 4))
    assert field.shape == (7, 3, 5, 4)
    assert torch.equal(uniform_field(keys.rows()[[4, 2]], (3, 5, 4)), field[[4, 2]])
    # numbers are handed out in order: a smaller field is the beginning of a larger one
    assert torch.equal(uniform_field(keys.rows(), (20,)), field.reshape(7, -1)[:, :20])


def test_large_fields_are_made_in_pieces_that_do_not_show(monkeypatch):
    rows = Keys.of(3, 9).rows()
    whole = rng.torch_floats(rows, 300, 1, rng.box_muller)
    monkeypatch.setattr(rng, "_CHUNK_BLOCKS", 160)
    assert torch.equal(rng.torch_floats(rows, 300, 1, rng.box_muller), whole)


def test_seed_epoch_operator_index_and_use_all_matter():
    base = Keys.of(1, [3], epoch=0).fold("a")
    others = [
        Keys.of(2, [3]).fold("a"),
        Keys.of(1 << 40, [3]).fold("a"),
        Keys.of(1, [3], epoch=1).fold("a"),
        Keys.of(1, [4]).fold("a"),
        Keys.of(1, [3 + (1 << 32)]).fold("a"),
        Keys.of(1, [3]).fold("b"),
        Keys.of(1, [3]).fold(0),
        Keys.of(1, [3]).fold("a").fold("a"),
    ]
    draws = [tuple(keys.bits(2)[0].tolist()) for keys in [base, *others]]
    draws.append(tuple(uniform_field(base.rows(), (2,)).flatten().tolist()))
    assert len(set(draws)) == len(draws)


def test_a_number_and_its_name_fold_to_different_keys():
    keys = Keys.of(0, 1)
    assert keys.fold(7).key != keys.fold("7").key
    assert keys.fold(7).key != keys.fold(7 + (1 << 32)).key


def test_uniforms_are_uniform():
    drawn = Keys.of(11, 2000).uniform(20)
    assert drawn.dtype == torch.float32
    assert drawn.min() >= 0
    assert drawn.max() < 1
    assert stats.kstest(drawn.flatten().double().numpy(), "uniform").pvalue > 1e-3
    field = uniform_field(Keys.of(11, 4).rows(), (100, 100)).flatten().double()
    assert stats.kstest(field.numpy(), "uniform").pvalue > 1e-3


def test_normals_are_normal():
    drawn = Keys.of(12, 2000).normal(15)
    assert drawn.shape == (2000, 15)
    assert stats.kstest(drawn.flatten().double().numpy(), "norm").pvalue > 1e-3
    field = normal_field(Keys.of(12, 4).rows(), (101, 99)).flatten().double()
    assert stats.kstest(field.numpy(), "norm").pvalue > 1e-3
    assert torch.isfinite(field).all()


def test_neighbouring_samples_epochs_and_seeds_are_uncorrelated():
    def draws(seed=0, epoch=0, shift=0):
        return Keys.of(seed, torch.arange(20_000) + shift, epoch).uniform()[:, 0].double()

    together = torch.stack([draws(), draws(shift=1), draws(epoch=1), draws(seed=1)])
    assert (torch.corrcoef(together) - torch.eye(4)).abs().max() < 0.03


def test_every_bit_is_as_often_set():
    bits = Keys.of(4, 5000).bits(4)
    assert bits.min() >= 0
    assert bits.max() < 1 << 32
    share = torch.stack([((bits >> k) & 1).double().mean() for k in range(32)])
    assert (share - 0.5).abs().max() < 0.015


@pytest.mark.parametrize("n", [0, 1, 2, 1000])
def test_permutation_is_one_and_changes_with_the_epoch(n):
    order = permutation(n, seed=3)
    assert torch.equal(order.sort().values, torch.arange(n))
    assert torch.equal(order, permutation(n, seed=3))
    if n == 1000:
        assert not torch.equal(order, permutation(n, seed=3, epoch=1))
        assert not torch.equal(order, permutation(n, seed=4))
        assert abs(float(torch.corrcoef(torch.stack([order, torch.arange(n)]).double())[0, 1])) < 0.1


def test_a_subset_is_a_random_choice_in_order():
    chosen = subset(1000, 100, seed=3)
    assert torch.equal(chosen, subset(1000, 100, seed=3))
    assert torch.equal(chosen, chosen.unique())
    assert len(chosen) == 100
    assert 350 < float(chosen.double().mean()) < 650  # from all of the range, not its beginning
    assert not torch.equal(chosen, subset(1000, 100, seed=4))
    for limit in (None, 7, 8):
        assert torch.equal(subset(7, limit, seed=3), torch.arange(7))


def test_torch_seed_gives_the_same_draws_and_puts_the_state_back():
    torch.manual_seed(99)
    before = torch.random.get_rng_state()
    with torch_seed(7):
        first = torch.rand(3)
    assert torch.equal(torch.random.get_rng_state(), before)
    with pytest.raises(RuntimeError, match="inside"), torch_seed(7):
        assert torch.equal(torch.rand(3), first)
        raise RuntimeError("inside")
    assert torch.equal(torch.random.get_rng_state(), before)


def test_drawing_reads_no_global_state():
    torch.manual_seed(1)
    first = Keys.of(0, 3).normal(2)
    torch.manual_seed(2)
    before = torch.random.get_rng_state()
    assert torch.equal(Keys.of(0, 3).normal(2), first)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-1, 3), r"seed must be in \[0, 2\^64\), got -1"),
        ((1 << 64, 3), r"seed must be in \[0, 2\^64\)"),
        ((0, 3, -2), "epoch must be >= 0, got -2"),
        ((0, [[1, 2]]), r"index must have shape \(B,\), got \(1, 2\)"),
        ((0, [3, -1]), "index must be >= 0, got -1"),
    ],
)
def test_impossible_keys_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Keys.of(*arguments)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_draws_the_same():
    keys = Keys.of(9, 50)
    there = keys.to("cuda")
    assert torch.equal(there.bits(7).cpu(), keys.bits(7))
    assert torch.equal(uniform_field(there.rows(), (3, 9)).cpu(), uniform_field(keys.rows(), (3, 9)))
    assert torch.allclose(normal_field(there.rows(), (3, 9)).cpu(), normal_field(keys.rows(), (3, 9)), atol=1e-5)
