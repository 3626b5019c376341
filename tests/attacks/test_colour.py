import numpy as np
import pytest
import torch
from torch import nn

import robustaug
from robustaug.attacks.colour import read_curve
from tests.attacks.test_driver import data, network


class Mean(nn.Module):
    """Breaks where the mean of channel `channel` exceeds `most`."""

    def __init__(self, channel, most):
        super().__init__()
        self.channel, self.most = channel, most

    def forward(self, x):
        over = x[:, self.channel].mean((1, 2)) - self.most
        return torch.stack([-over, over], 1)


@pytest.mark.parametrize("channels", [1, 3])
def test_each_channel_is_pushed_to_its_bound(channels):
    x, y = torch.full((2, channels, 4, 4), 0.4, dtype=torch.float64), torch.zeros(2, dtype=torch.int64)
    attack = robustaug.create("attack.colour", reach=0.1)
    result = attack(Mean(channels - 1, 0.499).eval(), x, y)
    assert result.success.all()
    assert result.verified.all()
    assert (result.norm <= 0.1 + 1e-9).all()
    assert not attack(Mean(channels - 1, 0.501).eval(), x, y).success.any()


def test_curves_are_read_as_interpolation_reads_them():
    curve, image = torch.randn(2, 3, 5, dtype=torch.float64), torch.rand(2, 3, 6, 7, dtype=torch.float64)
    image[0, 0, 0, :2] = torch.tensor([0.0, 1.0], dtype=torch.float64)
    found = read_curve(curve, image)
    for b in range(2):
        for c in range(3):
            expected = np.interp(image[b, c].numpy(), np.linspace(0, 1, 5), curve[b, c].numpy())
            np.testing.assert_allclose(found[b, c].numpy(), expected, atol=1e-12)


def test_equal_values_stay_equal_and_witnesses_are_made_again():
    model = network()
    x, y = data(model, 48)
    x = (x * 8).round() / 8
    with torch.no_grad():
        y = model(x).argmax(1)
    attack = robustaug.create("attack.colour", reach=0.2)
    result = attack(model, x, y)
    assert result.success.sum() > 0
    assert torch.equal(result.verified, result.success)
    for before, after in zip(x, result.x_adv, strict=True):
        assert all(len(after[before == value].unique()) <= 1 for value in before.unique())
    ball = attack.threat.around(x, torch.full((48,), torch.inf, dtype=torch.float64))
    curve = result.params["curve"]
    assert attack.replays(ball, result.x_adv, {"curve": curve}).all()
    assert not attack.replays(ball, result.x_adv, {"curve": curve - 0.01}).any()
    assert not attack.replays(ball, x, {"curve": curve + 0.3}).any()


def test_two_knots_make_it_affine():
    model = network()
    x, y = data(model)
    attack = robustaug.create("attack.colour", reach=0.05, knots=2)
    x = 0.2 + 0.6 * x
    result = attack(model, x, y, eps=1e-9)
    rest = torch.arange(24) % 6 != 0
    for before, after in zip(x[rest], result.x_adv[rest], strict=True):
        line = np.polyfit(before.flatten().numpy(), after.flatten().numpy(), 1)
        np.testing.assert_allclose(np.polyval(line, before.numpy()), after.numpy(), atol=1e-9)


def test_more_reach_breaks_more():
    model = network()
    x, y = data(model, 60)
    broken = [int(robustaug.create("attack.colour", reach=r)(model, x, y).success.sum()) for r in (0.01, 0.06, 0.3)]
    assert broken == sorted(broken)
    assert broken[-1] > broken[0]
