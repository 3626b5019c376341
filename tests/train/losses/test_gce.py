import pytest
import torch
import torch.nn.functional as F

import robustaug
from robustaug.rng import Keys
from robustaug.train.view import View

LOGITS = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
Y = torch.tensor([0, 1, 2, 2, 1, 0])


def of(q, **fields):
    return robustaug.create("loss.gce", q=q).of(LOGITS, View(LOGITS, Y, Y, Keys.of(0, 6), **fields), {})


def test_it_lies_between_cross_entropy_and_half_the_absolute_error():
    p = LOGITS.softmax(1)[torch.arange(6), Y]
    assert torch.allclose(of(0.7), (1 - p**0.7) / 0.7, atol=1e-6)
    assert torch.allclose(of(1.0), (LOGITS.softmax(1) - F.one_hot(Y, 3)).abs().sum(1) / 2, atol=1e-6)
    assert torch.allclose(of(1e-4), F.cross_entropy(LOGITS, Y, reduction="none"), atol=1e-3)


def test_mixed_labels_count_by_their_shares():
    target = torch.rand(6, 3).softmax(1)
    by_hand = (target * (1 - LOGITS.softmax(1) ** 0.7) / 0.7).sum(1)
    assert torch.allclose(of(0.7, target=target), by_hand, atol=1e-6)


@pytest.mark.parametrize("q", [0, 1.5])
def test_q_outside_its_range_is_refused(q):
    with pytest.raises(ValueError, match="q must be in"):
        robustaug.create("loss.gce", q=q)
