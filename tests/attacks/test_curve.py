import math

import numpy as np
import pytest
import torch
from scipy.stats import norm as normal

import robustaug
from robustaug.attacks.curve import robust_accuracy_curve
from robustaug.attacks.state import AttackResult
from tests.conformance.test_attack_conformance import network


def result_of(norm, success, verified):
    rows = len(norm)
    zeros = torch.zeros(rows, dtype=torch.int64)
    flags = torch.tensor(success, dtype=torch.bool)
    held = torch.tensor(verified, dtype=torch.bool)
    tried = torch.ones_like(held)
    columns = torch.zeros(rows, 2), flags, torch.tensor(norm).double(), zeros, zeros, held, ~flags, zeros, tried
    return AttackResult(*columns, {})


def test_a_sample_stands_below_its_norm_and_falls_from_it_on():
    result = result_of([0.0, 0.5, 1.0, 1.0, 9.0], [True, True, True, True, False], [True, True, True, False, False])
    curve = robust_accuracy_curve(result, [0, 0.25, "1/2", 1.0, math.inf])
    assert curve.eps.tolist() == [0, 0.25, 0.5, 1.0, math.inf]
    assert curve.accuracy.tolist() == [0.8, 0.8, 0.6, 0.4, 0.4]


def test_the_interval_is_wilsons():
    result = result_of([1.0] * 20, [True] * 20, [True] * 5 + [False] * 15)
    curve = robust_accuracy_curve(result, [2.0], confidence=0.9)
    z, n, share = normal.ppf(0.95), 20, 0.75
    centre, half = share + z**2 / (2 * n), z * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    assert curve.low[0] == pytest.approx((centre - half) / (1 + z**2 / n))
    assert curve.high[0] == pytest.approx((centre + half) / (1 + z**2 / n))


@pytest.mark.parametrize(
    ("name", "norm", "reach"),
    [("attack.ddn", "L2", 0.6), ("attack.fmn", "L2", 0.6), ("attack.fmn", "Linf", 0.25), ("attack.fmn", "L1", 1.6)],
)
def test_one_run_gives_what_pgd_gives_at_each_budget(name, norm, reach):
    model = network(4)
    x = torch.rand(96, 3, 2, 2, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    with torch.no_grad():
        y = model(x).argmax(1)
    y[:5] = (y[:5] + 1) % 5  # wrong to begin with
    budgets = [0.0, *np.linspace(0.1, 1, 4) * reach]
    curve = robust_accuracy_curve(robustaug.create(name, norm=norm)(model, x, y), budgets)
    assert curve.accuracy[0] == pytest.approx(91 / 96)
    assert (np.diff(curve.accuracy) <= 0).all()
    assert curve.accuracy[-1] < 0.6
    assert (curve.low <= curve.accuracy).all()
    assert (curve.accuracy <= curve.high).all()
    for eps, accuracy in zip(budgets[1:], curve.accuracy[1:], strict=True):
        pgd = robustaug.create("attack.pgd", norm=norm, eps=float(eps), steps=40, restarts=3)(model, x, y)
        assert accuracy <= 1 - pgd.success.double().mean() + 0.021


def test_what_has_no_meaning_is_refused():
    good = result_of([1.0], [True], [True])
    with pytest.raises(ValueError, match="eps must be a finite number >= 0"):
        robust_accuracy_curve(good, [-1.0])
    with pytest.raises(ValueError, match="confidence must be in"):
        robust_accuracy_curve(good, [1.0], confidence=95)
    with pytest.raises(ValueError, match="result holds no samples"):
        robust_accuracy_curve(result_of([], [], []), [1.0])
