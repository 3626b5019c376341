import pytest
import torch
from torch import nn

import robustaug
from robustaug.attacks.ask import Ask
from robustaug.attacks.driver import perturb
from robustaug.attacks.execution import Execution
from robustaug.attacks.flow import roughness
from robustaug.attacks.state import State
from robustaug.rng import Keys
from tests.attacks.test_driver import data, network


class Column(nn.Module):
    """Breaks where the mean of a column exceeds `most`."""

    def __init__(self, column, most):
        super().__init__()
        self.column, self.most = column, most

    def forward(self, x):
        over = x[:, :, :, self.column].mean((1, 2)) - self.most
        return torch.stack([-over, over], 1)


class Louder(nn.Module):
    """A network whose logits are of the size that training leaves: smoothness is weighed against them."""

    def __init__(self):
        super().__init__()
        self.inner = network()
        self.eval()

    def forward(self, x):
        return 5000 * self.inner(x)


def blob():
    x = torch.zeros(1, 1, 9, 9, dtype=torch.float64)
    x[:, :, 3:6, 3:6] = 1
    return x, torch.tensor([0])


@pytest.mark.filterwarnings("ignore:1 of 1 attacked samples:robustaug.attacks.state.AttackWarning")
@pytest.mark.parametrize("smoothness", [0.0, 0.005])
def test_a_blob_moves_as_far_as_the_flow_reaches_and_no_further(smoothness):
    """Columns 3 to 5 are white: one pixel to the right is column 6, in the same three rows or, bent, in five."""
    x, y = blob()
    attack = robustaug.create("attack.flow", reach=1.0, steps=60, smoothness=smoothness, restarts=5)
    assert attack(Column(6, 2.9 / 9).eval(), x, y).verified.all()
    assert not attack(Column(6, 5.1 / 9).eval(), x, y).success.any()
    assert not attack(Column(7, 1e-6).eval(), x, y).success.any()


def test_witnesses_are_made_again_from_their_flow():
    model = Louder()
    x, y = data(model, 48)
    attack = robustaug.create("attack.flow", reach=1.5)
    result = attack(model, x, y)
    wrong = torch.arange(48) % 6 == 0
    assert result.success.sum() > wrong.sum()
    assert torch.equal(result.verified, result.success)
    assert result.params["flow"].abs().max() <= 1.5
    ball = attack.threat.around(x, torch.full((48,), torch.inf, dtype=torch.float64))
    flow = result.params["flow"]
    assert attack.replays(ball, result.x_adv, {"flow": flow})[~wrong].all()
    assert not attack.replays(ball, result.x_adv, {"flow": flow + 0.1})[~wrong].any()
    assert not attack.replays(ball, x, {"flow": torch.full_like(flow, 1.6)}).any()


def test_roughness_is_the_published_sum():
    flow = torch.randn(2, 4, 5, 2, dtype=torch.float64)
    total = torch.zeros(2, dtype=torch.float64)
    for i in range(4):
        for j in range(5):
            for k, m in ((i + 1, j), (i - 1, j), (i, j + 1), (i, j - 1)):
                if 0 <= k < 4 and 0 <= m < 5:
                    total += (flow[:, i, j] - flow[:, k, m]).square().sum(1).sqrt()
    torch.testing.assert_close(roughness(flow), total)


def test_more_weight_makes_smoother_flows():
    model = Louder()
    x, y = data(model)
    ask, rough = Ask(model, Execution()), []
    for tau in (0.0, 0.05, 0.5):
        attack = robustaug.create("attack.flow", smoothness=tau)
        ball = attack.threat.around(x, torch.full((24,), torch.inf, dtype=torch.float64))
        state = attack.init(State(ball, y, model(x).detach(), Keys.of(0, 24), x), ask)
        for _ in range(attack.steps):
            state = attack.step(state, ask)
        rough.append(float(roughness(state.memory["flow"]).mean()))
    assert rough[0] > 2 * rough[1] > 10 * rough[2]


def test_training_gets_moved_images():
    model = Louder()
    x, y = data(model)
    moved = perturb(robustaug.create("attack.flow"), model, x, y, Keys.of(0, 24))
    with torch.no_grad():
        loss = torch.nn.functional.cross_entropy
        assert loss(model(moved), y) > loss(model(x), y)


@pytest.mark.parametrize("name", ["flow", "colour"])
def test_what_is_no_image_is_refused(name):
    model, x = nn.Linear(5, 3).eval(), torch.rand(4, 5)
    with pytest.raises(ValueError, match="works on images"):
        robustaug.create(f"attack.{name}")(model, x, model(x).argmax(1))
    model = network()
    x, y = data(model)
    with pytest.raises(ValueError, match=r"must lie in the box \(0, 1\)"):
        robustaug.create(f"attack.{name}", box=(0, 2))(model, x, y)
