import pytest
import torch

import robustaug
from robustaug.data import open_source

ALL = {"data.digits": {"split": "all"}}


def noisy(of=ALL, **params):
    return open_source({"data.noisy_labels": {"of": of, **params}})


def test_the_share_is_wrong_and_no_other_class_is_preferred():
    """1,797 draws at 0.4: the share within 0.04, three and a half standard errors."""
    before, after = open_source(ALL), noisy(rate=0.4)
    wrong = before.labels != after.labels
    assert float(wrong.float().mean()) == pytest.approx(0.4, abs=0.04)
    assert torch.equal(wrong, torch.from_numpy(after.cohorts["relabelled"] == "yes"))
    shifts = torch.bincount((after.labels - before.labels)[wrong] % 10, minlength=10)
    assert shifts[0] == 0
    assert shifts[1:].min() > 50  # 80 of each are expected


def test_the_next_class_follows_the_last_too():
    before, after = open_source(ALL), noisy(rate=1.0, kind="next")
    assert torch.equal(after.labels, (before.labels + 1) % 10)


def test_a_sample_draws_for_itself_whatever_part_it_is_in():
    part, whole = noisy({"data.digits": {"split": "val"}}), noisy()
    assert torch.equal(part.labels, whole.labels[part.sample_index])
    assert not torch.equal(noisy(seed=1).labels, whole.labels)
    assert torch.equal(noisy(rate=0.0).labels, open_source(ALL).labels)


@pytest.mark.parametrize(
    ("params", "message"),
    [({"rate": 1.5}, r"rate must be in \[0, 1\], got 1.5"), ({"kind": "symetric"}, "did you mean 'symmetric'")],
)
def test_mistakes_are_named(params, message):
    with pytest.raises(ValueError, match=message):
        robustaug.create("data.noisy_labels", of=ALL, **params)
