import pytest
import torch

from robustaug.attacks.losses import LOSSES, cross_entropy, margin


def test_losses_are_their_formulas():
    logits = torch.tensor([[2.0, -1.0, 0.5], [0.0, 3.0, 3.5]])
    label = torch.tensor([0, 1])
    expected = -(torch.exp(logits.double())[[0, 1], label] / torch.exp(logits.double()).sum(1)).log()
    assert torch.allclose(cross_entropy(logits, label), expected)
    assert torch.allclose(margin(logits, label), torch.tensor([-1.5, 0.5], dtype=torch.float64))


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("classes", [2, 3, 8])
def test_each_sample_has_its_own_gradient(name, classes):
    logits = torch.randn(5, classes, requires_grad=True)
    label = torch.arange(5) % classes
    loss = LOSSES[name](logits, label)
    assert loss.shape == (5,)
    [grad] = torch.autograd.grad(loss[2], logits)
    assert grad[2].abs().sum() > 0
    assert not grad[[0, 1, 3, 4]].any()
    assert grad[2, label[2]] < 0  # growing loss, falling label


def test_a_confident_model_still_has_a_gradient():
    logits = torch.tensor([[30.0, 0.0]], requires_grad=True)
    [grad] = torch.autograd.grad(cross_entropy(logits, torch.tensor([0])).sum(), logits)
    assert grad.abs().min() > 0
