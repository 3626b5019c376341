"""One attack on one model: the figures are those of the attack, and say what they are worth."""

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

import robustaug
from robustaug import registry
from robustaug.attacks.attack import Attack
from robustaug.attacks.execution import Execution
from robustaug.attacks.witness import check
from robustaug.evaluate.assault import assault
from robustaug.evaluate.statistics import anytime, wilson
from robustaug.evaluate.suite import make_attack
from robustaug.models.classifier import wrap
from robustaug.rng import Keys, subset

CPU = torch.device("cpu")
FIGURES = ("samples", "tried", "clean", "robust", "broke", "distance", "forwards", "backwards", "fragile", "silent")


@pytest.fixture(scope="module")
def source():
    return robustaug.create("data.digits", split="test")


@pytest.fixture(scope="module")
def model(source):
    """The nearest class mean: a linear model that reads most digits."""
    batch, _ = source.fetch(range(len(source)))
    x, y = batch.image.double().flatten(1) / 255, batch.label
    means = torch.stack([x[y == k].mean(0) for k in range(10)])
    layer = torch.nn.Linear(64, 10)
    with torch.no_grad():
        layer.weight.copy_(means)
        layer.bias.copy_(-(means**2).sum(1) / 2)
    return wrap(torch.nn.Sequential(torch.nn.Flatten(), layer), num_classes=10).eval()


def run(attack, model, source, **options):
    return assault(attack, model, source, CPU, **{"limit": 80, "checks": False} | options)


def test_the_figures_are_those_of_the_attack(model, source):
    attack = make_attack({"attack.pgd": {"steps": 4}}, "20/255")
    found = run(attack, model, source, seed=3)
    batch, _ = source.fetch(subset(len(source), 80, 3).tolist())
    x, y = batch.image.float() / 255, batch.label
    result = attack(model, x, y, Keys.of(3, batch.index))
    with torch.no_grad():
        right = model(x).argmax(1) == y
    assert found.samples == 80
    assert found.clean == wilson(int(right.sum()), 80)
    assert found.robust == wilson(int((~result.success).sum()), 80)
    assert 0 < found.robust.estimate < found.clean.estimate < 1
    assert found.broke == {"attack.pgd": int((result.success & right).sum())}
    assert found.forwards == float(result.forwards.double().mean())
    assert found.distance == float(result.norm[result.success & right].quantile(0.5))
    checked = check(found.witnesses, model, source)
    assert checked.holds.all()
    assert checked.notes == []
    assert len(found.witnesses) == int(result.success.sum())
    assert checked.wrong_before == int((~right).sum())


def test_neither_batches_nor_a_limit_change_a_sample(model, source):
    attack = make_attack("attack.pgd", 0.05)
    whole = run(attack, model, source, limit=None)
    small = run(attack, model, source, limit=None, execution=Execution(batch_size=7))
    assert whole.samples == len(source)
    assert [getattr(whole, f) for f in FIGURES] == [getattr(small, f) for f in FIGURES]
    part = run(attack, model, source, limit=50).witnesses
    rows = [whole.witnesses.index.tolist().index(int(index)) for index in part.index]
    torch.testing.assert_close(part.points, whole.witnesses.points[rows], rtol=0, atol=1e-6)


@pytest.mark.parametrize("params", [{"targeted": True, "eps": 0.3}, {"norm": "L2", "eps": 1.0}])
def test_targeted_attacks_and_other_norms_leave_witnesses_that_hold(model, source, params):
    found = run(make_attack({"attack.pgd": params}), model, source)
    assert len(found.witnesses) > 3
    assert check(found.witnesses, model, source).holds.all()


def test_an_ensemble_tells_which_attack_broke_what(model, source):
    @registry.register("attack.one_then_the_other", tags={"gradient"})
    @dataclass(frozen=True, kw_only=True, repr=False)
    class Both(Attack):
        steps: ClassVar = 3

        @property
        def parts(self):
            return [robustaug.create(name, eps=self.eps) for name in ("attack.fgsm", "attack.pgd")]

        def numbered(self):
            return tuple(part.name for part in self.parts)

        def pursue(self, session):
            for number, part in enumerate(self.parts):
                session.pursue(part, number)

    try:
        found = run(make_attack("attack.one_then_the_other", 0.08), model, source, limit=None)
    finally:
        registry._entries.pop("attack.one_then_the_other")
    alone = run(make_attack("attack.fgsm", 0.08), model, source, limit=None)
    assert found.broke.keys() == {"attack.fgsm", "attack.pgd"}
    assert found.broke["attack.fgsm"] == alone.broke["attack.fgsm"] > 0
    right, stands = (round(found.samples * share.estimate) for share in (found.clean, found.robust))
    assert sum(found.broke.values()) == right - stands


def test_an_attack_that_stops_early_counts_what_it_tried(model, source):
    attack = make_attack({"attack.autoattack_fast": {"tolerance": 0.2, "block": 20}}, 0.05)
    found = run(attack, model, source, limit=200)
    assert found.samples == 200
    assert 0 < found.tried < 200
    assert found.tried % 20 == 0
    right, stand = (round(found.tried * share.estimate) for share in (found.clean, found.robust))
    assert found.clean == anytime(right, found.tried)
    assert found.robust == anytime(stand, found.tried)
    assert found.robust.high - found.robust.low <= 0.4
    assert sum(found.broke.values()) == right - stand
    assert found.witnesses.claim.attacked == found.tried
    assert len(found.witnesses) == found.tried - stand
    assert check(found.witnesses, model, source).holds.all()


def test_probabilities_are_attacked_by_their_logarithms_and_said(model, source):
    sure = wrap(torch.nn.Sequential(model.module, torch.nn.Softmax(1)), num_classes=10).eval()
    attack = make_attack("attack.pgd", 0.05)
    found, plain = run(attack, sure, source, checks=True), run(attack, model, source)
    assert abs(found.robust.estimate - plain.robust.estimate) < 0.02
    assert "probabilities" in [finding.name for finding in found.findings]
    assert check(found.witnesses, sure, source).holds.all()
    assert plain.findings is None


def test_a_surrogate_misleads_a_model_that_hides_its_gradients(model, source):
    class Coarse(torch.nn.Module):
        def forward(self, logits):
            return (logits * 4).round() / 4 + 0 * logits

    hidden = wrap(torch.nn.Sequential(model.module, Coarse()), num_classes=10).eval()
    attack = make_attack({"attack.pgd": {"steps": 4}}, 0.15)
    found = [run(attack, hidden, source, checks=True, surrogate=other).findings for other in (None, model)]
    assert ["transfer" in [finding.name for finding in findings] for findings in found] == [False, True]
    with pytest.raises(ValueError, match="a surrogate is for the checks, which are off; leave one of the two out"):
        run(attack, hidden, source, surrogate=model)


def test_a_surrogate_that_does_not_fit_is_refused_before_the_attack(model, source):
    class Begun(Exception):  # noqa: N818
        pass

    def begin(progress):
        raise Begun

    others = {
        "it has 3 classes, the model 10": wrap(Flat(3), num_classes=3).eval(),
        r"call model\.eval\(\)": wrap(Flat(10), num_classes=10).train(),
        "it has no gradient to follow": wrap(Detached(), num_classes=10).eval(),
    }
    for message, other in others.items():
        with pytest.raises(ValueError, match=message):
            run(
                make_attack("attack.pgd", 0.1),
                model,
                source,
                checks=True,
                surrogate=other,
                execution=Execution(progress=begin),
            )


class Flat(torch.nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.layer = torch.nn.Linear(64, classes)

    def forward(self, x):
        return self.layer(x.flatten(1))


class Detached(Flat):
    def __init__(self):
        super().__init__(10)

    def forward(self, x):
        return super().forward(x.detach())


def test_what_is_no_attack_on_tensors_is_refused():
    with pytest.raises(TypeError, match=r"'image\.brightness' is no attack on tensors"):
        make_attack("image.brightness")
    with pytest.raises(ValueError, match=r"eps is given twice, 0\.1 and '8/255'"):
        make_attack({"attack.pgd": {"eps": 0.1}}, "8/255")
