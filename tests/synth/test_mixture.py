import pytest
import torch

import robustaug
from robustaug.rng import permutation
from robustaug.synth.mixture import Mixture, joined

REAL = robustaug.create("data.digits", split="val")  # a part of a larger source: its indices are not its positions
MADE = robustaug.create("synth.class_gaussian", of={"data.digits": {"split": "train"}}, n=70)
BOTH = joined(REAL, MADE)


def test_both_sources_are_read_as_one_and_no_two_samples_share_a_key():
    positions = [296, 297, 0, 366]
    batch, damaged = BOTH.fetch(positions)
    assert not damaged
    for at, (source, position) in enumerate(((REAL, 296), (MADE, 0), (REAL, 0), (MADE, 69))):
        assert torch.equal(batch.image[at], source[position].image)
        assert int(batch.label[at]) == source[position].label == int(BOTH.labels[positions[at]])
    assert batch.position.tolist() == positions
    assert torch.equal(BOTH.sample_index[:297], REAL.sample_index)
    assert len(BOTH.sample_index.unique()) == len(BOTH) == 367
    assert len(REAL) == 297, "the real source is left as it was"


def test_metadata_tells_them_apart():
    assert BOTH.cohorts["synthetic"].tolist() == ["no"] * 297 + ["yes"] * 70
    assert BOTH.cohorts["ink"][297:].tolist() == ["synthetic"] * 70
    assert BOTH.cohorts["ink"][:297].tolist() == REAL.cohorts["ink"].tolist()
    assert BOTH.cohorts["class"][297:].tolist() == MADE.cohorts["class"].tolist()


def test_a_batch_holds_its_share_and_an_epoch_every_real_sample_once():
    mixture = Mixture(BOTH, 297, 0.3)
    batches = mixture.batches(50, seed=1, epoch=2)
    assert len(batches) == mixture.steps(50) == 9  # of 35 real samples each, the last of 17
    assert [len(batch) for batch in batches] == [50] * 8 + [17 + 7]
    assert [int((batch >= 297).sum()) for batch in batches] == [15] * 8 + [7]
    real = torch.cat(batches)
    assert torch.equal(real[real < 297].sort().values, torch.arange(297))
    halves = [int((half >= 297).sum()) for half in batches[0].chunk(2)]
    assert halves in ([7, 8], [8, 7]), "parts of a batch hold their share too"


def test_synthetic_samples_come_equally_often_over_the_epochs():
    mixture = Mixture(BOTH, 297, 0.5)
    order = torch.cat([torch.cat(mixture.batches(20, 0, epoch)) for epoch in range(3)])
    counts = torch.bincount(order[order >= 297] - 297, minlength=70)
    assert counts.sum() == 3 * 297  # in rounds of seven batches of ten: 70 samples
    assert counts.max() - counts.min() <= 3  # what the short last batches leave out


def test_no_batch_holds_a_sample_twice_and_one_that_would_is_refused():
    for batch in Mixture(BOTH, 297, 0.6).batches(100, 0, 0):
        assert len(batch.unique()) == len(batch)
    with pytest.raises(ValueError, match="a batch holds 90 synthetic samples but there are 70; make more of them"):
        Mixture(BOTH, 297, 0.9).batches(100, 0, 0)


def test_without_synthetic_samples_the_order_is_that_of_the_data_alone():
    batches = Mixture(REAL, 297).batches(50, 4, 1)
    assert torch.equal(torch.cat(batches), permutation(297, 4, 1))
