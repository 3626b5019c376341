import math

import pytest
import torch
from scipy.optimize import minimize

from robustaug.attacks.threat import NORMS, Threat
from robustaug.rng import Keys

SHAPES = [(7,), (3, 5), (2, 4, 3)]
ORDERS = {"Linf": math.inf, "L2": 2}


def draw(shape, n=6, scale=1.0, seed=0):
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(seed)) * scale


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("shape", SHAPES)
def test_norms_are_measured_a_row(name, shape):
    delta = draw(shape)
    expected = torch.stack([torch.linalg.vector_norm(row.double(), ORDERS[name]) for row in delta.flatten(1)])
    measured = NORMS[name].measure(delta)
    assert measured.dtype == torch.float64
    assert torch.allclose(measured, expected)
    assert NORMS[name].of_ones(5) == pytest.approx(float(NORMS[name].measure(torch.ones(1, 5))))


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("shape", SHAPES)
def test_projection_is_feasible_and_changes_nothing_inside(name, shape):
    norm, delta, eps = NORMS[name], draw(shape), torch.tensor([0, 1e-4, 0.1, 0.5, 2, 100.0], dtype=torch.float64)
    projected = norm.project(delta, eps)
    assert (norm.measure(projected) <= eps * (1 + 1e-6)).all()
    assert torch.allclose(norm.project(projected, eps), projected, rtol=1e-6)
    assert torch.equal(projected[5], delta[5])
    assert not projected[0].any()


@pytest.mark.parametrize("name", NORMS)
def test_projection_finds_the_nearest_point(name):
    norm, delta = NORMS[name], draw((4,), n=3).double()
    for row in delta:
        projected = norm.project(row[None], torch.tensor([0.4], dtype=torch.float64))[0]
        limits = {"Linf": [], "L2": [{"type": "ineq", "fun": lambda z: 0.16 - z @ z}]}[name]
        bounds = [(-0.4, 0.4)] * 4
        best = minimize(
            lambda z, row=row: ((z - row.numpy()) ** 2).sum(), projected.numpy() * 0, bounds=bounds, constraints=limits
        )
        assert ((projected - row) ** 2).sum() <= best.fun * (1 + 1e-5) + 1e-9


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_step_is_one_long_and_climbs_fastest(name, shape):
    norm, grad = NORMS[name], draw(shape, scale=1e-30)
    step = norm.steepest(grad)
    assert torch.allclose(norm.measure(step), torch.ones(6, dtype=torch.float64), rtol=1e-5)
    gain = (step.double() * grad.double()).flatten(1).sum(1)
    dual = torch.linalg.vector_norm(grad.double().flatten(1), {"Linf": 1, "L2": 2}[name], dim=1)
    assert torch.allclose(gain, dual, rtol=1e-5)
    assert not norm.steepest(torch.zeros(2, *shape)).any()


@pytest.mark.parametrize("name", NORMS)
def test_starts_fill_the_ball_evenly(name):
    """The radius of a uniform draw in D dimensions has mean D / (D + 1) of eps."""
    norm, n, shape = NORMS[name], 4000, (2, 3)
    delta = norm.random(Keys.of(0, n), shape, torch.full((n,), 0.5, dtype=torch.float64))
    radius = norm.measure(delta) / 0.5
    assert radius.max() <= 1 + 1e-6
    assert float(radius.mean()) == pytest.approx(6 / 7, abs=0.01)
    assert delta.mean(0).abs().max() < 0.02


@pytest.mark.parametrize("name", NORMS)
def test_a_start_belongs_to_its_sample(name):
    threat, clean = Threat(NORMS[name]), torch.rand(5, 2, 3, generator=torch.Generator().manual_seed(0))
    eps = torch.full((5,), 0.2, dtype=torch.float64)
    whole = threat.start(clean, eps, Keys.of(1, 5))
    rows = torch.tensor([3, 1])
    assert torch.equal(threat.start(clean[rows], eps[rows], Keys.of(1, rows)), whole[rows])
    assert not torch.equal(threat.start(clean, eps, Keys.of(2, 5)), whole)


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("eps", [1e-9, 1e-6, 1 / 255, 0.3, 1.0])
@pytest.mark.parametrize("box", [(0.0, 1.0), (-3.0, 2.0), (-math.inf, math.inf)])
def test_no_norm_is_above_eps_once_stored(name, dtype, eps, box):
    """Any projected point, in the dtype it is stored in, measured in float64."""
    low, high = (max(v, -5) for v in (box[0], min(box[1], 5)))
    generator = torch.Generator().manual_seed(1)
    clean = torch.rand(4, 3, 16, 16, dtype=dtype, generator=generator) * (high - low) + low
    threat = Threat(NORMS[name], *box)
    budget = torch.full((4,), eps, dtype=torch.float64)
    radius = threat.radius(clean, budget)
    far = clean + torch.randn(clean.shape, dtype=dtype, generator=generator)
    x = threat.project(clean, far, radius)
    assert (threat.norm.measure(x.double() - clean.double()) <= budget * (1 + 1e-6)).all()
    assert x.min() >= box[0]
    assert x.max() <= box[1]
    assert (radius <= budget).all()
    if eps >= 1 / 255:
        assert (radius >= budget * 0.99).all()
