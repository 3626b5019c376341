import itertools

import pytest
import torch
from torch import nn

import robustaug
from tests.conformance.test_attack_conformance import network


def points(model, n=24, seed=1):
    x = torch.rand(n, 3, 2, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    with torch.no_grad():
        return x, model(x).argmax(1)


def salient(seed, classes=4, size=9):
    draw = torch.Generator().manual_seed(seed)
    layer = nn.Linear(size, classes, dtype=torch.float64).eval()
    with torch.no_grad():
        layer.weight.copy_(torch.randn(classes, size, generator=draw, dtype=torch.float64))
        layer.bias.copy_(torch.tensor([0.0, -30.0, 0.0, 0.0]))  # class 1 is out of reach
    return layer


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("values", [1, 2])
def test_the_most_salient_values_of_the_published_map_are_changed(seed, values):
    """Papernot et al. 2016: argmax of -(sum of dF_t) (sum of dF_others), both signs right; here over all pairs."""
    layer = salient(seed)
    x = torch.full((1, 9), 0.5, dtype=torch.float64)
    target = torch.tensor([1])
    attack = robustaug.create("attack.jsma", saliency="product", values=values, theta=0.25, steps=1, targeted=True)
    result = attack(layer, x, torch.tensor([0]), target=target)
    weight = layer.weight.detach()
    wanted, others = weight[1], weight.sum(0) - weight[1]
    sign = (wanted - others).sign()
    scores = {}
    for chosen in itertools.combinations(range(9), values):
        rise = sum(float(sign[i] * wanted[i]) for i in chosen)
        fall = sum(float(-sign[i] * others[i]) for i in chosen)
        scores[chosen] = rise * fall if rise > 0 and fall > 0 else -1.0
    best = max(scores, key=scores.get)
    assert scores[best] > 0
    moved = (result.x_adv - x)[0]
    assert moved.nonzero()[:, 0].tolist() == sorted(best)
    torch.testing.assert_close(moved[list(best)], 0.25 * sign[list(best)], rtol=0, atol=1e-12)


def test_a_value_goes_on_in_one_direction_only_to_the_end_of_the_box():
    layer = salient(0)
    x = torch.full((1, 9), 0.5, dtype=torch.float64)
    attack = robustaug.create("attack.jsma", theta=0.2, steps=100, targeted=True)
    result = attack(layer, x, torch.tensor([0]), target=torch.tensor([1]))
    assert not result.success
    assert torch.equal((result.x_adv - x).abs(), torch.full_like(x, 0.5))
    assert int(result.forwards) < 40  # it ends when no value has room


@pytest.mark.parametrize("saliency", ["sum", "product"])
@pytest.mark.parametrize("values", [1, 2])
def test_every_form_breaks_a_network(saliency, values):
    model = network(2)
    x, y = points(model)
    result = robustaug.create("attack.jsma", saliency=saliency, values=values)(model, x, y)
    assert result.success.float().mean() > 0.8
    assert torch.equal(result.success, result.verified)


def test_restarts_lead_to_other_classes_and_never_hurt():
    model = network(2)
    x, y = points(model, 64)
    one, four = (robustaug.create("attack.jsma", restarts=r)(model, x, y) for r in (1, 4))
    assert four.success.sum() >= one.success.sum()
    assert (four.norm[one.success] <= one.norm[one.success]).all()


def test_pairs_among_many_values_need_no_table_of_all_pairs():
    """A sample of 60 000 values has 3.6 billion pairs."""
    layer = nn.Linear(60_000, 2).eval()
    x = torch.full((2, 60_000), 0.5)
    with torch.no_grad():
        y = layer(x).argmax(1)
    result = robustaug.create("attack.jsma", saliency="product", values=2, steps=2)(layer, x, y)
    assert (result.forwards > 1).all()


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"values": 3}, "values must be 1 or 2, got 3"),
        ({"saliency": "max"}, "saliency must be one of 'sum', 'product', got 'max'"),
        ({"theta": 0}, "theta must be in"),
    ],
)
def test_values_that_make_no_sense_are_refused(params, match):
    with pytest.raises(ValueError, match=match):
        robustaug.create("attack.jsma", **params)
