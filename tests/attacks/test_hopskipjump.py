import itertools

import pytest
import torch
from torch import nn

import robustaug
from robustaug.attacks.ask import Ask
from robustaug.attacks.execution import Execution
from robustaug.attacks.state import AttackWarning, State
from robustaug.rng import Keys
from tests.conformance.test_attack_conformance import FREE, distance, linear, network

NORMS = ["L2", "Linf"]


def attack(**params):
    return robustaug.create("attack.hopskipjump", **{"steps": 6, "probes": 20} | params)


def images(model, n=12):
    x = torch.rand(n, 3, 2, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        return x, model(x).argmax(1)


class Said(nn.Module):
    """Tells no more than the model's decision."""

    def __init__(self, model, scale=10.0):
        super().__init__()
        self.model, self.scale = model.eval(), scale
        self.training = False
        self.rows = 0

    def forward(self, x):
        self.rows += len(x)
        logits = self.model(x)
        return self.scale * nn.functional.one_hot(logits.argmax(1), logits.shape[1]).to(x.dtype)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("shape", [(6,), (3, 2, 2)], ids=str)
def test_a_linear_model_breaks_within_a_hundredth_of_its_distance(norm, shape):
    model, x, y = linear(shape, 2)
    best = distance(model, x, y, norm)
    result = attack(norm=norm, steps=25, probes=100, box=FREE)(model, x, y)
    assert result.verified.all()
    assert (result.norm >= best * (1 - 1e-9)).all()
    assert (result.norm <= best * 1.01).all()


@pytest.mark.parametrize("norm", NORMS)
def test_led_to_the_nearest_of_many_classes_it_gets_there(norm):
    model, x, y = linear((6,), 5)
    best = distance(model, x, y, norm)
    weight = model[1].weight.detach()
    with torch.no_grad():
        z = model(x)
    order = 2 if norm == "L2" else 1
    ways = (z.gather(1, y[:, None]) - z) / torch.linalg.vector_norm(weight[y][:, None] - weight[None], order, dim=2)
    nearest = ways.scatter(1, y[:, None], torch.inf).argmin(1)
    result = attack(norm=norm, steps=25, probes=100, box=FREE, targeted=True)(model, x, y, target=nearest)
    with torch.no_grad():
        assert torch.equal(model(result.x_adv).argmax(1), nearest)
    assert (result.norm <= best * 1.01).all()


@pytest.mark.parametrize("norm", NORMS)
def test_only_the_decision_is_read(norm):
    model = network()
    x, y = images(model)
    results = [attack(norm=norm)(m, x, y) for m in (model, Said(model), Said(model, 30.0))]
    for other in results[1:]:
        assert torch.equal(other.x_adv, results[0].x_adv)
        assert torch.equal(other.forwards, results[0].forwards)
    assert not results[0].backwards.any()


@pytest.mark.parametrize("norm", NORMS)
def test_points_come_nearer_with_every_step(norm):
    model = network()
    x, y = images(model)
    norms = [attack(norm=norm, steps=steps)(model, x, y).norm for steps in (1, 2, 5, 20)]
    for before, after in itertools.pairwise(norms):
        assert (after <= before).all()
    assert norms[-1].mean() < 0.8 * norms[0].mean()


def test_queries_are_counted_and_bounded():
    model = Said(network())
    x, y = images(network())
    result = attack()(model, x, y)
    assert result.success.all()
    assert model.rows == result.forwards.sum() + len(x) + 1  # the verifier's pass is its own
    for budget in (1, 30, 60):
        bounded = attack()(network(), x, y, execution=Execution(budget=budget))
        assert bounded.forwards.max() <= budget
        assert bounded.success.any() == (budget > 1)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.filterwarnings("ignore:none of 100 random points")
def test_box_and_mask_are_kept(norm):
    model = network()
    x, y = images(model)
    x = x * 2 - 0.5
    with torch.no_grad():
        y = model(x).argmax(1)
    low = torch.full((3, 2, 2), -0.5, dtype=torch.float64)
    mask = torch.rand(12, 3, 2, 2, generator=torch.Generator().manual_seed(2)) < 0.9
    result = attack(norm=norm, box=(low, low + 2))(model, x, y, mask=mask)
    assert result.success.sum() > 6
    assert torch.equal(result.verified, result.success)
    assert torch.equal(result.x_adv[~mask], x[~mask])
    assert result.x_adv.min() >= -0.5
    assert result.x_adv.max() <= 1.5


def test_a_sample_within_its_budget_is_asked_no_more():
    model = network()
    x, y = images(model)
    eps = torch.where(torch.arange(12) % 2 == 0, 10.0, 1e-6).double().clamp_max(3)
    result = attack()(model, x, y, eps=eps)
    assert torch.equal(result.success, eps > 1)
    assert result.forwards[eps > 1].max() < result.forwards[eps < 1].min()


def test_results_do_not_depend_on_the_batch():
    model = network()
    x, y = images(model)
    keys = Keys.of(3, 12)
    whole = attack()(model, x, y, keys)
    for i in range(0, 12, 4):
        part = attack()(model, x[i : i + 4], y[i : i + 4], keys[i : i + 4])
        torch.testing.assert_close(part.x_adv, whole.x_adv[i : i + 4], rtol=0, atol=1e-9)
        assert torch.equal(part.forwards, whole.forwards[i : i + 4])
    assert not torch.equal(attack()(model, x, y, Keys.of(4, 12)).x_adv, whole.x_adv)


def test_float32_works():
    model = network().float()
    x, y = images(network())
    result = attack()(model, x.float(), y)
    assert result.x_adv.dtype == torch.float32
    assert result.verified.all()


def test_a_sample_without_a_start_stands_and_is_named():
    class Two(nn.Module):
        def forward(self, x):
            side = x.sum(1) - 1
            return torch.stack([-side, side, torch.full_like(side, -99.0)], 1)

    x = torch.full((2, 3), 0.1)
    target = torch.tensor([1, 2])  # the model never says 2
    with pytest.warns(AttackWarning, match=r"for 1 of 2 samples, which stand untried \(keys 7\)"):
        result = attack(targeted=True)(
            Two().eval(), x, torch.zeros(2, dtype=torch.int64), Keys.of(0, [3, 7]), target=target
        )
    assert result.success.tolist() == [True, False]
    assert torch.equal(result.x_adv[1], x[1])


@pytest.mark.parametrize("norm", NORMS)
def test_the_normal_converges_to_the_steepest_way_across_the_boundary(norm):
    """Of a linear model of slope w, which a direction of norm 1 climbs by at most the dual norm of w."""
    model, x, y = linear((8,), 2)
    weight = model[1].weight.detach()
    slope = weight[1 - y] - weight[y]
    with torch.no_grad():
        gap = (model(x).gather(1, y[:, None]) - model(x).gather(1, 1 - y[:, None]))[:, 0]
    edge = x + (gap / slope.square().sum(1))[:, None] * slope
    missed = []
    for probes in (30, 300, 3000):
        hop = attack(norm=norm, probes=probes, box=FREE)
        ball = hop.threat.around(x, torch.full((8,), torch.inf, dtype=torch.float64))
        state = State(ball, y, model(x).detach(), Keys.of(0, 8), edge)
        normal = hop.normal(state, Ask(model, Execution()), torch.full((8,), 0.1, dtype=torch.float64))
        torch.testing.assert_close(hop.threat.norm.measure(normal), torch.ones(8, dtype=torch.float64))
        most = torch.linalg.vector_norm(slope, ord=hop.threat.norm.dual, dim=1)
        missed.append(float((1 - (normal * slope).sum(1) / most).mean()))
    assert missed[0] > missed[1] > missed[2]
    assert missed[2] < 0.005


@pytest.mark.parametrize("key", ["steps", "probes", "most_probes", "draws"])
def test_counts_must_be_whole(key):
    with pytest.raises(ValueError, match=f"attack.hopskipjump: {key} must be a whole number >= 1, got 0"):
        attack(**{key: 0})
