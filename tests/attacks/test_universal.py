import pytest
import torch
from torch import nn

import robustaug
from robustaug.attacks.driver import perturb
from robustaug.attacks.execution import Execution
from robustaug.rng import Keys
from tests.attacks.test_hopskipjump import images
from tests.conformance.test_attack_conformance import FREE, linear, network

NORMS = ["Linf", "L2"]


def attack(**params):
    return robustaug.create("attack.universal", **{"eps": 0.2, "steps": 20} | params)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("batch", [128, 5])
def test_every_sample_moves_by_the_same_clipped_to_the_box(norm, batch):
    model = network()
    x, y = images(model, 24)
    y[3] = (y[3] + 1) % 5  # wrong to begin with
    universal = attack(norm=norm, batch=batch)
    delta = universal.fit(model, x, y)
    result = universal(model, x, y)
    others = torch.arange(24) != 3
    torch.testing.assert_close(result.x_adv[others], (x + delta).clamp(0, 1)[others])
    assert torch.equal(result.x_adv[3], x[3])
    assert result.success[3]
    assert universal.threat.norm.measure(delta[None]) <= 0.2
    assert (delta != 0).all()
    assert torch.equal(result.verified, result.success)


@pytest.mark.parametrize("norm", NORMS)
def test_a_perturbation_fitted_elsewhere_is_applied_as_it_is(norm):
    model = network()
    x, y = images(model, 24)
    delta = attack(norm=norm).fit(model, x[:12], y[:12])
    result = attack(norm=norm, delta=delta)(model, x[12:], y[12:])
    torch.testing.assert_close(result.x_adv, (x[12:] + delta).clamp(0, 1))
    assert (result.forwards == 2).all()
    assert not result.backwards.any()
    again = robustaug.create("attack.universal", **attack(norm=norm, delta=delta).spec()["attack.universal"])
    assert torch.equal(again(model, x[12:], y[12:]).x_adv, result.x_adv)


@pytest.mark.parametrize("norm", NORMS)
def test_on_a_linear_model_it_is_the_steepest_way(norm):
    """Samples of one class share the best perturbation: eps times the direction that climbs the slope fastest."""
    model, x, y = linear((6,), 2)
    x, y = x[y == 0], y[y == 0]
    weight = model[1].weight.detach()
    slope = (weight[1] - weight[0])[None]
    universal = attack(norm=norm, eps=0.5, box=FREE, loss="margin", cap=1e6)
    best = 0.5 * universal.threat.norm.steepest(slope)[0]
    torch.testing.assert_close(universal.fit(model, x, y), best)


def test_the_first_step_follows_the_mean_of_the_capped_loss():
    model = network()
    x, y = images(model)
    with torch.no_grad():
        losses = nn.functional.cross_entropy(model(x), y, reduction="none")
    cap = float(losses.median()) + 1e-9
    leaf = x.clone().requires_grad_()
    loss = nn.functional.cross_entropy(model(leaf), y, reduction="none").clamp_max(cap).sum()
    [grad] = torch.autograd.grad(loss, leaf)
    delta = attack(steps=1, step_size=0.01, cap=cap).fit(model, x, y)
    torch.testing.assert_close(delta, 0.01 * grad.sum(0).sign())


def test_values_beyond_the_end_of_the_box_do_not_pull():
    """The first sample pulls the second value up hard, but has it at 1 already: the other sample decides."""

    class Pulled(nn.Module):
        def forward(self, x):
            up = 8 * (1 - x[:, 0]) * x[:, 1] - x[:, 0] * x[:, 1] - 20  # out of reach
            return torch.stack([-up, up], 1)

    x = torch.tensor([[0.0, 1.0], [1.0, 0.5]], dtype=torch.float64)
    zeros = torch.zeros(2, dtype=torch.int64)
    second = torch.tensor([False, True])
    delta = attack(eps=0.2, loss="margin", cap=99).fit(Pulled().eval(), x, zeros, mask=second)
    assert abs(float(delta[1])) <= 2.5 * 0.2 / 20 + 1e-9  # to and fro by one step


@pytest.mark.parametrize("norm", NORMS)
def test_it_beats_a_random_perturbation(norm):
    model = network()
    x, y = images(model, 64)
    eps = 0.1 if norm == "Linf" else 0.35
    universal = attack(norm=norm, eps=eps, steps=40)
    fell = universal(model, x, y).success.sum()
    noise = torch.randn(20, 3, 2, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    noise = eps * universal.threat.norm.steepest(noise)
    random = [attack(norm=norm, eps=eps, delta=delta)(model, x, y).success.sum() for delta in noise]
    assert fell >= max(random)
    assert fell > sum(random) / len(random)


def test_passes_are_counted_and_bounded():
    model = network()
    x, y = images(model, 24)
    result = attack(steps=12, batch=8)(model, x, y)  # 4 epochs of 3 mini-batches
    assert (result.forwards == 1 + 4 + 1).all()
    assert (result.backwards == 4).all()
    for budget in (1, 2, 3, 5):
        bounded = attack(steps=12, batch=8)(model, x, y, execution=Execution(budget=budget))
        assert bounded.forwards.max() <= budget
    shared = (bounded.x_adv - x)[((bounded.x_adv > 0) & (bounded.x_adv < 1)).flatten(1).all(1)]
    torch.testing.assert_close(shared, shared[:1].expand_as(shared))  # what it had by then, judged


def test_each_sample_keeps_its_own_budget_and_mask():
    model = network()
    x, y = images(model)
    eps = torch.linspace(0, 0.2, 12, dtype=torch.float64)
    mask = torch.rand(12, 3, 2, 2, generator=torch.Generator().manual_seed(2)) < 0.5
    for norm in NORMS:
        result = attack(norm=norm)(model, x, y, eps=eps, mask=mask)
        assert (result.norm <= eps * (1 + 1e-6)).all()
        assert torch.equal(result.x_adv[~mask], x[~mask])
        assert torch.equal(result.verified, result.success)
        assert (result.norm[1:] > 0).all()


def test_all_can_be_led_to_one_class():
    model = network()
    x, _ = images(model, 24)
    with torch.no_grad():
        y = model(x).argmax(1)
    target = torch.full((24,), int(y.bincount(minlength=5).argmax()))
    universal = attack(eps=0.3, targeted=True, steps=40)
    result = universal(model, x, y, target=target)
    with torch.no_grad():
        assert torch.equal(model(result.x_adv).argmax(1) == target, result.success)
    assert result.success.sum() > (y == target).sum()
    delta = universal.fit(model, x, y, target=target)
    rest = y != target
    torch.testing.assert_close(result.x_adv[rest], (x + delta).clamp(0, 1)[rest])


def test_mini_batches_take_each_sample_once_an_epoch():
    keys = Keys.of(0, 10)
    parts = [attack(batch=4)._rows(keys, 3, part) for part in range(3)]
    assert sorted(torch.cat(parts).tolist()) == list(range(10))
    assert max(len(part) for part in parts) == 4


def test_training_may_use_it():
    model = network()
    x, y = images(model)
    moved = perturb(attack(), model, x, y, Keys.of(0, 12)) - x
    assert (moved.abs() <= 0.2).all()
    assert moved.any()


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"steps": 0}, "steps must be a whole number >= 1, got 0"),
        ({"batch": 0}, "batch must be a whole number >= 1, got 0"),
        ({"cap": 0}, r"cap must be in \(0, inf\), got 0"),
        ({"restarts": 2}, "restarts would give several perturbations; set restarts to 1"),
        ({"delta": [[float("nan")]]}, "delta must hold finite floating numbers"),
        ({"delta": torch.tensor([1])}, "delta must hold finite floating numbers, got torch.int64"),
    ],
)
def test_values_out_of_range_are_refused(params, words):
    with pytest.raises(ValueError, match=f"attack.universal: {words}"):
        attack(**params)


def test_what_does_not_fit_is_refused():
    model = network()
    x, y = images(model)
    with pytest.raises(ValueError, match=r"delta must have the shape of one sample, \(3, 2, 2\), got \(3,\)"):
        attack(delta=torch.zeros(3))(model, x, y)
    with pytest.raises(ValueError, match="fit takes a target where targeted is true"):
        attack(targeted=True).fit(model, x, y)
    with pytest.raises(ValueError, match="no sample to fit to"):
        attack().fit(model, x, (y + 1) % 5)
    with pytest.raises(ValueError, match="eval"):
        attack().fit(network().train(), x, y)
