import pytest
import torch
import torch.nn.functional as F
from torch import nn

import robustaug
from robustaug.attacks.driver import perturb
from robustaug.rng import Keys


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 3)).double().eval()


def samples(model):
    x = torch.rand(30, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    return x, model(x).argmax(1)


def by_hand(model, x, y, eps, steps, beyond):
    """Zhang et al. 2020, algorithm 1, one sample after another."""
    ends = []
    for clean, label in zip(x, y, strict=True):
        at, left = clean.clone(), beyond
        for _ in range(steps):
            leaf = at[None].detach().requires_grad_()
            logits = model(leaf)
            if int(logits.argmax()) != int(label):
                if left == 0:
                    break
                left -= 1
            (grad,) = torch.autograd.grad(F.cross_entropy(logits, label[None]), leaf)
            at = torch.clamp(at + 2.5 * eps / steps * grad[0].sign(), clean - eps, clean + eps).clamp(0, 1)
        ends.append(at)
    return torch.stack(ends)


@pytest.mark.parametrize("beyond", [0, 1, 3])
def test_each_sample_stops_so_many_steps_after_it_is_wrong(beyond):
    model, eps, steps = network(), 0.25, 8
    x, y = samples(model)
    attack = robustaug.create("attack.friendly_pgd", eps=eps, steps=steps, beyond=beyond, random_start=False)
    found = perturb(attack, model, x, y, Keys.of(0, 30))
    torch.testing.assert_close(found, by_hand(model, x, y, eps, steps, beyond), rtol=0, atol=1e-9)


def test_its_points_are_wrong_where_those_of_pgd_are_but_of_lower_loss():
    model = network()
    x, y = samples(model)
    settings = {"eps": 0.25, "steps": 8, "random_start": False}
    friendly, far = (
        perturb(robustaug.create(name, **settings), model, x, y, Keys.of(0, 30))
        for name in ("attack.friendly_pgd", "attack.pgd")
    )
    wrong = model(friendly).argmax(1) != y
    assert 3 < wrong.sum() < 30
    losses = [F.cross_entropy(model(points), y, reduction="none")[wrong] for points in (friendly, far)]
    assert (losses[0] <= losses[1] + 1e-9).all()
    assert torch.equal(friendly[~wrong], far[~wrong])


def test_wrong_parameters_are_named():
    with pytest.raises(ValueError, match=r"attack.friendly_pgd: beyond must be a whole number >= 0, got -1"):
        robustaug.create("attack.friendly_pgd", beyond=-1)
