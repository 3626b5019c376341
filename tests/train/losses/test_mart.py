import pytest
import torch

import robustaug
from robustaug.rng import Keys
from robustaug.train.view import View


def batch(classes=3, **fields):
    y = torch.tensor([0, 1, 2, 2, 1, 0]) % classes
    return View(torch.rand(6, 4), y, torch.arange(6), Keys.of(0, 6), x_adv=torch.rand(6, 4), **fields)


def by_hand(model, view, y, beta):
    """Wang et al. 2020, algorithm 1, one sample after another."""
    losses = []
    for before, after, label in zip(model(view.x).softmax(1), model(view.x_adv).softmax(1), y.tolist(), strict=True):
        rival = max(after[k] for k in range(len(after)) if k != label)
        boosted = -torch.log(after[label]) - torch.log(1 - rival)
        moved = (before * (before / after).log()).sum()
        losses.append(boosted + beta * moved * (1 - before[label]))
    return torch.stack(losses)


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_it_is_the_formula(classes):
    torch.manual_seed(classes)
    model, view = torch.nn.Linear(4, classes), batch(classes)
    losses = robustaug.create("loss.mart", beta=5)(model, view, {})
    expected = by_hand(model, view, view.y, 5)
    torch.testing.assert_close(losses.float(), expected, rtol=0, atol=1e-5)
    slopes = [torch.autograd.grad(loss.mean(), model.weight)[0] for loss in (losses, expected)]
    torch.testing.assert_close(*slopes, rtol=0, atol=1e-5)


def test_soft_labels_count_by_their_shares():
    """Linear in the label: the loss of a mixture is the mixture of the losses."""
    target = torch.rand(6, 3).softmax(1)
    model, view = torch.nn.Linear(4, 3), batch(target=target)
    each = torch.stack([by_hand(model, view, torch.full((6,), k), 5) for k in range(3)], dim=1)
    losses = robustaug.create("loss.mart", beta=5)(model, view, {})
    torch.testing.assert_close(losses.float(), (target * each).sum(1), rtol=0, atol=1e-5)


def test_a_rival_that_the_model_is_sure_of_costs_much_and_no_nan():
    logits = torch.tensor([[0.0, 200.0, 0.0]], requires_grad=True)
    losses = robustaug.create("loss.mart").per_class(logits, {})
    assert losses[0].tolist() == pytest.approx([400 - 0.6931, 0.0, 400 - 0.6931], abs=1e-3)
    losses.sum().backward()
    assert torch.isfinite(logits.grad).all()


def test_wrong_parameters_are_named():
    with pytest.raises(ValueError, match=r"loss.mart: beta must be in .* got -1"):
        robustaug.create("loss.mart", beta=-1)
