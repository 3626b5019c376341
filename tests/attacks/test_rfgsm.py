import pytest
import torch
import torch.nn.functional as F
from torch import nn

import robustaug
from robustaug.attacks.driver import perturb
from robustaug.rng import Keys, normal_field


@pytest.mark.parametrize("share", [0.5, 0.25])
def test_it_is_a_random_step_and_a_signed_one(share):
    """Tramèr et al. 2018, equations 7 and 8."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 3)).double().eval()
    x, y, keys = torch.rand(10, 6, dtype=torch.float64), torch.arange(10) % 3, Keys.of(0, 10)
    eps, alpha = 0.1, 0.1 * share
    beside = (x + alpha * normal_field(keys.fold(0).fold("direction").rows(), (6,)).sign()).clamp(0, 1)
    at = beside.requires_grad_()
    (grad,) = torch.autograd.grad(F.cross_entropy(model(at), y, reduction="sum"), at)
    expected = (beside + (eps - alpha) * grad.sign()).clamp(0, 1)
    expected = torch.minimum(torch.maximum(expected, x - eps), x + eps)
    found = perturb(robustaug.create("attack.rfgsm", eps=eps, share=share), model, x, y, keys)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


def test_a_share_outside_the_whole_is_refused():
    with pytest.raises(ValueError, match=r"attack.rfgsm: share must be in \(0, 1\), got 1"):
        robustaug.create("attack.rfgsm", share=1)
