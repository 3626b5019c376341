import pytest
import torch
from torch import nn

import robustaug
from tests.conformance.test_attack_conformance import FREE, linear, network


def points(model, n=12, seed=1):
    x = torch.rand(n, 3, 2, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    with torch.no_grad():
        return x, model(x).argmax(1)


def falls(slopes, start):
    """Two classes: class 0 leads by start - slopes @ x."""
    layer = nn.Linear(len(slopes), 2, dtype=torch.float64).eval()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0.0] * len(slopes), slopes]))
        layer.bias.copy_(torch.tensor([start, 0.0]))
    return layer


def test_values_at_the_side_of_the_box_are_not_frozen():
    """Every value that counts lies at 0 or 1; the way out leads straight into the box."""
    x = torch.tensor([[0.0, 1.0, 0.0, 1.0]], dtype=torch.float64)
    model = falls([1.0, -1.0, 1.0, -1.0], -1.0)  # the margin is 1, the slope 2
    result = robustaug.create("attack.cw", classes=0)(model, x, torch.tensor([0]))
    assert result.success.all()
    assert float(result.norm) == pytest.approx(0.5, rel=0.01)


@pytest.mark.parametrize("box", [FREE, (-torch.inf, 5.0), (-5.0, torch.inf), (-300.0, 300.0)])
def test_any_box_will_do(box):
    model, x, y = linear((6,), 2)
    x = 0.3 * x
    with torch.no_grad():
        y = model(x).argmax(1)
    slope = (model[1].weight[1] - model[1].weight[0]).detach().norm()
    with torch.no_grad():
        z = model(x)
    best = (z[:, 0] - z[:, 1]).abs() / slope
    result = robustaug.create("attack.cw", box=box)(model, x, y)
    assert result.verified.all()
    assert (result.norm <= best * 1.01).all()


def test_each_sample_has_a_constant_of_its_own():
    """The slopes of the two samples differ a thousandfold, and no constant suits both."""

    class Two(nn.Module):
        def forward(self, x):
            rise = torch.where(x[:, 0] > 0.5, 1000.0, 1.0) * x[:, 1]
            return torch.stack([torch.where(x[:, 0] > 0.5, 300.0, 0.3), rise], 1)

    x = torch.tensor([[0.9, 0.0], [0.1, 0.0]], dtype=torch.float64)
    mask = torch.tensor([False, True])
    result = robustaug.create("attack.cw", classes=0)(Two().eval(), x, torch.tensor([0, 0]), mask=mask)
    assert result.success.all()
    assert ((result.norm - 0.3).abs() < 0.003).all()


def test_searches_end_early_for_each_sample_by_itself():
    model = network()
    x, y = points(model)
    result = robustaug.create("attack.cw", iterations=1000, searches=3)(model, x, y)
    assert len(result.forwards.unique()) > 1
    assert (result.forwards < 2000).all()
    alone = robustaug.create("attack.cw", iterations=1000, searches=3)(model, x[3:4], y[3:4])
    assert alone.forwards == result.forwards[3]


def test_more_searches_never_hurt():
    model = network(2)
    x, y = points(model)
    few, many = (robustaug.create("attack.cw", searches=s, refine=0, classes=0)(model, x, y) for s in (1, 6))
    assert (many.norm[few.success] <= few.norm[few.success]).all()
    assert (many.norm < few.norm - 1e-6).any()


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"searches": 0}, "searches must be a whole number >= 1, got 0"),
        ({"inset": 1}, "inset must be in"),
        ({"steps": 5}, "has no parameter 'steps'"),
    ],
)
def test_values_that_make_no_sense_are_refused(params, match):
    with pytest.raises((ValueError, TypeError), match=match):
        robustaug.create("attack.cw", **params)
