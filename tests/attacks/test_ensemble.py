import math

import pytest
import torch

import robustaug
from robustaug.attacks.driver import perturb
from robustaug.attacks.execution import Execution
from robustaug.rng import Keys
from tests.attacks.test_driver import Counted, data, network


def ensemble(**params):
    return robustaug.create("attack.ensemble", **{"eps": 0.06, "attacks": ["attack.fgsm", "attack.pgd"]} | params)


def test_each_attack_works_on_what_stands_and_is_named():
    model = network()
    x, y = data(model, 60)
    whole = ensemble()(model, x, y)
    fgsm = robustaug.create("attack.fgsm", eps=0.06)(model, x, y)
    pgd = robustaug.create("attack.pgd", eps=0.06)(model, x, y)
    assert torch.equal(whole.by == 0, fgsm.success)
    assert torch.equal(whole.x_adv[fgsm.success], fgsm.x_adv[fgsm.success])
    assert (whole.by == 1).sum() > 0
    assert torch.equal(whole.success, whole.by >= 0)
    assert torch.equal(whole.verified, whole.success)
    assert torch.equal(whole.forwards[fgsm.success], fgsm.forwards[fgsm.success])
    assert whole.success.sum() >= pgd.success.sum()


def test_only_what_stands_is_asked():
    model = Counted(network())
    x, y = data(model.model)
    result = ensemble()(model, x, y)
    assert sum(model.rows.values()) == result.forwards.sum() + len(x) + 1  # the verifier's


def test_a_run_that_was_killed_ends_the_same(tmp_path):
    model = network()
    x, y = data(model)
    attack = ensemble(attacks=["attack.fgsm", {"attack.worst_case": {"tries": 8}}, {"attack.pgd": {"steps": 6}}])
    expected = attack(model, x, y)

    class Killed(Exception):  # noqa: N818
        pass

    path = tmp_path / "attack.safetensors"
    for kill_at in ("attack.worst_case", "attack.pgd"):
        seen = []

        def stop(progress, kill_at=kill_at, seen=seen):
            seen.append(progress.attack)
            if seen.count(kill_at) == 3:
                raise Killed

        with pytest.raises(Killed):
            attack(model, x, y, execution=Execution(checkpoint=path, checkpoint_every_s=0, progress=stop))
    resumed = attack(model, x, y, execution=Execution(checkpoint=path))
    for name in ("x_adv", "success", "by", "forwards", "backwards", "verified"):
        assert torch.equal(getattr(resumed, name), getattr(expected, name)), name
    assert torch.equal(resumed.params["1.angle_deg"], expected.params["1.angle_deg"])


def test_witnesses_of_every_kind_are_verified():
    model = network()
    x, y = data(model, 60)
    parts = [{"attack.worst_case": {"tries": 1}}, {"attack.colour": {"reach": 0.3}}]
    attack = ensemble(eps=None, attacks=parts)
    assert attack.eps == math.inf
    result = attack(model, x, y)
    assert {0, 1} <= set(result.by.tolist())
    assert torch.equal(result.verified, result.success)
    assert set(result.params) == {"angle_deg", "1.curve"}


def test_norm_box_and_target_are_shared():
    attack = ensemble(norm="L2", eps=1, box=(-1, 1), targeted=True)
    assert {part.norm for part in attack.parts} == {"L2"}
    assert {part.box for part in attack.parts} == {(-1.0, 1.0)}
    assert all(part.targeted for part in attack.parts)
    assert eval(repr(attack), {"robustaug": robustaug}) == attack


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"attacks": []}, "attacks must be a list of at least one attack"),
        ({"attacks": "attack.pgd"}, "attacks must be a list"),
        ({"attacks": [3]}, r"attacks\[0\]: must read `name` or `{name: parameters}`, got 3"),
        ({"attacks": ["image.rotate"]}, r"attacks\[0\]: 'image\.rotate' is of kind 'operator', not 'attack'"),
        ({"attacks": ["attack.ensemble"]}, "no ensemble itself"),
        ({"attacks": ["attack.fgsm", {"attack.pgd": {"eps": 0.1}}]}, r"attacks\[1\]: eps is the ensemble's"),
        ({"attacks": ["attack.pdg"]}, "did you mean 'attack.pgd'"),
        ({"restarts": 2}, "restarts belong to its attacks"),
        ({"attacks": ["attack.tpgd"], "targeted": True}, "attack.tpgd: cannot lead towards a class"),
        ({"norm": "L0", "eps": 3}, "attack.fgsm: norm must be one of"),
    ],
)
def test_wrong_values_are_named(params, words):
    with pytest.raises(ValueError, match=words):
        ensemble(**params)


def test_it_has_no_point_to_train_on():
    model = network()
    x, y = data(model)
    with pytest.raises(ValueError, match="train with one of its attacks"):
        perturb(ensemble(), model, x, y, Keys.of(0, 24))


@pytest.mark.parametrize(
    ("attack", "names"),
    [
        (robustaug.create("attack.pgd"), ["attack.pgd"]),
        (ensemble(), ["attack.fgsm", "attack.pgd"]),
        (
            ensemble(attacks=["attack.pgd", {"attack.pgd": {"steps": 3}}, "attack.pgd", "attack.fgsm"]),
            ["attack.pgd", "attack.pgd (steps 3)", "attack.pgd #2", "attack.fgsm"],
        ),
        (robustaug.create("attack.autoattack"), [f"attack.{name}" for name in ("apgd", "apgd_t", "fab_t", "square")]),
        (robustaug.create("attack.autoattack", version="rand"), ["attack.apgd", "attack.apgd (loss dlr)"]),
        (
            robustaug.create("attack.autoattack_fast"),
            ["attack.apgd", *(f"attack.apgd_t target {rank}" for rank in range(1, 10)), "attack.square"],
        ),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_the_names_behind_the_numbers_are_distinct(attack, names):
    assert list(attack.numbered()) == names
    assert len({*names}) == len(names)


def test_every_number_of_an_ensemble_has_its_name():
    model = network()
    x, y = data(model, 60)
    for attack in (
        ensemble(),
        robustaug.create("attack.autoattack", eps=0.06, version="plus"),
        robustaug.create("attack.autoattack_fast", eps=0.06),
    ):
        if attack.name == "attack.autoattack":
            x, y = x[:6], y[:6]  # the slow one
        assert int(attack(model, x, y).by.max()) < len(attack.numbered())
