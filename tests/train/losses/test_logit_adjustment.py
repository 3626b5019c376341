import pytest
import torch
import torch.nn.functional as F

import robustaug
from robustaug.rng import Keys
from robustaug.train.view import Facts, View

LABELS = torch.tensor([0] * 6 + [1] * 3 + [2])


def facts(classes=3):
    return Facts(robustaug.create("data.digits"), LABELS, classes, None, (), 10, 5, torch.device("cpu"))


@pytest.mark.parametrize("tau", [0.0, 1.0, 2.0])
def test_it_is_cross_entropy_of_logits_and_the_logarithms_of_frequencies(tau):
    logits, y = torch.randn(10, 3), LABELS
    loss = robustaug.create("loss.logit_adjustment", tau=tau)
    view = View(logits, y, torch.arange(10), Keys.of(0, 10))
    by_hand = F.cross_entropy(logits + tau * torch.tensor([0.6, 0.3, 0.1]).log(), y, reduction="none")
    assert torch.allclose(loss.of(logits, view, loss.memory(facts())), by_hand, atol=1e-6)


def test_a_class_without_samples_is_named():
    with pytest.raises(ValueError, match="class 3 of the model's 4 has no training sample"):
        robustaug.create("loss.logit_adjustment").memory(facts(4))
