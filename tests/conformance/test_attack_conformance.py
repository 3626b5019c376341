"""Attacks against optima known in closed form, and against the published algorithm written out plainly."""

import pytest
import torch
from torch import nn

import robustaug
from robustaug.registry import lookup

FROM_THE_SAMPLE = {"random_start": False}
# within a budget, along the slope of a loss. From the sample where that can be chosen: after a random start a step of
# 2.5 eps / steps leaves an angle of about e^-2.5
ATTACKS = {
    "attack.apgd": {},
    "attack.apgd_ce": {},
    "attack.apgd_dlr": {},
    "attack.apgd_t": {},
    "attack.bim": {},
    "attack.fgsm": FROM_THE_SAMPLE,
    "attack.mifgsm": {},
    "attack.nifgsm": {},
    "attack.pgd": FROM_THE_SAMPLE,
    "attack.sifgsm": {},
    "attack.vmifgsm": {},
}
ELSEWHERE = {
    "attack.autoattack": "runs APGD, FAB and Square in turn, tests/attacks/test_autoattack.py",
    "attack.autoattack_fast": "runs APGD and Square in turn, tests/attacks/test_autoattack_fast.py",
    "attack.ensemble": "runs others in turn, tests/attacks/test_ensemble.py",
    "attack.friendly_pgd": "stays where the model is wrong first, tests/attacks/test_friendly_pgd.py",
    "attack.msd": "takes steps in several norms, tests/attacks/test_msd.py",
    "attack.nfgsm": "spends a step on noise, tests/attacks/test_nfgsm.py",
    "attack.strongest": "runs others in turn, tests/attacks/test_strongest.py",
    "attack.rfgsm": "spends half of its budget on a random step, tests/attacks/test_rfgsm.py",
    "attack.tpgd": "leads away from the clean answer and knows no label, tests/attacks/test_tpgd.py",
    "attack.universal": "has one change for all samples, tests/attacks/test_universal.py",
}
"""Gradient attacks within a budget for which a linear model has another optimum, or none of its own."""
DUAL = {"Linf": 1, "L2": 2}
FREE = (-torch.inf, torch.inf)
SIZES = [((7,), 1), ((2, 9), 3), ((3, 4, 5), 8)]


def test_every_gradient_attack_within_a_budget_is_covered():
    """The others: tests/conformance/test_minimal_norm_conformance.py, and tests of their own for images and scores."""
    tags = {name: lookup(name).tags for name in robustaug.list(kind="attack")}
    known = {name for name, has in tags.items() if "gradient" in has and not has & {"image", "minimal-norm"}}
    assert {*ATTACKS, *ELSEWHERE} == {name for name in known if lookup(name).modality != "text"}


def linear(shape, classes, seed=0):
    """A linear model in float64 and points whose margins are of ordinary size."""
    draw = torch.Generator().manual_seed(seed)
    size = int(torch.tensor(shape).prod())
    layer = nn.Linear(size, classes, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(classes, size, generator=draw, dtype=torch.float64))
        layer.bias.copy_(0.1 * torch.randn(classes, generator=draw, dtype=torch.float64))
    model = nn.Sequential(nn.Flatten(), layer).eval()
    x = torch.randn(8, *shape, generator=draw, dtype=torch.float64)
    with torch.no_grad():
        return model, x, model(x).argmax(1)


def distance(model, x, y, norm):
    """The way to the nearest other class, (n,): min over classes of (z_y - z_k) / ||w_y - w_k|| in the dual norm."""
    weight = model[1].weight.detach()
    with torch.no_grad():
        z = model(x)
    gap = z.gather(1, y[:, None]) - z
    slope = torch.linalg.vector_norm(weight[y][:, None] - weight[None], ord=DUAL[norm], dim=2)
    return (gap / slope).masked_fill(nn.functional.one_hot(y, z.shape[1]).bool(), torch.inf).amin(1)


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("norm", DUAL)
@pytest.mark.parametrize(("shape", "n"), SIZES, ids=str)
def test_a_linear_model_breaks_at_its_distance_and_not_before(name, norm, shape, n):
    model, x, y = linear(shape, 2)
    x, y = x[:n], y[:n]
    best = distance(model, x, y, norm)
    attack = robustaug.create(name, norm=norm, eps=1.0, box=FREE, **ATTACKS[name])
    over = attack(model, x, y, eps=best * 1.001)
    assert over.success.all()
    assert over.verified.all()
    assert ((over.norm - best).abs() <= 0.002 * best).all()
    assert not attack(model, x, y, eps=best * 0.999).success.any()


@pytest.mark.parametrize("norm", DUAL)
def test_pgd_finds_the_nearest_of_many_classes(norm):
    """Within 5 %: gradient steps may settle on a class that is near, where another is nearest."""
    model, x, y = linear((3, 4), 8)
    best = distance(model, x, y, norm)
    attack = robustaug.create("attack.pgd", norm=norm, eps=1.0, box=FREE, steps=100, loss="margin", restarts=5)
    assert attack(model, x, y, eps=best * 1.05).success.all()
    assert not attack(model, x, y, eps=best * 0.999).success.any()


@pytest.mark.parametrize("norm", DUAL)
def test_the_box_makes_the_way_longer_and_is_kept(norm):
    model, x, y = linear((6,), 2)
    x = x.clamp(-1, 1)
    with torch.no_grad():
        y = model(x).argmax(1)
    best = distance(model, x, y, norm)
    free = robustaug.create("attack.pgd", norm=norm, eps=1.0, box=FREE, steps=50)
    boxed = robustaug.create("attack.pgd", norm=norm, eps=1.0, box=(-1.0, 1.0), steps=50)
    result = boxed(model, x, y, eps=best * 1.05)
    assert result.x_adv.abs().max() <= 1
    assert free(model, x, y, eps=best * 1.05).success.all()
    assert not (result.success & ~free(model, x, y, eps=best * 1.05).success).any()
    assert not boxed(model, x, y, eps=best * 0.999).success.any()


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 16), nn.Tanh(), nn.Linear(16, 5)).double().eval()


@pytest.mark.parametrize("norm", DUAL)
def test_pgd_takes_the_published_steps(norm):
    """Madry et al. 2018: x <- project(x + a sign(gradient)); in L2 the gradient is divided by its length."""
    model = network()
    x = torch.rand(16, 3, 2, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        y = model(x).argmax(1)
    eps, size, steps = 0.05, 0.02, 7
    point = x.clone()
    best, broken = x.clone(), torch.zeros(16, dtype=torch.bool)
    with torch.no_grad():
        highest = nn.functional.cross_entropy(model(x), y, reduction="none")
    for _ in range(steps):
        point = point.detach().requires_grad_()
        (grad,) = torch.autograd.grad(nn.functional.cross_entropy(model(point), y, reduction="sum"), point)
        if norm == "Linf":
            point = torch.minimum(torch.maximum(point + size * grad.sign(), x - eps), x + eps).clamp(0, 1)
        else:
            point = point + size * grad / grad.flatten(1).norm(dim=1)[:, None, None, None]
            delta = point - x
            delta = delta * (eps / delta.flatten(1).norm(dim=1)).clamp(max=1)[:, None, None, None]
            point = (x + delta).clamp(0, 1)
        with torch.no_grad():
            z = model(point)
        loss, wrong = nn.functional.cross_entropy(z, y, reduction="none").detach(), z.argmax(1) != y
        better = ~broken & (wrong | (loss > highest))
        best[better], highest[better] = point.detach()[better], loss[better]
        broken |= wrong
    attack = robustaug.create("attack.pgd", norm=norm, eps=eps, step_size=size, steps=steps, random_start=False)
    result = attack(model, x, y)
    assert torch.equal(result.success, broken)
    torch.testing.assert_close(result.x_adv, best, rtol=0, atol=1e-9)


def test_fgsm_is_one_signed_step():
    """Goodfellow et al. 2015, equation in section 4: x + eps sign(gradient), clipped to the box."""
    model = network(1)
    x = torch.rand(16, 3, 2, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    with torch.no_grad():
        y = model(x).argmax(1)
    point = x.clone().requires_grad_()
    (grad,) = torch.autograd.grad(nn.functional.cross_entropy(model(point), y, reduction="sum"), point)
    stepped = (x + 0.1 * grad.sign()).clamp(0, 1)
    result = robustaug.create("attack.fgsm", eps=0.1)(model, x, y)
    with torch.no_grad():
        assert torch.equal(result.success, model(stepped).argmax(1) != y)
    torch.testing.assert_close(result.x_adv[result.success], stepped[result.success], rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("norm", DUAL)
def test_more_budget_restarts_and_steps_never_hurt(name, norm):
    model = network(2)
    x = torch.rand(64, 3, 2, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    with torch.no_grad():
        y = model(x).argmax(1)
    by_eps = [int(robustaug.create(name, norm=norm, eps=eps)(model, x, y).success.sum()) for eps in (0.01, 0.05, 0.2)]
    assert by_eps == sorted(by_eps)
    assert by_eps[-1] > by_eps[0]
    if name == "attack.pgd":
        one, five = (robustaug.create(name, norm=norm, eps=0.05, restarts=r)(model, x, y).success for r in (1, 5))
        assert not (one & ~five).any()
        few, many = (robustaug.create(name, norm=norm, eps=0.05, steps=s)(model, x, y).success.sum() for s in (1, 30))
        assert many >= few
