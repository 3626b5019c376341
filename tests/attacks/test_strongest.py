import pytest
import torch
import torch.nn.functional as F
from torch import nn

import robustaug
from robustaug.attacks.driver import perturb
from robustaug.rng import Keys

KEYS = Keys.of(0, 20)
PARTS = [
    {"attack.fgsm": {"eps": 0.05}},
    {"attack.pgd": {"norm": "L2", "eps": 0.15, "steps": 4, "random_start": False}},
    {"attack.tpgd": {"norm": "L1", "eps": 0.2, "steps": 3}},
]


def network():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 9), nn.Tanh(), nn.Linear(9, 3)).double().eval()
    with torch.no_grad():
        model[0].weight *= 4
    return model


def samples(model):
    x = torch.rand(20, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    return x, model(x).argmax(1)


def strongest(**changes):
    return robustaug.create("attack.strongest", **{"attacks": PARTS, "eps": 0.05} | changes)


def made(spec, **params):
    [(name, given)] = spec.items()
    return robustaug.create(name, **given | params)


def test_each_sample_keeps_the_point_of_highest_loss():
    model = network()
    x, y = samples(model)
    found = perturb(strongest(), model, x, y, KEYS)
    losses = F.cross_entropy(model(found), y, reduction="none")
    alone = [perturb(made(spec), model, x, y, KEYS) for spec in PARTS[:2]]  # these draw nothing
    for points in alone:
        assert (losses >= F.cross_entropy(model(points), y, reduction="none") - 1e-9).all()
    taken = [int(((found - points).abs() < 1e-9).all(1).sum()) for points in alone]
    assert all(taken)


def test_another_eps_scales_every_attack():
    model = network()
    x, y = samples(model)
    found = perturb(strongest(attacks=PARTS[:1] * 2), model, x, y, KEYS, eps=0.02)
    alone = perturb(made(PARTS[0]), model, x, y, KEYS, eps=0.02)
    torch.testing.assert_close(found, alone, rtol=0, atol=1e-9)


def test_its_budget_is_that_of_the_attacks_of_its_norm():
    model = network()
    x, y = samples(model)
    found = perturb(strongest(attacks=["attack.fgsm"], eps=0.04), model, x, y, KEYS)
    torch.testing.assert_close(found, perturb(made({"attack.fgsm": {"eps": 0.04}}), model, x, y, KEYS))


def test_each_target_of_an_attack_is_tried():
    """Points led towards one target alone are beaten where another one is nearer."""
    model = network()
    x, y = samples(model)
    losses = []
    for targets in (1, 2):
        spec = {"attack.apgd_t": {"steps": 6, "targets": targets}}
        found = perturb(strongest(attacks=[spec]), model, x, y, KEYS)
        losses.append(F.cross_entropy(model(found), y, reduction="none"))
    assert (losses[1] >= losses[0] - 1e-9).all()
    assert (losses[1] > losses[0] + 1e-3).any()


def test_a_claim_is_one_of_its_own_norm():
    model = network()
    x, y = samples(model)
    result = strongest(norm="L2", eps=0.15)(model, x, y, KEYS, eps=1.0)
    alone = made(PARTS[1])(model, x, y, KEYS, eps=1.0)
    assert alone.success.any()
    assert result.success[alone.success].all()
    assert ((result.x_adv - x).norm(dim=1) <= 1 + 1e-6).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attacks": []}, "attacks must be a list of at least one attack"),
        ({"attacks": "attack.pgd"}, "attacks must be a list"),
        ({"attacks": ["image.rotate"]}, r"attacks\[0\]: 'image\.rotate' is of kind 'operator', not 'attack'"),
        ({"attacks": [{"attack.pgd": {"box": [0, 2]}}]}, r"attacks\[0\]: box is shared by all"),
        ({"attacks": ["attack.ensemble"]}, "must be one attack that takes steps"),
        ({"attacks": ["attack.ddn"]}, "an attack with a budget and one start, got 'attack.ddn'"),
        ({"attacks": ["attack.flow"]}, "an attack with a budget and one start"),
        ({"attacks": [{"attack.pgd": {"restarts": 2}}]}, "an attack with a budget and one start"),
        ({"attacks": [{"attack.pgd": {"eps": 8}}]}, "did you mean 8/255"),
        ({"attacks": [{"attack.pgd": {"eps": 0.1}}]}, r"attacks\[0\]: eps is 0\.05 in Linf, .* got 0\.1; leave it out"),
        ({"restarts": 2}, "set restarts to 1"),
        ({"eps": 0}, "eps must be > 0"),
    ],
)
def test_wrong_parameters_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        strongest(**changes)


def test_an_eps_beyond_the_box_is_refused_for_every_attack():
    model = network()
    x, y = samples(model)
    with pytest.raises(ValueError, match=r"eps must be <= 3\.4641.* in L2, got 128"):
        perturb(strongest(attacks=[{"attack.pgd": {"norm": "L2", "eps": 128}}]), model, x, y, KEYS)
