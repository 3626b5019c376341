import pytest
import torch

import robustaug
from robustaug.data import open_source

TRAIN = {"data.digits": {"split": "train"}}


def test_each_class_keeps_its_share():
    before, after = open_source(TRAIN), robustaug.create("data.long_tailed", of=TRAIN, imbalance=50)
    expected = (torch.bincount(before.labels) * 50.0 ** -(torch.arange(10) / 9)).round()
    assert torch.equal(torch.bincount(after.labels).float(), expected)
    assert {*after.sample_index.tolist()} <= {*before.sample_index.tolist()}


def test_none_is_lost_at_1_and_no_class_at_any():
    assert len(robustaug.create("data.long_tailed", of=TRAIN, imbalance=1)) == 1000
    assert int(torch.bincount(robustaug.create("data.long_tailed", of=TRAIN, imbalance=1e6).labels).min()) == 1


def test_an_imbalance_below_1_is_refused():
    with pytest.raises(ValueError, match=r"imbalance must be >= 1 and finite, got 0\.5"):
        robustaug.create("data.long_tailed", of=TRAIN, imbalance=0.5)
