import torch
import torch.nn.functional as F

import robustaug
from robustaug.rng import Keys
from robustaug.train.view import View

LOGITS = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
Y = torch.tensor([0, 1, 2, 2, 1, 0])


def of(loss, **fields):
    return robustaug.create("loss.sce", **loss).of(LOGITS, View(LOGITS, Y, Y, Keys.of(0, 6), **fields), {})


def test_it_is_cross_entropy_and_its_reverse():
    logs = torch.where(F.one_hot(Y, 3) == 1, 0.0, -4.0)  # log 1, and -4 for log 0
    reverse = -(LOGITS.softmax(1) * logs).sum(1)
    cross = F.cross_entropy(LOGITS, Y, reduction="none")
    assert torch.allclose(of({}), 0.1 * cross + reverse, atol=1e-6)
    by_hand = 6 * cross + 0.1 * 2 * reverse
    assert torch.allclose(of({"alpha": 6, "beta": 0.1, "log_zero": -8}), by_hand, atol=1e-5)


def test_mixed_labels_count_by_their_shares():
    target, p = torch.rand(6, 3).softmax(1), LOGITS.softmax(1)
    by_hand = (target * (-0.1 * p.log() + 4 * (1 - p))).sum(1)
    assert torch.allclose(of({}, target=target), by_hand, atol=1e-6)
