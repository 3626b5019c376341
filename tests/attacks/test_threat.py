"""Norms and balls: measured, projected, drawn from and climbed in, as their definitions say."""

import itertools
import math

import pytest
import torch
from scipy.optimize import minimize

from robustaug.attacks.threat import NORMS, Ball, Threat
from robustaug.rng import Keys

SHAPES = [(7,), (3, 5), (2, 4, 3)]
ORDERS = {"Linf": math.inf, "L2": 2, "L1": 1, "L0": 0}
BUDGETS = {"Linf": 0.1, "L2": 0.5, "L1": 1.3, "L0": 3.0}
"""Budgets that bind for the perturbations `draw` makes."""


def draw(shape, n=6, scale=1.0, seed=0, dtype=torch.float32):
    return torch.randn(n, *shape, dtype=dtype, generator=torch.Generator().manual_seed(seed)) * scale


def rows(value, n):
    return torch.full((n,), value, dtype=torch.float64)


def everywhere(delta, side=math.inf):
    return torch.full_like(delta, -side), torch.full_like(delta, side)


def measured(delta, name):
    """The norm of each row, written with torch's own functions."""
    return torch.stack([torch.linalg.vector_norm(row.double(), ORDERS[name]) for row in delta.flatten(1)])


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_norms_are_measured_a_row(name, shape):
    delta = draw(shape) * (draw(shape, seed=1) > 0)
    found = NORMS[name].measure(delta)
    assert found.dtype == torch.float64
    assert torch.allclose(found, measured(delta, name))
    assert NORMS[name].of_ones(5) == pytest.approx(float(NORMS[name].measure(torch.ones(1, 5))))


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("side", [0.3, 1.0, math.inf])
def test_projections_are_feasible_and_change_nothing_inside(name, shape, side):
    norm, delta = NORMS[name], draw(shape)
    least, most = everywhere(delta, side)
    eps = torch.tensor([0, 0.1, 1, 2.5, 4, 100.0], dtype=torch.float64)
    once = norm.project(delta, eps, least, most)
    assert (measured(once, name) <= eps * (1 + 1e-6)).all()
    if name != "L2":  # whose box is the ball's to keep
        assert once.abs().max() <= side
    torch.testing.assert_close(norm.project(once, eps, least, most), once, rtol=2e-6, atol=1e-7)
    inside = once if name != "L2" else once.clamp(least, most)
    torch.testing.assert_close(norm.project(inside, eps * 1.01 + 1e-6, least, most), inside, rtol=0, atol=0)
    assert torch.equal(norm.project(delta, eps, *everywhere(delta))[5], delta[5])
    assert not once[0].any()


def nearest(name, row, eps, least, most):
    """The squared distance from a point (D,) to the ball and box, by a general solver."""
    if name == "L0":  # every choice of values that may change
        kept = itertools.combinations(range(len(row)), min(len(row), int(eps)))
        return min(
            sum((row[i] - (min(max(row[i], least[i]), most[i]) if i in some else 0)) ** 2 for i in range(len(row)))
            for some in kept
        )
    size = len(row)
    if name == "L1":  # z = u - v with u, v >= 0, so that the budget is linear
        bounds = [(0, m) for m in most] + [(0, -least_) for least_ in least]
        limits = [{"type": "ineq", "fun": lambda z: eps - z.sum()}]
        return minimize(
            lambda z: ((z[:size] - z[size:] - row) ** 2).sum(), [0] * 2 * size, bounds=bounds, constraints=limits
        ).fun
    side = eps if name == "Linf" else math.inf
    bounds = [(max(low, -side), min(high, side)) for low, high in zip(least, most, strict=True)]
    limits = [{"type": "ineq", "fun": lambda z: eps**2 - z @ z}] if name == "L2" else []
    return minimize(lambda z: ((z - row) ** 2).sum(), [0] * size, bounds=bounds, constraints=limits).fun


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("seed", range(6))
def test_projections_find_the_nearest_point(name, seed):
    """In L2 within the ball alone; otherwise within ball and box, whose sides differ from value to value."""
    delta = draw((6,), n=4, seed=seed, dtype=torch.float64)
    least, most = -draw((6,), n=4, seed=seed + 10, dtype=torch.float64).abs(), draw((6,), n=4, seed=seed + 20).abs()
    if name == "L2":
        least, most = everywhere(delta)
    most = most.double()
    found = NORMS[name].project(delta, rows(BUDGETS[name], 4), least, most)
    assert ((found >= least - 1e-12) & (found <= most + 1e-12)).all()
    for i in range(4):
        best = nearest(name, delta[i].numpy(), BUDGETS[name], least[i].tolist(), most[i].tolist())
        assert float(((found[i] - delta[i]) ** 2).sum()) == pytest.approx(best, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("sizes", [(3.0, 3.0, 3.0), (1e-8, 1.0, 1e8), (0.0, 0.0, 2.0), (0.2, 0.2, 0.2)])
def test_l1_projections_are_exact_at_ties_and_extremes(sizes):
    """The threshold t of min(max(|d| - t, 0), room) by bisection."""
    delta = torch.tensor([sizes], dtype=torch.float64) * torch.tensor([1.0, -1.0, 1.0])
    room, eps = 0.9, 0.5
    low, high = 0.0, float(delta.abs().max())
    for _ in range(200):
        middle = (low + high) / 2
        total = float((delta.abs() - middle).clamp(0, room).sum())
        low, high = (middle, high) if total > eps else (low, middle)
    expected = (delta.abs() - high).clamp(0, room) * delta.sign()
    found = NORMS["L1"].project(delta, rows(eps, 1), *everywhere(delta, room))
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("name", ["Linf", "L2"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_step_is_one_long_and_climbs_fastest(name, shape):
    norm, grad = NORMS[name], draw(shape, scale=1e-30)
    step = norm.steepest(grad)
    assert torch.allclose(norm.measure(step), torch.ones(6, dtype=torch.float64), rtol=1e-5)
    gain = (step.double() * grad.double()).flatten(1).sum(1)
    dual = torch.linalg.vector_norm(grad.double().flatten(1), norm.dual, dim=1)
    assert torch.allclose(gain, dual, rtol=1e-5)
    assert not norm.steepest(torch.zeros(2, *shape)).any()


def test_an_l1_step_is_shared_by_the_hundredth_of_largest_slope():
    grad = draw((3, 10, 10))
    step = NORMS["L1"].steepest(grad).flatten(1)
    top = grad.flatten(1).abs().topk(3, dim=1).indices
    expected = torch.zeros_like(step).scatter(1, top, 1 / 3) * grad.flatten(1).sign()
    torch.testing.assert_close(step, expected)
    few = NORMS["L1"].steepest(torch.tensor([[0.0, -3.0, 1.0], [0.0, 0.0, 0.0]]))
    assert few.tolist() == [[0, -1, 0], [0, 0, 0]]


def test_an_l0_step_moves_the_one_value_of_largest_slope():
    assert NORMS["L0"].steepest(torch.tensor([[0.5, -3.0, 1.0], [0.0, 0.0, 0.0]])).tolist() == [[0, -1, 0], [0, 0, 0]]


@pytest.mark.parametrize("name", ["L1", "L0"])
def test_a_value_at_the_end_of_its_box_leaves_the_step_to_others(name):
    ball = Threat(NORMS[name]).around(torch.tensor([[1.0, 0.2, 0.0]]), rows(2.0, 1))
    moved = ball.climb(ball.clean, torch.tensor([[9.0, 1.0, -9.0]]), rows(0.25, 1))
    torch.testing.assert_close(moved, torch.tensor([[1.0, 0.45, 0.0]]))


@pytest.mark.parametrize("name", ["L2", "L1"])
def test_starts_fill_the_ball_evenly(name):
    """The radius of a uniform draw in D dimensions has mean D / (D + 1) of eps, and all directions are alike."""
    norm, n, shape = NORMS[name], 4000, (2, 3)
    delta = norm.random(Keys.of(0, n), shape, rows(0.5, n))
    radius = norm.measure(delta) / 0.5
    assert radius.max() <= 1 + 1e-6
    assert float(radius.mean()) == pytest.approx(6 / 7, abs=0.01)
    assert float((radius**6).mean()) == pytest.approx(1 / 2, abs=0.02)  # r^D is uniform
    assert delta.mean(0).abs().max() < 0.02
    assert delta.abs().mean(0).flatten().std() < 0.01


def test_linf_starts_fill_the_cube():
    delta = NORMS["Linf"].random(Keys.of(0, 4000), (2, 3), rows(0.5, 4000))
    assert delta.abs().max() <= 0.5
    assert float(delta.std()) == pytest.approx(1 / math.sqrt(12), abs=0.005)
    assert float((NORMS["Linf"].measure(delta) / 0.5).mean()) == pytest.approx(6 / 7, abs=0.01)


def test_l0_starts_change_that_many_values_anywhere():
    delta = NORMS["L0"].random(Keys.of(0, 4000), (2, 3), rows(2.0, 4000))
    assert (delta != 0).flatten(1).sum(1).tolist() == [2] * 4000
    assert (delta != 0).float().mean(0).sub(2 / 6).abs().max() < 0.03
    assert float(delta[delta != 0].std()) == pytest.approx(1 / math.sqrt(3), abs=0.02)


@pytest.mark.parametrize("name", NORMS)
def test_a_start_belongs_to_its_sample(name):
    clean = torch.rand(5, 2, 3, generator=torch.Generator().manual_seed(0))
    ball = Threat(NORMS[name]).around(clean, rows(BUDGETS[name], 5))
    whole, some = ball.start(Keys.of(1, 5)), torch.tensor([3, 1])
    assert torch.equal(ball.take(some).start(Keys.of(1, some)), whole[some])
    assert not torch.equal(ball.start(Keys.of(2, 5)), whole)


BOXES = {
    "unit": (0.0, 1.0),
    "wide": (-3.0, 2.0),
    "free": (-math.inf, math.inf),
    "half": (0.0, math.inf),
    "columns": (torch.linspace(-5, 0, 256).reshape(1, 16, 16), torch.linspace(0.1, 300, 256).reshape(1, 16, 16)),
}


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("eps", [1e-9, 1e-6, 1 / 255, 0.3, 1.0, 8.0])
@pytest.mark.parametrize("box", BOXES)
def test_no_norm_is_above_eps_once_stored(name, dtype, eps, box):
    """Starts, projected points and steps, in the dtype they are stored in, measured in float64."""
    low, high = (torch.as_tensor(side, dtype=dtype) for side in BOXES[box])
    unit = torch.rand(4, 1, 16, 16, dtype=dtype, generator=torch.Generator().manual_seed(1))
    clean = low.clamp_min(-5) + unit * (high.clamp_max(300) - low.clamp_min(-5))
    budget = rows(eps, 4)
    ball = Threat(NORMS[name], low, high).around(clean, budget)
    grad = draw((1, 16, 16), n=4, dtype=dtype)
    points = [
        ball.start(Keys.of(0, 4)),
        ball.project(clean + grad),
        ball.project(clean + 1e3 * grad),
        ball.climb(clean, grad, budget),
        ball.climb(ball.start(Keys.of(0, 4)), grad, 0.3 * budget),
    ]
    for x in points:
        assert x.dtype == dtype
        assert (
            measured(x.double() - clean.double(), name) <= budget * (1 + (1e-12 if dtype == torch.float64 else 0))
        ).all()
        assert ((x >= low) & (x <= high)).all()
    assert (ball.eps <= budget).all()
    rounding = torch.finfo(dtype).eps * (measured(clean, name) + eps)
    assert (ball.eps >= budget - (0 if name == "L0" else rounding)).all()


@pytest.mark.parametrize("name", NORMS)
def test_an_endless_budget_leaves_the_box_alone(name):
    clean = torch.rand(3, 8, generator=torch.Generator().manual_seed(0))
    ball = Threat(NORMS[name]).around(clean, rows(math.inf, 3))
    assert ball.eps.isinf().all()
    far = draw((8,), n=3, scale=9)
    torch.testing.assert_close(ball.project(far), far.clamp(0, 1), rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", NORMS)
def test_each_sample_has_its_own_budget(name):
    clean, eps = torch.full((4, 30), 0.5, dtype=torch.float64), torch.tensor([0, 1, 2, 3.0]) * BUDGETS[name] / 3
    ball = Threat(NORMS[name]).around(clean, eps.double())
    for x in (ball.project(clean + 0.4), ball.start(Keys.of(0, 4))):
        found = ball.measure(x)
        assert found[0] == 0
        assert (found <= eps.double() * (1 + 1e-9)).all()
    assert torch.allclose(ball.measure(ball.project(clean + draw((30,), n=4))), eps.double(), rtol=1e-6)


@pytest.mark.parametrize("name", NORMS)
def test_values_off_the_mask_never_move(name):
    clean = torch.rand(5, 3, 4, generator=torch.Generator().manual_seed(0))
    clean[0, 0, 0] = -1e-8  # even what rounding put beside the box
    mask = torch.rand(5, 3, 4, generator=torch.Generator().manual_seed(1)) > 0.5
    mask[0, 0, 0] = False
    ball = Threat(NORMS[name]).around(clean, rows(BUDGETS[name], 5), mask)
    grad = draw((3, 4), n=5)
    grad[~mask] *= 1e3  # the steepest values are not for the attack
    points = [ball.start(Keys.of(0, 5)), ball.project(clean + grad), ball.climb(clean, grad, rows(0.2, 5))]
    for x in points:
        assert torch.equal(x[~mask], clean[~mask])
        assert (ball.measure(x) <= BUDGETS[name] * (1 + 1e-6)).all()
    assert (ball.measure(points[2]) > 0).all()
    assert torch.equal(ball.take(torch.tensor([3])).project(clean[3:4] + grad[3:4]), points[1][3:4])


def test_what_rounding_put_beside_the_box_may_stay():
    ball = Ball(Threat(NORMS["L2"]), torch.tensor([[-1e-9, 0.5]]), rows(0.1, 1))
    assert torch.equal(ball.project(ball.clean), ball.clean)
