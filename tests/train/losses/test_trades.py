import pytest
import torch
import torch.nn.functional as F

import robustaug
from robustaug.rng import Keys
from robustaug.train.view import View


def batch(**fields):
    return View(torch.rand(6, 4), torch.tensor([0, 1, 2, 2, 1, 0]), torch.arange(6), Keys.of(0, 6), **fields)


def parts(model, view):
    clean, attacked = model(view.x), model(view.x_adv)
    moved = F.kl_div(F.log_softmax(attacked, 1), F.softmax(clean, 1), reduction="none").sum(1)
    return clean, moved


@pytest.mark.parametrize("beta", [6.0, 0.0])
def test_it_is_the_formula_and_so_is_its_gradient(beta):
    model, view = torch.nn.Linear(4, 3), batch(x_adv=torch.rand(6, 4))
    losses = robustaug.create("loss.trades", beta=beta)(model, view, {})
    clean, moved = parts(model, view)
    expected = F.cross_entropy(clean, view.y, reduction="none") + beta * moved
    torch.testing.assert_close(losses.float(), expected, rtol=0, atol=1e-5)
    slopes = [torch.autograd.grad(loss.mean(), model.weight)[0] for loss in (losses, expected)]
    torch.testing.assert_close(*slopes, rtol=0, atol=1e-5)


def test_soft_labels_count_by_their_shares():
    target = torch.rand(6, 3).softmax(1)
    model, view = torch.nn.Linear(4, 3), batch(x_adv=torch.rand(6, 4), target=target)
    clean, moved = parts(model, view)
    losses = robustaug.create("loss.trades")(model, view, {})
    expected = F.cross_entropy(clean, target, reduction="none") + 6 * moved
    torch.testing.assert_close(losses.float(), expected, rtol=0, atol=1e-5)


def test_wrong_parameters_are_named():
    with pytest.raises(ValueError, match=r"loss.trades: beta must be in \[0, inf\] and finite, got -1"):
        robustaug.create("loss.trades", beta=-1)
