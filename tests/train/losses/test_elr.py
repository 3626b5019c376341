import torch
import torch.nn.functional as F

import robustaug
from robustaug.rng import Keys
from robustaug.train.view import Facts, View

FACTS = Facts(
    robustaug.create("data.digits"), torch.zeros(8, dtype=torch.int64), 3, None, (), 10, 5, torch.device("cpu")
)
ROWS, Y = torch.tensor([5, 0, 3]), torch.tensor([0, 1, 2])


def test_targets_follow_the_samples_own_predictions_and_draw_them_on():
    loss = robustaug.create("loss.elr", weight=3.0, momentum=0.7)
    memory, targets = loss.memory(FACTS), torch.zeros(8, 3)
    for _ in range(3):
        logits = torch.randn(3, 3)
        p = logits.softmax(1)
        targets[ROWS] = 0.7 * targets[ROWS] + 0.3 * p
        by_hand = F.cross_entropy(logits, Y, reduction="none") + 3 * (1 - (p * targets[ROWS]).sum(1)).log()
        losses = loss.of(logits, View(logits, Y, ROWS, Keys.of(0, 3)), memory)
        assert torch.allclose(losses, by_hand, atol=1e-3)  # predictions are kept 1e-4 from 0 and 1
        assert torch.allclose(memory["targets"], targets, atol=1e-3)
    assert not memory["targets"][[1, 2, 4, 6, 7]].any()


def test_no_slope_goes_through_the_targets():
    loss = robustaug.create("loss.elr", weight=1.0, momentum=0.5)
    logits = torch.randn(3, 3, requires_grad=True)
    loss.of(logits, View(logits, Y, ROWS, Keys.of(0, 3)), memory := loss.memory(FACTS)).sum().backward()
    again = logits.detach().clone().requires_grad_()
    p = again.softmax(1)
    (F.cross_entropy(again, Y, reduction="sum") + (1 - (p * memory["targets"][ROWS]).sum(1)).log().sum()).backward()
    assert torch.allclose(logits.grad, again.grad, atol=1e-3)


def test_certain_predictions_have_finite_losses():
    loss = robustaug.create("loss.elr", momentum=0.0)
    logits = 1000 * torch.eye(3)
    assert torch.isfinite(loss.of(logits, View(logits, Y, ROWS, Keys.of(0, 3)), loss.memory(FACTS))).all()
