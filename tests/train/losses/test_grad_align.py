import pytest
import torch
import torch.nn.functional as F

import robustaug
from robustaug.config import ConfigError, validate
from robustaug.rng import Keys, uniform_field
from robustaug.train.recipe import Recipe
from robustaug.train.view import View


def batch(**fields):
    return View(torch.rand(6, 4), torch.tensor([0, 1, 2, 2, 1, 0]), torch.arange(6), Keys.of(0, 6), **fields)


def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3))


def turn(model, view, eps):
    """1 - cos of the two gradients, each by itself."""
    draw = 2 * uniform_field(view.keys.fold("grad_align").rows(), (4,)) - 1
    turns = []
    for x, eta, y in zip(view.x, eps * draw, view.y, strict=True):
        slopes = []
        for at in (x, x + eta):
            leaf = at[None].requires_grad_()
            (grad,) = torch.autograd.grad(F.cross_entropy(model(leaf), y[None]), leaf, create_graph=True)
            slopes.append(grad[0])
        turns.append(1 - F.cosine_similarity(*slopes, dim=0))
    return torch.stack(turns)


def test_it_is_the_formula_and_the_weights_feel_the_turn():
    model, view = network(), batch(x_adv=torch.rand(6, 4), eps=0.2)
    losses = robustaug.create("loss.grad_align", strength=3)(model, view, {})
    expected = F.cross_entropy(model(view.x_adv), view.y, reduction="none") + 3 * turn(model, view, 0.2)
    torch.testing.assert_close(losses.float(), expected, rtol=0, atol=1e-5)
    slopes = [torch.autograd.grad(loss.mean(), model[0].weight)[0] for loss in (losses, expected)]
    torch.testing.assert_close(*slopes, rtol=0, atol=1e-4)
    ordinary = torch.autograd.grad(F.cross_entropy(model(view.x_adv), view.y), model[0].weight)[0]
    assert not torch.allclose(slopes[0], ordinary, atol=1e-3)


def test_two_classes_of_a_linear_model_never_turn():
    model, view = torch.nn.Linear(4, 2), batch(x_adv=torch.rand(6, 4))
    view = View(view.x, view.y % 2, view.position, view.keys, x_adv=view.x_adv, eps=0.3)
    turned = robustaug.create("loss.grad_align").turn(model, view)
    assert (turned.abs() < 1e-6).all()


def test_no_gradient_is_no_turn_and_no_nan():
    model, view = torch.nn.Linear(4, 3), batch(x_adv=torch.rand(6, 4))
    with torch.no_grad():
        model.weight.zero_()
    losses = robustaug.create("loss.grad_align")(model, view, {})
    losses.sum().backward()
    torch.testing.assert_close(losses.float(), F.cross_entropy(model(view.x_adv), view.y, reduction="none"))
    assert torch.isfinite(model.weight.grad).all()


def test_the_share_of_clean_samples_holds_for_the_cross_entropy():
    model, view = network(), batch(x_adv=torch.rand(6, 4), clean_share=0.25)
    losses = robustaug.create("loss.grad_align", strength=0)(model, view, {})
    clean, attacked = (F.cross_entropy(model(x), view.y, reduction="none") for x in (view.x, view.x_adv))
    torch.testing.assert_close(losses.float(), 0.25 * clean + 0.75 * attacked)


def test_wrong_parameters_are_named():
    with pytest.raises(ValueError, match="strength must be in"):
        robustaug.create("loss.grad_align", strength=-1)


def test_attacks_of_another_norm_are_refused():
    settings = {"name": "r", "model": "model.small_cnn", "epochs": 1, "loss": "loss.grad_align"}
    with pytest.raises(ConfigError, match=r"loss.grad_align is for attacks in Linf; give it one"):
        validate(settings | {"attack": {"attack.fgsm": {"norm": "L2"}}}, Recipe, "recipe")


def test_compiled_networks_are_refused():
    settings = {"name": "r", "model": "model.small_cnn", "epochs": 1, "attack": "attack.fgsm", "compile": True}
    with pytest.raises(ConfigError, match=r"loss.grad_align differentiates twice.*set compile: false"):
        validate(settings | {"loss": "loss.grad_align"}, Recipe, "recipe")


def test_slopes_too_small_for_fp16_turn_in_it_as_in_float32():
    """Of a model that is sure by 20: its slopes are near 1e-9, and fp16 holds nothing below 6e-8."""
    model, loss = network(), robustaug.create("loss.grad_align")
    with torch.no_grad():
        model[2].bias += torch.tensor([20.0, 0, 0])
        model[0].weight *= 3
    view = batch(x_adv=torch.rand(6, 4), eps=0.5)
    view = View(view.x, torch.zeros(6, dtype=torch.int64), view.position, view.keys, x_adv=view.x_adv, eps=view.eps)
    exact = loss.turn(model, view)
    with torch.autocast("cpu", torch.float16):
        found = loss.turn(model, view)
    assert (exact > 1e-3).all()
    torch.testing.assert_close(found, exact, rtol=0.05, atol=5e-4)
    [slope] = torch.autograd.grad(found.sum(), model[0].weight)
    assert slope.isfinite().all()
    assert slope.any()
