"""Parts of labelled sets: disjoint, complete, in proportion, the same everywhere."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from robustaug.data.splits import apportion, divide, hold_out, limit

LABELS = torch.tensor([0] * 50 + [1] * 30 + [2] * 20)
CLASSES = ["a", "b", "c"]


@given(st.lists(st.integers(0, 50), min_size=1, max_size=12).filter(sum), st.floats(0, 1))
def test_shares_add_up_stay_within_their_weight_and_near_the_exact_share(weights, share):
    total = int(share * sum(weights))
    shares = apportion(total, torch.tensor(weights)).tolist()
    assert sum(shares) == total
    for got, weight in zip(shares, weights, strict=True):
        assert 0 <= got <= weight
        assert abs(got - total * weight / sum(weights)) < 1


def test_parts_are_disjoint_complete_and_sorted():
    parts = divide(LABELS, [torch.tensor([10, 6, 4]), torch.tensor([0, 5, 1])])
    assert torch.cat(parts).sort().values.tolist() == [*range(100)]
    assert [torch.bincount(LABELS[part]).tolist() for part in parts] == [[10, 6, 4], [0, 5, 1], [40, 19, 15]]
    assert all(part.tolist() == sorted(part.tolist()) for part in parts)


def test_held_out_classes_are_in_proportion_and_a_seed_gives_other_samples():
    kept, held = hold_out("s", LABELS, CLASSES, 0.1)
    assert torch.bincount(LABELS[held]).tolist() == [5, 3, 2]
    assert not set(kept.tolist()) & set(held.tolist())
    assert torch.equal(hold_out("s", LABELS, CLASSES, 0.1)[1], held)
    assert not torch.equal(hold_out("s", LABELS, CLASSES, 0.1, seed=1)[1], held)


@pytest.mark.parametrize("share", [0.01, 0.99])
def test_every_class_is_in_both_parts(share):
    for part in hold_out("s", LABELS, CLASSES, share):
        assert (torch.bincount(LABELS[part]) > 0).all()


def test_what_cannot_be_split_is_named():
    with pytest.raises(ValueError, match="s: class 'b' has 1 samples, too few for 2 parts; set val_share to 0"):
        hold_out("s", torch.tensor([0, 0, 1]), ["a", "b"], 0.5)
    with pytest.raises(ValueError, match=r"s: val_share must be in \[0, 1\), got 1\.5"):
        hold_out("s", LABELS, CLASSES, 1.5)


def test_a_limit_holds_for_each_class():
    assert torch.bincount(LABELS[limit(LABELS, CLASSES, 25)]).tolist() == [25, 25, 20]
    with pytest.raises(ValueError, match="limit_per_class must be a whole number >= 1, got 0"):
        limit(LABELS, CLASSES, 0)
