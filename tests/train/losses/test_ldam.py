import pytest
import torch
import torch.nn.functional as F

import robustaug
from robustaug.rng import Keys
from robustaug.train.view import Facts, View

LABELS = torch.tensor([0] * 16 + [1] * 4 + [2])
FACTS = Facts(robustaug.create("data.digits"), LABELS, 3, None, (), 10, 5, torch.device("cpu"))


def of(loss, logits, epoch, **fields):
    view = View(logits, LABELS, torch.arange(21), Keys.of(0, 21), epoch, **fields)
    return loss.of(logits, view, loss.memory(FACTS))


def test_the_true_logit_is_lowered_by_the_margin_of_its_class():
    loss = robustaug.create("loss.ldam", margin=0.5, scale=30, reweight_from=1)
    cosines = torch.rand(21, 3) * 2 - 1
    margins = 0.5 * torch.tensor([16.0, 4.0, 1.0]) ** -0.25  # 0.25, 0.354, 0.5: the rarest has it all
    lowered = cosines - F.one_hot(LABELS, 3) * margins
    assert torch.allclose(
        of(loss, 30 * cosines, 9.9), F.cross_entropy(30 * lowered, LABELS, reduction="none"), atol=1e-4
    )
    target = torch.rand(21, 3).softmax(1)
    each = [
        F.cross_entropy(30 * (cosines - torch.eye(3)[k] * margins), LABELS * 0 + k, reduction="none") for k in range(3)
    ]
    assert torch.allclose(of(loss, 30 * cosines, 0.0, target=target), (target * torch.stack(each, 1)).sum(1), atol=1e-4)


def test_from_its_epoch_on_a_class_weighs_by_its_effective_number():
    loss, even = (robustaug.create("loss.ldam", beta=0.9, reweight_from=0.5), robustaug.create("loss.ldam", beta=0))
    logits = torch.randn(21, 3)
    before, after, plain = of(loss, logits, 4.99), of(loss, logits, 5.0), of(even, logits, 9.0)
    assert torch.allclose(before, plain)
    weights = torch.tensor([0.1 / (1 - 0.9**n) for n in (16, 4, 1)])[LABELS]
    assert torch.allclose(after, plain * weights / weights.mean(), atol=1e-5)


def test_certain_predictions_have_finite_losses_and_slopes():
    loss = robustaug.create("loss.ldam", scale=60)
    logits = torch.tensor([[200.0, 0.0, 0.0]], requires_grad=True)
    losses = loss.per_class(logits, loss.memory(FACTS))
    losses.sum().backward()
    assert torch.isfinite(losses).all()
    assert torch.isfinite(logits.grad).all()
    with pytest.raises(ValueError, match="scale times margin must be <= 30, got 45"):
        robustaug.create("loss.ldam", scale=90)
