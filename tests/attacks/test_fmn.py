import math

import pytest
import torch
from torch import nn

import robustaug
from tests.conformance.test_attack_conformance import FREE, network

DUAL = {"L1": torch.inf, "L2": 2, "Linf": 1}
ORDER = {"L0": 0, "L1": 1, "L2": 2, "Linf": torch.inf}


def points(model, n=12, seed=1):
    x = torch.rand(n, 3, 2, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    with torch.no_grad():
        return x, model(x).argmax(1)


def projected(delta, radius, norm):
    """The nearest change of norm at most the radius, for one sample without a box."""
    if norm == "Linf":
        return delta.clamp(-radius, radius)
    if norm == "L2":
        return delta * min(1.0, radius / float(delta.norm()))
    if norm == "L0":
        kept = torch.zeros_like(delta)
        top = delta.abs().topk(int(min(radius, len(delta)))).indices
        kept[top] = delta[top]
        return kept
    if float(delta.abs().sum()) <= radius:
        return delta
    size = delta.abs().sort(descending=True).values
    shift = (size.cumsum(0) - radius) / torch.arange(1, len(size) + 1)
    return delta.sign() * (delta.abs() - shift[int((size > shift).sum()) - 1]).clamp_min(0)


@pytest.mark.parametrize("norm", ORDER)
def test_it_takes_the_published_steps(norm):
    """Pintor et al. 2021, algorithm 1, written out for one sample at a time; the radius grows at least."""
    model = network()
    xs, ys = points(model)
    steps, norms = 30, []
    for x, y in zip(xs, ys, strict=True):
        delta, best, found = torch.zeros(12, dtype=torch.float64), torch.inf, False
        radius = 1.0 if norm == "L0" else torch.inf
        for k in range(steps + 1):
            at = (x.flatten() + delta)[None].reshape(1, 3, 2, 2).requires_grad_()
            logits = model(at)[0]
            others = torch.cat([logits[:y], logits[y + 1 :]])
            loss = others.max() - logits[y]
            adversarial, size = bool(logits.argmax() != y), float(torch.linalg.vector_norm(delta, ord=ORDER[norm]))
            if adversarial:
                found, best = True, min(best, size)
            if k == steps:
                break
            (grad,) = torch.autograd.grad(loss, at)
            grad = grad.flatten()
            cosine = (1 + math.cos(math.pi * k / steps)) / 2
            alpha, gamma = 0.01 + 0.99 * cosine, 0.001 + 0.049 * cosine
            if norm == "L0":
                fewer = max(0, min(radius - 1, math.floor(radius * (1 - gamma)), best))
                radius = fewer if adversarial else max(radius + 1, math.floor(radius * (1 + gamma)))
                radius = min(radius, 12)
            elif adversarial:
                radius = min(radius * (1 - gamma), best)
            elif found:
                radius = radius * (1 + gamma)
            else:
                dual = float(torch.linalg.vector_norm(grad, ord=DUAL[norm]))
                radius = max(size + float(loss.detach().abs()) / dual, size * (1 + gamma))
            delta = projected(delta + alpha * grad / grad.norm(), radius, norm)
        norms.append(best)
    attack = robustaug.create("attack.fmn", norm=norm, steps=steps, classes=0, refine=0, box=FREE)
    result = attack(model, xs, ys)
    norms = torch.tensor(norms, dtype=torch.float64)
    assert norms.isfinite().sum() >= 6
    assert torch.equal(result.success, norms.isfinite())
    torch.testing.assert_close(result.norm[result.success], norms[norms.isfinite()], rtol=1e-6, atol=0)


def test_a_box_that_cuts_does_not_stall_the_search():
    """Half of the values lie at the side of the box that the gradient points to."""
    weight = torch.ones(1, 40, dtype=torch.float64)
    layer = nn.Linear(40, 2, bias=True, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(torch.cat([torch.zeros_like(weight), weight]))
        layer.bias.copy_(torch.tensor([25.0, 0.0]))
    x = torch.cat([torch.ones(1, 20), torch.zeros(1, 20)], dim=1).double()
    result = robustaug.create("attack.fmn", norm="L2", classes=0)(layer.eval(), x, torch.tensor([0]))
    assert result.success.all()
    assert float(result.norm) == pytest.approx(5 / math.sqrt(20), rel=0.01)


def test_nan_on_the_way_does_not_spread():
    class Holes(nn.Module):
        def forward(self, x):
            z = x.sum(1)
            z = torch.where((z > 0.6) & (z < 0.8), torch.nan, z)
            return torch.stack([torch.ones_like(z), z], 1)

    result = robustaug.create("attack.fmn", classes=0)(
        Holes().eval(), torch.full((2, 3), 0.19, dtype=torch.float64), torch.zeros(2, dtype=torch.int64)
    )
    assert result.x_adv.isfinite().all()


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"step_size": 0}, "step_size must be in"),
        ({"gamma": 0}, "gamma must be in"),
        ({"classes": -1}, "classes must be a whole number >= 0, got -1"),
    ],
)
def test_values_that_make_no_sense_are_refused(params, match):
    with pytest.raises(ValueError, match=match):
        robustaug.create("attack.fmn", **params)
