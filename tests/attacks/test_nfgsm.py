import pytest
import torch
import torch.nn.functional as F
from torch import nn

import robustaug
from robustaug.attacks.driver import perturb
from robustaug.rng import Keys, uniform_field


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 3)).double().eval()


X = torch.rand(10, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
Y, KEYS = torch.arange(10) % 3, Keys.of(0, 10)


def by_hand(model, eps, noise, size):
    """de Jorge et al. 2022: only the box bounds where it ends."""
    draw = noise * eps * (2 * uniform_field(KEYS.fold(0).rows(), (6,)).double() - 1)
    at = (X + draw).clamp(0, 1).requires_grad_()
    (grad,) = torch.autograd.grad(F.cross_entropy(model(at), Y, reduction="sum"), at)
    return (at + size * grad.sign()).clamp(0, 1).detach()


@pytest.mark.parametrize(("noise", "step_size"), [(2, None), (1, "1/20")])
def test_training_sees_noise_and_a_signed_step_that_are_not_projected(noise, step_size):
    model, eps = network(), 0.1
    attack = robustaug.create("attack.nfgsm", eps=eps, noise=noise, step_size=step_size)
    found = perturb(attack, model, X, Y, KEYS)
    torch.testing.assert_close(found, by_hand(model, eps, noise, eps if step_size is None else 0.05), rtol=0, atol=1e-7)
    assert (found - X).abs().max() > (eps if noise == 2 else 0.05)


def test_a_claim_is_one_of_the_points_projection():
    model, eps = network(), 0.1
    y = model(X).argmax(1)
    result = robustaug.create("attack.nfgsm", eps=eps)(model, X, y, KEYS)
    assert (result.norm <= eps * (1 + 1e-6)).all()
    free = perturb(robustaug.create("attack.nfgsm", eps=eps), model, X, y, KEYS)
    projected = torch.minimum(torch.maximum(free, X - eps), X + eps)
    wrong = model(projected).argmax(1) != y
    assert wrong.any()
    assert result.success[wrong].all()


def test_wrong_parameters_are_named():
    with pytest.raises(ValueError, match=r"attack.nfgsm: noise must be in \(0, inf\), got 0"):
        robustaug.create("attack.nfgsm", noise=0)
    with pytest.raises(ValueError, match=r"attack.nfgsm: step_size must be in"):
        robustaug.create("attack.nfgsm", step_size=-1)
