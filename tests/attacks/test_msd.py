import pytest
import torch
import torch.nn.functional as F
from torch import nn

import robustaug
from robustaug.attacks.driver import perturb
from robustaug.attacks.threat import NORMS, Threat
from robustaug.rng import Keys

BUDGETS = {"Linf": 0.04, "L2": 0.12, "L1": 0.25}
KEYS = Keys.of(0, 20)


def network(values=12):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(values, 9), nn.Tanh(), nn.Linear(9, 3)).double().eval()
    with torch.no_grad():
        model[0].weight *= 4
    return model


def samples(model):
    x = torch.rand(20, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    x = 0.3 + 0.4 * x  # the sides of the box are out of reach: whether a value is at one is a matter of rounding
    return x, model(x).argmax(1)


def msd(**changes):
    also = {norm: eps for norm, eps in BUDGETS.items() if norm != "Linf"}
    return robustaug.create("attack.msd", **{"eps": BUDGETS["Linf"], "also": also, "steps": 6} | changes)


def within_any(x_adv, x, scale=1.0):
    order = {"Linf": torch.inf, "L2": 2, "L1": 1}
    norms = {n: torch.linalg.vector_norm(x_adv - x, order[n], 1) for n in BUDGETS}
    return torch.stack([norms[n] <= scale * BUDGETS[n] * (1 + 1e-6) for n in BUDGETS])


def test_each_step_is_the_norms_of_highest_loss():
    """Maini et al. 2020, algorithm 1, with the steps and projections of each norm as `Ball` makes them."""
    model = network()
    x, y = samples(model)
    at = x
    for _ in range(6):
        leaf = at.detach().requires_grad_()
        (grad,) = torch.autograd.grad(F.cross_entropy(model(leaf), y, reduction="sum"), leaf)
        made = []
        for norm, eps in BUDGETS.items():
            rows = torch.full((20,), eps, dtype=torch.float64)
            made.append(Threat(NORMS[norm]).around(x, rows).climb(at, grad, 2.5 * rows / 6))
        losses = torch.stack([F.cross_entropy(model(one), y, reduction="none") for one in made])
        at = torch.stack(made)[losses.argmax(0), torch.arange(20)]
    found = perturb(msd(), model, x, y, KEYS)
    torch.testing.assert_close(found, at.detach(), rtol=0, atol=1e-9)
    inside = within_any(found, x)
    assert inside.any(0).all()
    assert (inside.sum(1) > 0).sum() > 1  # more than one norm is taken


def test_on_a_linear_model_it_ends_in_the_norm_of_the_greatest_optimum():
    """The loss of two classes grows with w.d, whose maximum over a ball is eps times the dual norm of w."""
    model = nn.Linear(12, 2, bias=False).double().eval()
    w = torch.linspace(0.2, 1.0, 12, dtype=torch.float64)
    with torch.no_grad():
        model.weight.copy_(torch.stack([-w, w]) / 2)
    x, y = torch.full((1, 12), 0.5, dtype=torch.float64), torch.zeros(1, dtype=torch.int64)
    for largest in ("Linf", "L2"):
        budgets = {"Linf": 0.01, "L2": 0.02, "L1": 0.02} | {largest: 0.1}
        also = {norm: eps for norm, eps in budgets.items() if norm != "Linf"}
        found = perturb(msd(eps=budgets["Linf"], also=also, steps=20), model, x, y, KEYS[:1])
        optimum = 0.1 * (w.sum() if largest == "Linf" else w.norm())
        assert float((w * (found - x)).sum()) == pytest.approx(float(optimum), rel=1e-3)


def test_another_eps_scales_every_ball():
    model = network()
    x, y = samples(model)
    found = perturb(msd(), model, x, y, KEYS, eps=BUDGETS["Linf"] / 4)
    assert within_any(found, x, 0.25).any(0).all()
    assert (found != x).any(1).all()


def test_a_claim_is_one_of_the_first_norm():
    model = network()
    x, y = samples(model)
    result = msd(eps=0.25, also={"L2": 2.0})(model, x, y, KEYS)
    assert result.success.any()
    assert ((result.x_adv - x).abs().amax(1) <= 0.25 * (1 + 1e-6)).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"also": {"L3": 1.0}}, r"attack.msd: a norm of also must be one of 'Linf', 'L2', 'L1', got 'L3'"),
        ({"also": {"Linf": 0.1}}, "also is for other norms; the eps of Linf is eps"),
        ({"also": {"L2": 0}}, r"attack.msd: also\.L2 must be > 0 and finite, got 0"),
        ({"also": {"L2": "much"}}, r"attack.msd: also\.L2 must be a number or a fraction"),
        ({"also": 0.5}, "also must give a number for each norm"),
        ({"step_sizes": {"L2": -1}}, r"attack.msd: step_sizes\.L2 must be > 0 and finite, got -1"),
        ({"step_sizes": {"L1": 0.1}, "also": {"L2": 0.5}}, r"step_sizes\.L1 has no ball; give its eps as also\.L1"),
        ({"eps": 0}, "eps must be > 0, the other balls scale with it"),
        ({"eps": 8}, "did you mean 8/255"),
        ({"restarts": 2}, "restarts=2 would repeat itself"),
    ],
)
def test_wrong_parameters_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        msd(**changes)


def test_an_eps_beyond_the_box_is_refused_for_every_norm():
    model = network()
    x, y = samples(model)
    with pytest.raises(ValueError, match=r"eps must be <= 3\.4641.* in L2, got 128"):
        perturb(msd(also={"L2": 128}), model, x, y, KEYS)
