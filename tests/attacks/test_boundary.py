import itertools

import pytest
import torch
from torch import nn

import robustaug
from robustaug.attacks.ask import Ask
from robustaug.attacks.decision import to_boundary
from robustaug.attacks.execution import Execution
from robustaug.attacks.state import AttackWarning, State
from robustaug.rng import Keys
from tests.attacks.test_hopskipjump import Said, images
from tests.conformance.test_attack_conformance import FREE, distance, linear, network


def attack(**params):
    return robustaug.create("attack.boundary", **{"steps": 100} | params)


@pytest.mark.parametrize("shape", [(6,), (2, 5)], ids=str)
def test_a_linear_model_breaks_within_a_hundredth_of_its_distance(shape):
    model, x, y = linear(shape, 2)
    best = distance(model, x, y, "L2")
    result = attack(steps=1200, box=FREE)(model, x, y)
    assert result.verified.all()
    assert (result.norm >= best * (1 - 1e-9)).all()
    assert (result.norm <= best * 1.01).all()


def test_it_stops_once_steps_no_longer_shrink_the_distance():
    model, x, y = linear((6,), 2)
    result = attack(steps=5000, box=FREE)(model, x, y)
    assert (result.forwards < 2500).all()
    assert (result.norm <= distance(model, x, y, "L2") * 1.001).all()


def test_only_the_decision_is_read():
    model = network()
    x, y = images(model)
    results = [attack()(m, x, y) for m in (model, Said(model), Said(model, 30.0))]
    for other in results[1:]:
        assert torch.equal(other.x_adv, results[0].x_adv)
        assert torch.equal(other.forwards, results[0].forwards)
    assert not results[0].backwards.any()


def test_points_come_nearer_with_every_step():
    model = network()
    x, y = images(model)
    norms = [attack(steps=steps)(model, x, y).norm for steps in (1, 10, 50, 250)]
    for before, after in itertools.pairwise(norms):
        assert (after <= before).all()
    assert norms[-1].mean() < 0.8 * norms[0].mean()


def test_queries_are_counted_and_bounded():
    model = Said(network())
    x, y = images(network())
    result = attack(steps=30)(model, x, y)
    assert result.success.all()
    assert model.rows == result.forwards.sum() + len(x) + 1  # the verifier's pass is its own
    starts = result.forwards - 1 - 10 - 30 - 3  # the clean one, the way to the boundary, the walk and its checks
    assert starts.min() >= 1
    assert starts.max() <= 100
    for budget in (1, 20, 40):
        bounded = attack()(network(), x, y, execution=Execution(budget=budget))
        assert bounded.forwards.max() <= budget


@pytest.mark.filterwarnings("ignore:none of 100 random points")
def test_box_and_mask_are_kept():
    model = network()
    x = images(model)[0] * 2 - 0.5
    with torch.no_grad():
        y = model(x).argmax(1)
    mask = torch.rand(12, 3, 2, 2, generator=torch.Generator().manual_seed(2)) < 0.9
    result = attack(box=(-0.5, 1.5))(model, x, y, mask=mask)
    assert result.success.sum() > 6
    assert torch.equal(result.verified, result.success)
    assert torch.equal(result.x_adv[~mask], x[~mask])
    assert result.x_adv.min() >= -0.5
    assert result.x_adv.max() <= 1.5


def test_results_do_not_depend_on_the_batch():
    model = network()
    x, y = images(model)
    keys = Keys.of(3, 12)
    whole = attack(steps=40)(model, x, y, keys)
    for i in range(0, 12, 4):
        part = attack(steps=40)(model, x[i : i + 4], y[i : i + 4], keys[i : i + 4])
        torch.testing.assert_close(part.x_adv, whole.x_adv[i : i + 4], rtol=0, atol=1e-9)
        assert torch.equal(part.forwards, whole.forwards[i : i + 4])
    assert not torch.equal(attack(steps=40)(model, x, y, Keys.of(4, 12)).x_adv, whole.x_adv)


@pytest.mark.filterwarnings("ignore:none of 100 random points")
def test_targets_are_reached_from_random_points_or_the_sample_stands():
    model = network()
    x, y = images(model)
    with torch.no_grad():
        said = model(torch.rand(2000, 3, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(5))).argmax(
            1
        )
    common = said.bincount(minlength=5).topk(2).indices
    target = torch.where(y == common[0], common[1], common[0])
    result = attack(targeted=True)(model, x, y, target=target)
    with torch.no_grad():
        assert torch.equal(model(result.x_adv).argmax(1) == target, result.success)
    assert result.success.sum() > 6


def test_a_model_that_never_errs_is_named_and_stands():
    class Sure(nn.Module):
        def forward(self, x):
            return torch.stack([x.sum(1) + 1, -x.sum(1)], 1)

    x = torch.rand(3, 4)
    with pytest.warns(AttackWarning, match=r"none of 5 random points broke the model for 3 of 3 samples"):
        result = attack(draws=5)(Sure().eval(), x, torch.zeros(3, dtype=torch.int64))
    assert not result.success.any()
    assert torch.equal(result.x_adv, x)
    assert (result.forwards == 6).all()


def test_flat_colours_are_tried_too():
    """A model that fine noise never breaks, as its mean hardly moves; coarse noise does."""

    class Mean(nn.Module):
        def forward(self, x):
            dark = 0.4 - x.flatten(1).mean(1)
            return torch.stack([-dark, dark], 1)

    x = torch.full((4, 3, 16, 16), 0.6)
    result = attack(steps=20)(Mean().eval(), x, torch.zeros(4, dtype=torch.int64))
    assert result.success.all()


@pytest.mark.parametrize("norm", ["L2", "Linf"])
def test_halving_ends_just_behind_the_boundary(norm):
    def halfspace(x):
        return torch.stack([1 - x.flatten(1).sum(1), x.flatten(1).sum(1) - 1], 1)

    x = torch.zeros(2, 4, dtype=torch.float64)
    far = torch.tensor([[1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 4.0]]).double()
    hop = robustaug.create("attack.hopskipjump", norm=norm, box=FREE)
    ball = hop.threat.around(x, torch.full((2,), torch.inf, dtype=torch.float64))
    state = State(ball, torch.zeros(2, dtype=torch.int64), x, Keys.of(0, 2), far)
    near = to_boundary(state, Ask(halfspace, Execution()), False, 12)
    assert (near.sum(1) > 1).all()
    assert (near.sum(1) < 1 + 4 / 2**11).all()


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"steps": 0}, "steps must be a whole number >= 1, got 0"),
        ({"walk": 0}, r"walk must be in \(0, 1\), got 0"),
        ({"shrink": 1.5}, r"shrink must be in \(0, 1\), got 1.5"),
        ({"norm": "Linf"}, "norm must be one of 'L2', got 'Linf'"),
    ],
)
def test_values_out_of_range_are_refused(params, words):
    with pytest.raises(ValueError, match=f"attack.boundary: {words}"):
        attack(**params)
