import pytest
import torch
import torch.nn.functional as F
from torch import nn

import robustaug
from robustaug.rng import Keys, normal_field
from robustaug.train.losses.vat import worst_direction
from robustaug.train.view import Unlabelled, View


def linear(d=6, classes=3):
    model = nn.Linear(d, classes)
    with torch.no_grad():
        model.weight.copy_(torch.randn(classes, d, generator=torch.Generator().manual_seed(0)))
        model.bias.zero_()
    return model


def points(n, d=6, seed=1):
    return torch.rand(n, d, generator=torch.Generator().manual_seed(seed))


def kl(p, q):
    return (p * (p.log() - q.log())).sum(1)


def test_the_direction_is_the_hessians_first_eigenvector():
    """Of a linear model, W^T (diag p - p p^T) W is the Hessian of the divergence in closed form."""
    model, x = linear(), points(5)
    found = worst_direction(model, x, Keys.of(0, 5), xi=1e-2, iterations=30)
    for row, one in zip(found, x, strict=True):
        p = model(one).softmax(0)
        hessian = model.weight.T @ (torch.diag(p) - p.outer(p)) @ model.weight
        first = torch.linalg.eigh(hessian.detach()).eigenvectors[:, -1]
        assert float((row @ first).abs()) == pytest.approx(1, abs=1e-3)


def test_one_iteration_is_the_slope_at_a_random_step():
    model, x, keys = linear(), points(4), Keys.of(3, 4)
    found = worst_direction(model, x, keys, xi=0.01, iterations=1)
    start = F.normalize(normal_field(keys.rows(), (6,))) * 0.01
    p, q = model(x).softmax(1), model(x + start).softmax(1)
    assert torch.allclose(found, F.normalize((q - p) @ model.weight), atol=1e-3)


def test_it_is_cross_entropy_and_the_mean_divergence_over_all_samples():
    model, x, u = linear(), points(4), points(8, seed=2)
    y = torch.tensor([0, 1, 2, 0])
    keys, foreign = Keys.of(0, 4), Keys.of(5, 8)
    view = View(x, y, torch.arange(4), keys, unlabelled=Unlabelled(u, u, foreign, 2.0))
    loss = robustaug.create("loss.vat", eps=0.5, weight=3.0, iterations=2, entropy=0.2)

    def smoothness(x, keys):
        step = 0.5 * worst_direction(model, x, keys.fold("vat"), 0.01, 2)
        p = model(x).softmax(1)
        return 3 * kl(p, model(x + step).softmax(1)) - 0.2 * (p * p.log()).sum(1)

    expected = F.cross_entropy(model(x), y) + torch.cat([smoothness(x, keys), smoothness(u, foreign)]).mean()
    assert loss(model, view, {}).mean().item() == pytest.approx(expected.item(), rel=1e-4)
    parts = [loss(model, part, {}).sum() for part in view.split(2)]
    assert (sum(parts) / 4).item() == pytest.approx(expected.item(), rel=1e-4)
    alone = View(x, y, torch.arange(4), keys)
    expected = F.cross_entropy(model(x), y) + smoothness(x, keys).mean()
    assert loss(model, alone, {}).mean().item() == pytest.approx(expected.item(), rel=1e-4)


def test_only_the_moved_prediction_learns():
    x, y, keys = points(4), torch.tensor([0, 1, 2, 0]), Keys.of(0, 4)
    slopes = []
    for detached in (True, False):
        model = linear()
        step = 2 * worst_direction(model, x, keys.fold("vat"), 0.01, 1)
        p = model(x).softmax(1)
        losses = F.cross_entropy(model(x), y) + kl(p.detach() if detached else p, model(x + step).softmax(1)).mean()
        slopes.append(torch.autograd.grad(losses, model.weight)[0])
    model = linear()
    robustaug.create("loss.vat", eps=2.0)(model, View(x, y, torch.arange(4), keys), {}).mean().backward()
    assert torch.allclose(model.weight.grad, slopes[0], atol=1e-5)
    assert not torch.allclose(model.weight.grad, slopes[1], atol=1e-3)


def test_looking_for_directions_moves_no_statistics():
    model = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, 3)).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    worst_direction(model, points(4), Keys.of(0, 4), xi=0.01, iterations=2)
    assert model.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(weight.grad is None for weight in model.parameters())


@pytest.mark.parametrize(("key", "value"), [("eps", 0), ("xi", -1), ("iterations", 0), ("weight", -1)])
def test_wrong_parameters_are_refused(key, value):
    with pytest.raises(ValueError, match=f"loss.vat: {key} must be"):
        robustaug.create("loss.vat", **{key: value})
