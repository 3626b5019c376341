import pytest
import torch

import robustaug
from tests.conformance.test_attack_conformance import FREE, linear, network


def points(model, n=16, seed=1):
    x = torch.rand(n, 3, 2, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    with torch.no_grad():
        return x, model(x).argmax(1)


def elastic(delta, beta):
    delta = delta.flatten(1)
    return delta.square().sum(1) + beta * delta.abs().sum(1)


def least_elastic(slope, gap, beta):
    """The least elastic net that gains `gap` along `slope`: d = sign(w) (l |w| - beta)+ / 2, by bisection on l."""
    low, high = 0.0, 1e6
    for _ in range(200):
        middle = (low + high) / 2
        delta = slope.sign() * (middle * slope.abs() - beta).clamp_min(0) / 2
        low, high = (middle, high) if float(delta @ slope) < gap else (low, middle)
    return delta


@pytest.mark.parametrize("beta", [0.03, 0.3, 3.0])
def test_the_least_elastic_net_of_a_linear_model_is_found(beta):
    model, x, y = linear((6,), 2)
    x = x / 4
    with torch.no_grad():
        z, y = model(x), model(x).argmax(1)
    weight = model[1].weight.detach()
    rows = range(len(x))
    gaps = [float(z[i, y[i]] - z[i, 1 - y[i]]) for i in rows]
    best = torch.stack([least_elastic(weight[1 - y[i]] - weight[y[i]], gaps[i], beta) for i in rows])
    attack = robustaug.create("attack.ead", beta=beta, rule="EN", classes=0, box=FREE, iterations=300, searches=9)
    result = attack(model, x, y)
    assert result.verified.all()
    found = elastic(result.x_adv - x, beta)
    assert (found >= elastic(best, beta) * (1 - 1e-9)).all()
    assert (found <= elastic(best, beta) * 1.03).all()


def test_each_rule_is_best_by_its_own_measure():
    model = network(2)
    x, y = points(model)
    by_l1, by_net = (
        robustaug.create("attack.ead", beta=0.1, rule=rule, classes=0, refine=0)(model, x, y) for rule in ("L1", "EN")
    )
    both = by_l1.success & by_net.success
    assert both.any()
    assert (by_l1.norm[both] <= by_net.norm[both] + 1e-9).all()
    nets = [elastic(result.x_adv - x, 0.1)[both] for result in (by_l1, by_net)]
    assert (nets[1] <= nets[0] + 1e-9).all()
    assert not torch.equal(by_l1.x_adv, by_net.x_adv)


def test_a_greater_beta_changes_fewer_values():
    model = network(2)
    x, y = points(model)
    counts = []
    for beta in (0.01, 10.0):
        result = robustaug.create("attack.ead", beta=beta, classes=0)(model, x, y)
        counts.append(float((result.x_adv != x)[result.success].flatten(1).sum(1).double().mean()))
    assert counts[1] < counts[0]


@pytest.mark.parametrize(
    ("params", "match"),
    [({"rule": "L2"}, "rule must be one of 'L1', 'EN', got 'L2'"), ({"beta": 0}, "beta must be in")],
)
def test_values_that_make_no_sense_are_refused(params, match):
    with pytest.raises(ValueError, match=match):
        robustaug.create("attack.ead", **params)
