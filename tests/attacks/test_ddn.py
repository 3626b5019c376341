import pytest
import torch
from torch import nn

import robustaug
from tests.conformance.test_attack_conformance import FREE, network


def points(model, n=12, seed=1):
    x = torch.rand(n, 3, 2, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    with torch.no_grad():
        return x, model(x).argmax(1)


def test_it_takes_the_published_steps():
    """Rony et al. 2019, algorithm 1, without rounding to levels: written out for one sample at a time."""
    model = network()
    xs, ys = points(model)
    steps, gamma, norms = 25, 0.05, []
    for x, y in zip(xs, ys, strict=True):
        delta, length, best = torch.zeros_like(x), 1.0, torch.inf
        for k in range(steps + 1):
            at = (x + delta)[None].requires_grad_()
            logits = model(at)
            adversarial = bool(logits.argmax(1) != y)
            if adversarial:
                best = min(best, float(delta.norm()))
            if k == steps:
                break
            (grad,) = torch.autograd.grad(nn.functional.cross_entropy(logits, y[None]), at)
            alpha = 0.01 + 0.99 * (1 + torch.tensor(torch.pi * k / steps).cos().double()) / 2
            delta = delta + alpha * grad[0] / grad.norm()
            length = length * (1 - gamma if adversarial else 1 + gamma)
            delta = length * delta / delta.norm()
        norms.append(best)
    attack = robustaug.create("attack.ddn", steps=steps, classes=0, refine=0, box=FREE)
    result = attack(model, xs, ys)
    norms = torch.tensor(norms, dtype=torch.float64)
    assert norms.isfinite().any()
    assert torch.equal(result.success, norms.isfinite())
    torch.testing.assert_close(result.norm[result.success], norms[norms.isfinite()], rtol=1e-6, atol=0)


def test_lengths_are_in_widths_of_the_box():
    model = network()
    x, y = points(model)
    small = robustaug.create("attack.ddn")(model, x, y)
    scaled = nn.Sequential(Divided(255.0), model).eval()
    large = robustaug.create("attack.ddn", box=(0.0, 255.0))(scaled, 255 * x, y)
    torch.testing.assert_close(large.norm, 255 * small.norm, rtol=1e-6, atol=0)


class Divided(nn.Module):
    def __init__(self, by):
        super().__init__()
        self.by = by

    def forward(self, x):
        return x / self.by


def test_a_flat_start_is_left_at_random():
    """The gradient is zero inside the plateau; only a random turn leads out of it."""

    class Plateau(nn.Module):
        def forward(self, x):
            rise = (x.flatten(1).norm(dim=1) - 0.5).clamp_min(0)
            return torch.stack([torch.full_like(rise, 0.1), rise], 1)

    attack = robustaug.create("attack.ddn", box=FREE)
    result = attack(Plateau().eval(), torch.zeros(3, 4, dtype=torch.float64), torch.zeros(3, dtype=torch.int64))
    assert result.success.all()
    assert ((result.norm - 0.6).abs() < 0.01).all()
    assert not torch.allclose(result.x_adv[0], result.x_adv[1])


def test_drawing_nearer_never_loses_a_point():
    model = network(2)
    x, y = points(model, 24)
    plain = robustaug.create("attack.ddn", refine=0)(model, x, y)
    drawn = robustaug.create("attack.ddn", refine=10)(model, x, y)
    assert (drawn.norm[plain.success] <= plain.norm[plain.success]).all()
    assert drawn.success.sum() >= plain.success.sum()


def test_restarts_begin_at_other_boundaries_and_never_hurt():
    model = network(2)
    x, y = points(model, 24)
    one, four = (robustaug.create("attack.ddn", restarts=r, steps=10)(model, x, y) for r in (1, 4))
    assert (four.norm[one.success] <= one.norm[one.success]).all()
    assert (four.norm < one.norm - 1e-6).any()


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"gamma": 1.0}, r"gamma must be in \(0, 1\), got 1"),
        ({"steps": 0}, "steps must be a whole number >= 1, got 0"),
        ({"refine": -1}, "refine must be a whole number >= 0, got -1"),
        ({"first_norm": 0}, "first_norm must be in"),
        ({"norm": "Linf"}, "norm must be one of 'L2', got 'Linf'"),
    ],
)
def test_values_that_make_no_sense_are_refused(params, match):
    with pytest.raises(ValueError, match=match):
        robustaug.create("attack.ddn", **params)
