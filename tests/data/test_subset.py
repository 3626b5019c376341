import pytest
import torch

import robustaug

DIGITS = {"data.digits": {"split": "train"}}


def test_few_of_each_class_are_chosen_at_random():
    few = robustaug.create("data.subset", of=DIGITS, per_class=3)
    whole = robustaug.create("data.digits", split="train")
    assert few.labels.bincount().tolist() == [3] * 10
    assert all(int(whole.labels[whole.sample_index == i][0]) == few[n].label for n, i in enumerate(few.sample_index))
    other = robustaug.create("data.subset", of=DIGITS, per_class=3, seed=1)
    assert not torch.equal(few.sample_index, other.sample_index)
    assert few.fingerprint != other.fingerprint
    again = robustaug.create("data.subset", of=whole, per_class=3)
    assert few.fingerprint == again.fingerprint


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"of": DIGITS, "per_class": 0}, "per_class must be a whole number >= 1, got 0"),
        ({"of": "image.rotate", "per_class": 1}, "of kind 'operator', not 'source'"),
        ({"of": {"data.digits": {}, "data.photos": {}}, "per_class": 1}, "must read `name`"),
        ({"of": "data.digit", "per_class": 1}, "did you mean 'data.digits'"),
    ],
)
def test_what_is_no_part_of_a_source_is_refused(params, words):
    with pytest.raises(ValueError, match=words):
        robustaug.create("data.subset", **params)
