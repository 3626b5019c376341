import pytest
import torch

import robustaug
from robustaug.attacks.ask import Ask
from robustaug.attacks.execution import Execution
from robustaug.attacks.state import State
from robustaug.rng import Keys
from tests.attacks.test_hopskipjump import images
from tests.attacks.test_simba import Recorded
from tests.conformance.test_attack_conformance import FREE, distance, linear, network

CASES = [
    {"norm": "Linf"},
    {"norm": "Linf", "rule": "steepest"},
    {"norm": "L2", "eps": 0.3},
    {"norm": "L2", "eps": 0.3, "rule": "adam"},
]


def attack(**params):
    return robustaug.create("attack.spsa", **{"eps": 0.1, "steps": 8, "pairs": 8} | params)


def begin(spsa, model, x, y, mask=None):
    ball = spsa.threat.around(x, torch.full((len(x),), 0.1, dtype=torch.float64), mask)
    with torch.no_grad():
        return State(ball, y, model(x), Keys.of(0, len(x)), x), Ask(model, Execution())


def slope(spsa, model, x, y):
    leaf = x.clone().requires_grad_()
    [grad] = torch.autograd.grad(spsa.objective(model(leaf), y).sum(), leaf)
    return grad


@pytest.mark.parametrize("loss", ["margin", "ce"])
@pytest.mark.parametrize("targeted", [False, True])
def test_the_estimate_converges_to_the_gradient(loss, targeted):
    """Its error falls as one over the root of the number of probes: a tenth for a hundred times as many."""
    model = network()
    x, y = images(model)
    error = []
    for pairs in (10, 1000):
        spsa = attack(pairs=pairs, loss=loss, targeted=targeted, radius=1e-4)
        state, ask = begin(spsa, model, x, y)
        wanted = slope(spsa, model, x, y)
        error.append(float((spsa.estimate(state, ask) - wanted).norm() / wanted.norm()))
    # sqrt((D - 1) / pairs) for D = 12 values
    assert error[0] == pytest.approx((11 / 10) ** 0.5, rel=0.35)
    assert error[1] == pytest.approx((11 / 1000) ** 0.5, rel=0.35)


def test_one_pair_follows_the_formula():
    model = network()
    x, y = images(model, 1)
    spsa = attack(pairs=1, radius=0.02)
    recorded = Recorded(model)
    state, ask = begin(spsa, recorded, x, y)
    estimate = spsa.estimate(state, ask)
    forth, back = recorded.points[-1]
    signs = (forth - back) / 0.04
    torch.testing.assert_close(signs.abs(), torch.ones_like(signs))
    torch.testing.assert_close((forth + back) / 2, x[0])
    with torch.no_grad():
        high, low = spsa.objective(model(torch.stack([forth, back])), y.expand(2))
    torch.testing.assert_close(estimate[0], (high - low) / 0.04 * signs)


def test_adam_takes_the_published_step():
    """Kingma & Ba 2015, algorithm 1, ascending: after one estimate each value moves by the whole rate."""
    model = network()
    x, y = images(model)
    spsa = attack(step_size=0.01, rule="adam")
    state, ask = begin(spsa, model, x.clamp(0.2, 0.8), y)
    first = spsa.estimate(state, ask)
    state = spsa.step(spsa.init(state, ask), ask)
    torch.testing.assert_close(state.x, state.clean + 0.01 * first.sign(), rtol=0, atol=1e-6)
    second = spsa.estimate(state, ask)
    mean = (0.9 * 0.1 * first + 0.1 * second) / (1 - 0.9**2)
    square = (0.999 * 0.001 * first**2 + 0.001 * second**2) / (1 - 0.999**2)
    before = state.x
    state = spsa.step(state, ask)
    torch.testing.assert_close(state.x, before + 0.01 * mean / (square.sqrt() + 1e-8))


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_a_linear_model_breaks_at_its_distance_and_not_before(norm):
    model, x, y = linear((7,), 2)
    best = distance(model, x, y, norm)
    spsa = attack(norm=norm, eps=1.0, box=FREE, rule="steepest", steps=40, pairs=64)
    assert spsa(model, x, y, eps=best * 1.01).success.all()
    assert not spsa(model, x, y, eps=best * 0.999).success.any()


@pytest.mark.parametrize("params", CASES)
def test_queries_are_counted_and_bounded(params):
    model = network()
    x, y = images(model)
    recorded = Recorded(model)
    result = attack(**params | {"eps": 0.06})(recorded, x, y)
    standing = ~result.success
    assert standing.any()
    assert (result.forwards[standing] == 1 + 8 * 17 + 1).all()
    assert not result.backwards.any()
    assert not result.silent.any()
    asked = sum(len(points) for points in recorded.points)
    assert asked == result.forwards.sum() + len(x) + 1  # the verifier's pass is its own
    bounded = attack(**params)(network(), x, y, execution=Execution(budget=40))
    assert bounded.forwards.max() <= 40


@pytest.mark.parametrize("params", CASES)
def test_ball_box_and_mask_are_kept(params):
    model = network()
    x, y = images(model)
    mask = torch.rand(12, 3, 2, 2, generator=torch.Generator().manual_seed(2)) < 0.5
    result = attack(**params)(model, x, y, mask=mask)
    assert torch.equal(result.verified, result.success)
    assert torch.equal(result.x_adv[~mask], x[~mask])
    assert not torch.equal(result.x_adv, x)
    assert (result.norm <= attack(**params).eps * (1 + 1e-6)).all()
    assert result.x_adv.min() >= 0
    assert result.x_adv.max() <= 1


def test_probes_leave_masked_values_alone():
    model = network()
    x, y = images(model)
    mask = torch.rand(12, 3, 2, 2, generator=torch.Generator().manual_seed(2)) < 0.5
    spsa = attack()
    recorded = Recorded(model)
    state, ask = begin(spsa, recorded, x, y, mask)
    assert not spsa.estimate(state, ask)[~mask].any()
    probes = torch.cat(recorded.points)[-12 * 16 :].unflatten(0, (12, 16))
    assert torch.equal(probes[:, 3][~mask], x[~mask])


@pytest.mark.parametrize("params", CASES)
def test_results_do_not_depend_on_the_batch(params):
    model = network()
    x, y = images(model)
    keys = Keys.of(3, 12)
    spsa = attack(**params, restarts=2, random_start=True)
    whole = spsa(model, x, y, keys)
    for i in range(0, 12, 4):
        part = spsa(model, x[i : i + 4], y[i : i + 4], keys[i : i + 4])
        torch.testing.assert_close(part.x_adv, whole.x_adv[i : i + 4], rtol=0, atol=1e-9)
        assert torch.equal(part.forwards, whole.forwards[i : i + 4])
    assert not torch.equal(spsa(model, x, y, Keys.of(4, 12)).x_adv, whole.x_adv)


def test_many_probes_are_asked_in_parts_of_bounded_size():
    model = network()
    x, y = images(model, 2)
    recorded = Recorded(model)
    attack(pairs=150, steps=1)(recorded, x, y)
    assert max(len(points) for points in recorded.points) <= 2 * 128


def test_steps_beat_random_points_on_a_network():
    model = network()
    x, y = images(model, 24)
    fell = [int(attack(eps=0.05, steps=steps, pairs=32)(model, x, y).success.sum()) for steps in (1, 20)]
    pgd = robustaug.create("attack.pgd", eps=0.05, steps=20)(model, x, y).success.sum()
    assert fell[0] <= fell[1]
    assert fell[1] >= pgd - 1


def test_targets_are_reached():
    model = network()
    x, y = images(model)
    with torch.no_grad():
        target = model(x).topk(2).indices[:, 1]
    result = attack(eps=1.0, targeted=True, steps=20)(model, x, y, target=target)
    with torch.no_grad():
        assert torch.equal(model(result.x_adv).argmax(1) == target, result.success)
    assert result.success.sum() > 6


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"steps": 0}, "steps must be a whole number >= 1, got 0"),
        ({"pairs": 0}, "pairs must be a whole number >= 1, got 0"),
        ({"radius": 0}, r"radius must be in \(0, inf\), got 0"),
        ({"rule": "sgd"}, "rule must be one of 'adam', 'steepest', got 'sgd'"),
        ({"step_size": -1}, r"step_size must be in \(0, inf\), got -1"),
    ],
)
def test_values_out_of_range_are_refused(params, words):
    with pytest.raises(ValueError, match=f"attack.spsa: {words}"):
        attack(**params)
