import pytest
import torch

from robustaug.attacks.losses import LOSSES, cross_entropy, divergence_from, dlr, dlr_to, margin, margin_to


def draw(classes, n=5):
    return torch.randn(n, classes, generator=torch.Generator().manual_seed(0))


def test_losses_are_their_formulas():
    logits = torch.tensor([[2.0, -1.0, 0.5], [0.0, 3.0, 3.5]])
    label = torch.tensor([0, 1])
    expected = -(torch.exp(logits.double())[[0, 1], label] / torch.exp(logits.double()).sum(1)).log()
    assert torch.allclose(cross_entropy(logits, label), expected)
    assert torch.allclose(margin(logits, label), torch.tensor([-1.5, 0.5], dtype=torch.float64))
    assert torch.allclose(dlr(logits, label), torch.tensor([-1.5 / 3, 0.5 / 3.5], dtype=torch.float64))
    assert torch.allclose(margin_to(logits, label, label.flip(0)), torch.tensor([-3.0, -3.0], dtype=torch.float64))


def test_the_targeted_ratio_is_its_formula():
    """Croce & Hein 2020, equation 7: -(z_y - z_t) / (z_1st - (z_3rd + z_4th) / 2)."""
    logits = torch.tensor([[4.0, 3.0, 1.0, 0.0, -5.0]])
    found = dlr_to(logits, torch.tensor([0]), torch.tensor([4]))
    assert found.item() == pytest.approx(-9 / 3.5)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("classes", [2, 3, 8])
@pytest.mark.parametrize("place", [0, 1])
def test_each_sample_has_its_own_gradient(name, classes, place):
    """While the label is first or second; third, the ratio is 1 whatever the logits, and the sample has fallen."""
    logits = draw(classes).requires_grad_()
    label = logits.argsort(dim=1, descending=True)[:, place]
    loss = LOSSES[name](logits, label)
    assert loss.shape == (5,)
    [grad] = torch.autograd.grad(loss[2], logits)
    assert grad[2].abs().sum() > 0
    assert not grad[[0, 1, 3, 4]].any()
    assert grad[2, label[2]] < 0  # growing loss, falling label


@pytest.mark.parametrize("ratio", [dlr, lambda z, y: dlr_to(z, y, (y + 1) % 8)])
def test_the_ratio_knows_neither_scale_nor_shift(ratio):
    logits, label = draw(8).double(), torch.arange(5)
    assert torch.allclose(ratio(logits * 1000 + 3, label), ratio(logits, label))


@pytest.mark.parametrize("classes", [2, 3])
def test_with_few_classes_the_ratio_is_the_margin(classes):
    logits, label = draw(classes), torch.zeros(5, dtype=torch.int64)
    if classes == 2:
        assert torch.equal(dlr(logits, label), margin(logits, label))
    assert torch.equal(dlr_to(logits, label, label + 1), margin_to(logits, label, label + 1))


def test_a_confident_model_still_has_a_gradient():
    logits = torch.tensor([[30.0, 0.0]], requires_grad=True)
    [grad] = torch.autograd.grad(cross_entropy(logits, torch.tensor([0])).sum(), logits)
    assert grad.abs().min() > 0


def test_the_divergence_is_that_of_the_formula():
    a, b = torch.randn(2, 6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    p, q = b.softmax(1), a.softmax(1)
    torch.testing.assert_close(divergence_from(a, b), (p * (p / q).log()).sum(1))
    assert (divergence_from(a, a).abs() < 1e-12).all()
    sure = torch.tensor([[1000.0, 0.0]])
    assert torch.isfinite(divergence_from(-sure, sure)).all()
