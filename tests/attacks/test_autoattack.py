"""AutoAttack: its parts as published, that it is no more than its parts in turn, and that it can be interrupted."""

from dataclasses import replace

import pytest
import torch
from torch import nn

import robustaug
from robustaug.attacks.driver import perturb
from robustaug.attacks.execution import Execution
from robustaug.rng import Keys
from tests.attacks.test_session import Network, same

CLASSES = 4


def data(n=24, seed=1):
    x = torch.rand(n, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    y = Network()(x).argmax(1)
    y[::8] = (y[::8] + 1) % CLASSES  # some are wrong to begin with
    return x, y


def short(version="standard", norm="Linf", eps=None, **steps):
    """The ensemble with few steps in each part; its parts are no parameters."""
    eps = {"Linf": 0.06, "L2": 0.15, "L1": 0.3}[norm] if eps is None else eps
    attack = robustaug.create("attack.autoattack", version=version, norm=norm, eps=eps)
    few = {"APGD": 4, "APGDT": 4, "FABT": 3, "FAB": 3, "Square": 12} | steps
    parts = [replace(part, steps=few[type(part).__name__], restarts=min(part.restarts, 2)) for part in attack.parts]
    attack.__dict__["parts"] = tuple(replace(p, targets=2) if hasattr(p, "targets") else p for p in parts)
    return attack


# --- the published ensemble ---

PUBLISHED = {
    # per part: name, steps, and what differs
    ("standard", "Linf"): ["apgd ce x1", "apgd_t 9", "fab_t 9", "square"],
    ("standard", "L2"): ["apgd ce x1", "apgd_t 9", "fab_t 9", "square"],
    ("standard", "L1"): ["apgd ce x5", "apgd_t 5", "fab_t 9", "square"],
    ("plus", "Linf"): ["apgd ce x5", "apgd dlr x5", "fab x5", "square", "apgd_t 9", "fab_t 9"],
    ("plus", "L2"): ["apgd ce x5", "apgd dlr x5", "fab x5", "square", "apgd_t 9", "fab_t 9"],
    ("rand", "Linf"): ["apgd ce x1 eot 20", "apgd dlr x1 eot 20"],
    ("rand", "L2"): ["apgd ce x1 eot 20", "apgd dlr x1 eot 20"],
}


def described(part):
    name = part.name.removeprefix("attack.")
    words = {"apgd": lambda: f"apgd {part.loss} x{part.restarts}", "fab": lambda: f"fab x{part.restarts}"}
    text = words[name]() if name in words else f"{name} {part.targets}" if hasattr(part, "targets") else name
    return f"{text} eot {part.eot}" if getattr(part, "eot", 1) > 1 else text


@pytest.mark.parametrize(("version", "norm"), PUBLISHED)
def test_parts_are_the_published_ones(version, norm):
    attack = robustaug.create("attack.autoattack", version=version, norm=norm, eps=0.25, box=(0.0, 2.0))
    assert [described(part) for part in attack.parts] == PUBLISHED[version, norm]
    for part in attack.parts:
        assert part.norm == norm
        assert part.eps == 0.25
        assert part.box == (0.0, 2.0)
        assert part.steps == (5000 if part.name == "attack.square" else 100)
        if part.name == "attack.square":
            assert (part.schedule, part.share, part.restarts) == (10_000, 0.8, 1)  # not stretched, as published
        if part.name.startswith("attack.fab"):
            assert (part.alpha_max, part.eta, part.beta) == (0.1, 1.05, 0.9)


def test_parts_have_names_for_reports():
    assert robustaug.create("attack.autoattack", version="plus").numbered() == (
        *("attack.apgd", "attack.apgd (loss dlr)", "attack.fab"),
        *("attack.square", "attack.apgd_t", "attack.fab_t"),
    )


# --- no more than its parts in turn ---


@pytest.mark.parametrize(
    ("version", "norm"),
    [("standard", "Linf"), ("standard", "L2"), ("standard", "L1"), ("plus", "Linf"), ("rand", "L2")],
)
def test_it_is_its_parts_in_turn_on_what_still_stands(version, norm):
    attack, model, (x, y), keys = short(version, norm, APGD=1), Network(), data(40), Keys.of(0, 40)
    result = attack(model, x, y, keys)
    success, by = model(x).argmax(1) != y, torch.full_like(y, -1)
    by[success] = 0
    x_adv, forwards, backwards = x.clone(), torch.ones_like(y), torch.zeros_like(y)
    for number, part in enumerate(attack.parts):
        rows = (~success).nonzero()[:, 0]
        own = keys if number == 0 else keys.fold(f"attack {number}")
        found = part(model, x[rows], y[rows], own[rows])
        forwards[rows] += found.forwards - 1
        backwards[rows] += found.backwards
        fell = rows[found.success]
        success[fell], by[fell], x_adv[fell] = True, number, found.x_adv[found.success]
    assert torch.equal(result.success, success)
    assert torch.equal(result.by, by)
    assert torch.equal(result.forwards, forwards)
    assert torch.equal(result.backwards, backwards)
    torch.testing.assert_close(result.x_adv[success], x_adv[success], rtol=0, atol=1e-12)
    assert len(by.unique()) >= (3 if version != "rand" else 2)  # a later part found something too
    assert not success.all()
    assert torch.equal(result.verified, success)


@pytest.mark.parametrize("version", ["standard", "plus", "rand"])
def test_samples_wrong_to_begin_with_cost_one_forward(version):
    (x, y), result = data(), short(version)(Network(), *data())
    wrong = Network()(x).argmax(1) != y
    assert wrong.sum() == 3
    assert (result.forwards[wrong] == 1).all()
    assert not result.backwards[wrong].any()
    assert torch.equal(result.x_adv[wrong], x[wrong])
    assert (result.by[wrong] == 0).all()
    assert (result.forwards[~wrong] > 1).all()


@pytest.mark.parametrize("norm", ["Linf", "L2", "L1"])
def test_what_is_returned_of_a_sample_that_stands_is_within_the_budget(norm):
    """FAB comes across points farther away, which must not be taken for an answer."""
    attack, (x, y) = short(norm=norm, eps={"Linf": 0.02, "L2": 0.05, "L1": 0.1}[norm]), data()
    result = attack(Network(), x, y)
    assert (~result.success).sum() > 5
    assert (result.norm <= attack.eps * (1 + 1e-6)).all()
    assert torch.equal(Network()(result.x_adv).argmax(1) != y, result.success)
    both = robustaug.create(
        "attack.ensemble", attacks=[{"attack.fab_t": {"steps": 5}}, {"attack.pgd": {}}], eps=attack.eps, norm=norm
    )(Network(), x, y)
    assert (both.norm <= attack.eps * (1 + 1e-6)).all()


def test_masked_values_never_move():
    (x, y), mask = data(), torch.rand(24, 6, generator=torch.Generator().manual_seed(2)) < 0.6
    result = short(eps=0.2)(Network(), x, y, mask=mask)
    assert result.success.sum() > 8
    assert torch.equal(result.x_adv[~mask], x[~mask])
    assert result.verified[result.success].all()


@pytest.mark.parametrize("size", [1, 5])
def test_results_do_not_depend_on_the_batch(size):
    attack, model, (x, y), keys = short(), Network(), data(), Keys.of(5, 24)
    whole = attack(model, x, y, keys)
    parts = [attack(model, x[i : i + size], y[i : i + size], keys[i : i + size]) for i in range(0, 24, size)]
    for column in ("success", "by", "forwards", "backwards", "verified"):
        assert torch.equal(torch.cat([getattr(p, column) for p in parts]), getattr(whole, column)), column
    assert torch.allclose(torch.cat([p.x_adv for p in parts]), whole.x_adv, rtol=0, atol=1e-9)


class Few(Network):
    """The first logits alone."""

    def __init__(self, classes):
        super().__init__()
        self.classes = classes

    def forward(self, x):
        return super().forward(x)[:, : self.classes]


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("version", ["standard", "plus", "rand"])
def test_below_four_classes_it_works_too(classes, version):
    model, (x, _) = Few(classes), data()
    y = model(x).argmax(1)
    result = short(version, eps=0.1)(model, x, y)
    assert 0 < result.success.sum() < 24
    assert result.verified[result.success].all()
    if classes == 2 and version == "standard":
        standing = ~result.success
        # one round towards the only other class: 4 + 4 + 3 gradients, and those of steps that cross by surprise
        assert (result.backwards[standing] >= 4 + 4 + 3).all()
        assert (result.backwards[standing] <= 4 + 4 + 2 * 3).all()


def test_a_random_model_is_attacked_on_average():
    class Noisy(Network):
        def __init__(self):
            super().__init__()
            self.draw = torch.Generator().manual_seed(0)

        def forward(self, x):
            clean = super().forward(x)
            noise = torch.randn(clean.shape, generator=self.draw, dtype=torch.float64)
            return clean + 0.3 * noise * (1 + x.sum(1, keepdim=True) - x.detach().sum(1, keepdim=True))

    model, (x, _) = Noisy(), data()
    y = Network()(x).argmax(1)
    result = short("rand", eps=0.1)(model, x, y)
    assert result.success.sum() >= 8
    asked = result.backwards[~result.success]
    assert (asked == 2 * 4 * 20).all()
    fell = result.success & (Network()(x).topk(2).values.diff(dim=1)[:, 0].abs() > 0.5)
    assert (Network()(result.x_adv).argmax(1) != y)[fell].double().mean() > 0.5


# --- interruption ---


@pytest.mark.parametrize("norm", ["L2", "L1"])
def test_interrupted_in_any_part_it_ends_with_the_same_result(norm, tmp_path):
    attack, (x, y) = short(norm=norm, APGD=1), data(12)
    execution = Execution(checkpoint=tmp_path / "attack.safetensors", checkpoint_every_s=0)
    whole = attack(counted := Network(), x, y)
    assert whole.by.max() >= 1  # a later part found something too
    reached = set()

    def note(progress):
        reached.add(progress.attack)

    calls = len(counted.sizes)
    stops = [*range(2, calls, 5), calls]
    for stop in stops:
        reached.clear()
        with pytest.raises(KeyboardInterrupt):
            attack(Network(stop=stop), x, y, execution=replace(execution, progress=note))
        again = Network()
        assert same(attack(again, x, y, execution=execution), whole), f"interrupted at call {stop}"
        assert len(again.sizes) <= calls - stop + 8, "it went back too far"
    assert reached == {"attack.apgd", "attack.apgd_t", "attack.fab_t", "attack.square"}


def test_a_checkpoint_of_another_version_is_refused(tmp_path):
    execution = Execution(checkpoint=tmp_path / "attack.safetensors", checkpoint_every_s=0)
    with pytest.raises(KeyboardInterrupt):
        short("standard")(Network(stop=12), *data(), execution=execution)
    with pytest.raises(ValueError, match="the checkpoint of another attack, model or data"):
        short("plus")(Network(), *data(), execution=execution)


# --- what is refused ---


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"version": "custom"}, "version must be one of 'standard', 'plus', 'rand', got 'custom'"),
        ({"restarts": 2}, "attack.autoattack: the restarts are those of the published ensemble, got 2"),
        ({"targeted": True}, "attack.autoattack: cannot lead towards a class"),
        ({"norm": "L0"}, "norm must be one of 'Linf', 'L2', 'L1', got 'L0'"),
    ],
)
def test_values_that_make_no_sense_are_refused(params, match):
    with pytest.raises(ValueError, match=match):
        robustaug.create("attack.autoattack", **params)


@pytest.mark.parametrize("name", ["attack.autoattack", "attack.autoattack_fast"])
def test_training_on_it_says_what_to_do_instead(name):
    x, y = data()
    with pytest.raises(ValueError, match=f"{name}: has no point of its own to go on from; train with one of"):
        perturb(robustaug.create(name), Network(), x, y, Keys.of(0, 24))


def test_a_model_without_gradients_is_refused():
    class Hidden(nn.Module):
        def forward(self, x):
            return torch.stack([x.detach().sum(1), 3 - x.detach().sum(1)], 1)

    with pytest.raises(ValueError, match="output has no gradient"):
        short()(Hidden().eval(), torch.rand(4, 6), torch.zeros(4, dtype=torch.int64))
