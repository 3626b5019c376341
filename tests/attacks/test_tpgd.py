import pytest
import torch
import torch.nn.functional as F
from torch import nn

import robustaug
from robustaug.attacks.driver import perturb
from robustaug.rng import Keys, normal_field


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 16), nn.Tanh(), nn.Linear(16, 5)).double().eval()


def data(n=8):
    return torch.rand(n, 3, 2, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_it_takes_the_published_steps(norm):
    """Zhang et al. 2019, algorithm 1: a Gaussian start of 0.001, then ascent of KL(clean || perturbed)."""
    model, x = network(), data()
    eps, size, steps = 0.031, 0.007, 5
    keys = Keys.of(0, len(x))
    with torch.no_grad():
        clean = model(x)
    point = (x + 0.001 * normal_field(keys.fold(0).fold("start").rows(), x.shape[1:])).clamp(0, 1)
    for _ in range(steps):
        point = point.detach().requires_grad_()
        loss = F.kl_div(F.log_softmax(model(point), 1), F.softmax(clean, 1), reduction="sum")
        (grad,) = torch.autograd.grad(loss, point)
        if norm == "Linf":
            point = torch.minimum(torch.maximum(point + size * grad.sign(), x - eps), x + eps).clamp(0, 1)
        else:
            delta = point - x + size * grad / grad.flatten(1).norm(dim=1)[:, None, None, None]
            shrink = (eps / delta.flatten(1).norm(dim=1)).clamp(max=1)
            point = (x + delta * shrink[:, None, None, None]).clamp(0, 1)
    attack = robustaug.create("attack.tpgd", norm=norm, eps=eps, step_size=size, steps=steps)
    found = perturb(attack, model, x, torch.zeros(len(x), dtype=torch.int64), keys)
    torch.testing.assert_close(found, point.detach(), rtol=0, atol=1e-9)


def test_the_class_is_not_looked_at():
    model, x = network(), data()
    attack = robustaug.create("attack.tpgd", eps=0.1)
    some, others = (perturb(attack, model, x, torch.full((8,), c), Keys.of(0, 8)) for c in (0, 3))
    assert torch.equal(some, others)
    with pytest.raises(ValueError, match="cannot lead towards a class"):
        robustaug.create("attack.tpgd", targeted=True)


def test_it_breaks_what_it_can():
    model, x = network(), data(40)
    with torch.no_grad():
        y = model(x).argmax(1)
    broken = [int(robustaug.create("attack.tpgd", eps=eps)(model, x, y).success.sum()) for eps in (0.01, 0.05, 0.3)]
    assert broken == sorted(broken)
    assert broken[-1] > 10
