import pytest
import torch
import torch.nn.functional as F
from torch import nn

import robustaug
from robustaug.attacks.driver import perturb
from robustaug.attacks.transfer import transfer
from robustaug.rng import Keys

EPS = 0.12


def patterns(n, seed):
    """Noisy pictures of four patterns, hard enough that a network leans on more than one feature."""
    draw = torch.Generator().manual_seed(seed)
    kinds = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(99))
    y = torch.arange(n) % 4
    return (0.5 + 0.35 * (kinds[y] - 0.5) + 0.15 * torch.randn(n, 1, 8, 8, generator=draw)).clamp(0, 1), y


def trained(seed, wide):
    with robustaug.rng.torch_seed(seed):
        model = nn.Sequential(
            nn.Conv2d(1, wide, 3, padding=1), nn.ReLU(), nn.Conv2d(wide, wide, 3, 2, 1), nn.ReLU(), nn.Flatten(),
            nn.Linear(wide * 16, 4),
        )  # fmt: skip
    x, y = patterns(512, seed)
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(60):
        optimiser.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimiser.step()
    return model.eval()


@pytest.fixture(scope="module")
def models():
    return trained(1, 8), trained(2, 12)


def test_going_all_the_way_carries_over_and_stopping_early_does_not(models):
    surrogate, other = models
    x, y = patterns(200, 7)
    right = ~transfer(x, other, y) & ~transfer(x, surrogate, y)
    x, y = x[right], y[right]
    attack = robustaug.create("attack.mifgsm", eps=EPS)
    first = transfer(attack(surrogate, x, y).x_adv, other, y)
    whole = transfer(perturb(attack, surrogate, x, y, Keys.of(0, len(x))), other, y)
    noise = transfer(
        (x + EPS * torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).sign()).clamp(0, 1), other, y
    )
    assert whole.double().mean() > first.double().mean() + 0.1
    assert whole.double().mean() > noise.double().mean() + 0.1


def test_it_is_what_the_other_model_says(models):
    x, y = patterns(30, 8)
    with torch.no_grad():
        said = models[1](x).argmax(1)
    assert torch.equal(transfer(x, models[1], y), said != y)
    assert torch.equal(transfer(x, models[1], y, targeted=True, batch_size=7), said == y)
    assert transfer(x[:0], models[1], y[:0]).shape == (0,)


def test_models_that_are_not_ready_are_refused(models):
    x, y = patterns(4, 9)
    with pytest.raises(ValueError, match="train mode"):
        transfer(x, nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64)).train(), y)
    with pytest.raises(ValueError, match="probabilities"):
        transfer(x, nn.Sequential(models[0], nn.Softmax(1)).eval(), y)
    with pytest.raises(ValueError, match="one class a sample"):
        transfer(x, models[0], y[:2])
