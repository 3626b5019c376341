"""torchattacks' attacks behind our faces. Our environment leaves torchattacks out, as it pins an old requests."""

import importlib.util
import json
import pickle
import random
import sys

import numpy as np
import pytest
import torch
from torch import nn

import robustaug
from robustaug.attacks.adapters import torchattacks as adapter
from robustaug.attacks.driver import perturb
from robustaug.attacks.execution import Execution
from robustaug.rng import Keys

needed = pytest.mark.skipif(
    importlib.util.find_spec("torchattacks") is None,
    reason="needs torchattacks: pip install tqdm requests && pip install --no-deps torchattacks",
)
CLASSES, N = 10, 8
CHEAP = {
    "Square": {"n_queries": 30},
    "SPSA": {"nb_sample": 8},
    "EADL1": {"binary_search_steps": 2, "max_iterations": 10},
    "EADEN": {"binary_search_steps": 2, "max_iterations": 10},
    "DeepFool": {"steps": 5},
    "CW": {"steps": 10},
    "SparseFool": {"steps": 1},
    "JSMA": {"gamma": 0.05},
    "Pixle": {"restarts": 2, "max_iterations": 2},
    "OnePixel": {"steps": 1, "popsize": 4},
    "AutoAttack": None,
}
"""Parameters that make each attack take milliseconds; None for the one that none do."""


def names():
    if importlib.util.find_spec("torchattacks") is None:
        return ["PGD"]
    import torchattacks

    return [name for name in torchattacks.__all__ if name not in adapter._OURS and CHEAP.get(name, {}) is not None]


class Network(nn.Module):
    """A network with frozen batch statistics, a parameter that stands still, and a gradient that training left."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.body = nn.Sequential(
            nn.Conv2d(3, 6, 3, stride=2), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(150, CLASSES)
        )
        with torch.no_grad():
            points = torch.rand(64, 3, 12, 12)
            self.body(points)
            self.eval()
            self.body[-1].weight *= 3
            self.body[-1].bias -= self.body(points).mean(0)
        self.body[1].weight.requires_grad_(False)
        self.body[0].weight.grad = torch.ones_like(self.body[0].weight)
        self.forwards = self.largest = 0

    def forward(self, x):
        self.forwards += len(x)
        self.largest = max(self.largest, len(x))
        return self.body(x)


def data():
    x = torch.rand(N, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return x, Network()(x).argmax(1)


def make(name, **params):
    return robustaug.create(f"torchattacks.{name}", **(CHEAP.get(name) or {}) | params)


def columns(result):
    return [column for column in result if isinstance(column, torch.Tensor)]


def condition(model):
    named = [*model.named_parameters(), *model.named_buffers()]
    return [
        *(value.detach().clone() for _, value in named),
        *(torch.tensor(-1.0) if p.grad is None else p.grad.clone() for p in model.parameters()),
        torch.tensor([p.requires_grad for p in model.parameters()]),
        torch.tensor([m.training for m in model.modules()]),
        torch.tensor([len(m._forward_hooks) + len(m._backward_hooks) for m in model.modules()]),
        torch.random.get_rng_state(),
        torch.from_numpy(np.random.get_state()[1].astype(np.int64)),  # noqa: NPY002
        torch.tensor(random.getstate()[1]),
    ]


def test_a_missing_library_names_the_fix(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchattacks", None)
    adapter.entry.cache_clear()
    with pytest.raises(ImportError, match=r"pip install --no-deps torchattacks \(it pins an old requests") as missing:
        robustaug.create("torchattacks.PGD")
    assert "\n" not in str(missing.value)
    adapter.entry.cache_clear()


@needed
def test_every_attack_has_its_norm_and_its_budget():
    import torchattacks

    made = {name: make(name) for name in torchattacks.__all__ if name not in adapter._OURS}
    assert len(made) == 37
    assert {name: a.norm for name, a in made.items() if a.norm != "Linf"} == {
        **dict.fromkeys(["VANILA", "GN", "CW", "PGDL2", "DeepFool", "PGDRSL2"], "L2"),
        **dict.fromkeys(["EADL1", "EADEN"], "L1"),
        **dict.fromkeys(["JSMA", "SparseFool", "OnePixel", "Pixle"], "L0"),
    }
    assert {name: a.eps for name, a in made.items() if a.eps not in (8 / 255, torch.inf)} == {
        "SPSA": 0.3,
        "PIFGSM": 16 / 255,
        "PIFGSMPP": 16 / 255,
        "PGDL2": 1.0,
        "PGDRSL2": 1.0,
    }


@needed
@pytest.mark.parametrize("name", names())
def test_results_are_ours_and_the_model_is_left_as_found(name):
    (x, y), model = data(), Network()
    before, spent = condition(model), model.forwards
    result = make(name)(model, x, y)
    assert all(torch.equal(a, b) for a, b in zip(before, condition(model), strict=True))
    attack = make(name)
    distance = torch.linalg.vector_norm(
        (result.x_adv.double() - x.double()).flatten(1), {"Linf": torch.inf, "L2": 2, "L1": 1, "L0": 0}[attack.norm], 1
    )
    torch.testing.assert_close(result.norm, distance)
    assert (result.norm[result.success] <= attack.eps * (1 + 1e-6)).all()
    with torch.no_grad():
        wrong = Network()(result.x_adv).argmax(1) != y
    assert wrong[result.success].all()
    assert not (wrong & ~result.success & (result.norm <= attack.eps)).any()
    verifying = (len(x) + 1) * bool(result.success.any())
    assert model.forwards - spent == result.forwards.sum() + verifying
    assert not result.silent.any()


@needed
@pytest.mark.parametrize("name", ["PGD", "APGD", "FAB", "Square", "CW", "Pixle", "DIFGSM", "OnePixel"])
def test_results_belong_to_the_sample(name):
    (x, y), attack = data(), make(name)
    whole = attack(Network(), x, y, Keys.of(5, N))
    assert all(map(torch.equal, columns(attack(Network(), x, y, Keys.of(5, N))), columns(whole)))
    for rows in (slice(2, 3), slice(3, 7)):
        part = attack(Network(), x[rows], y[rows], Keys.of(5, N)[rows])
        assert torch.equal(part.success, whole.success[rows])
        torch.testing.assert_close(part.x_adv, whole.x_adv[rows], rtol=0, atol=1e-5)
    if name in ("PGD", "Square", "Pixle"):
        assert not torch.equal(attack(Network(), x, y, Keys.of(6, N)).x_adv, whole.x_adv)


@needed
def test_each_sample_may_have_its_own_eps():
    x, y = data()
    eps = torch.linspace(0, 0.2, N, dtype=torch.float64)
    result = make("PGD", alpha=0.05)(Network(), x, y, eps=eps)
    assert (result.norm <= eps * (1 + 1e-6)).all()
    assert result.norm[-1] > 0.15
    with pytest.raises(ValueError, match="together=4 takes one eps for all; set together=1"):
        make("PGD", together=4)(Network(), x, y, eps=eps)


@needed
def test_attacks_without_a_budget_are_held_to_one_that_is_asked_for():
    x, y = data()
    free = make("DeepFool", steps=30)(Network(), x, y)
    assert free.success.all()
    limit = float(free.norm.median())
    held = make("DeepFool", steps=30, eps=limit)(Network(), x, y)
    assert torch.equal(held.success, free.norm <= limit)


@needed
def test_targets_are_reached_or_not_counted():
    x, y = data()
    target = (y + 3) % CLASSES
    result = make("PGD", eps=0.3, alpha=0.03, steps=40, targeted=True)(Network(), x, y, target=target)
    with torch.no_grad():
        said = Network()(result.x_adv).argmax(1)
    assert result.success.any()
    assert torch.equal(said == target, result.success)


@needed
def test_images_handed_over_together_are_quicker_and_counted_alike():
    (x, y), model = data(), Network()
    result = make("PGD", together=5)(model, x, y)
    assert model.largest >= 5
    assert (result.forwards == 12).all()
    assert (result.backwards == 10).all()
    small = Network()
    make("PGD", together=5)(small, x, y, execution=Execution(batch_size=2))
    assert small.largest == 2 + 1  # the check of what was found, at a size of its own


@needed
def test_execution_reaches_the_library():
    (x, y), told = data(), []
    result = make("PGD")(Network(), x, y, execution=Execution(budget=6, progress=told.append))
    assert result.forwards.max() == 6
    assert told[-1].fraction == 1
    seen = []

    class Watched(Network):
        def forward(self, x):
            seen.append(torch.is_autocast_enabled("cpu"))
            return super().forward(x)

    result = make("PGD", eps=0.2)(Watched(), x, y, execution=Execution(precision="bf16"))
    assert True in seen
    assert torch.equal(result.verified, result.success)


@needed
def test_restarts_go_on_with_what_stands():
    x, y = data()
    one, five = (make("PGD", eps=0.02, alpha=0.005, restarts=r)(Network(), x, y) for r in (1, 5))
    assert not (one.success & ~five.success).any()
    assert (five.forwards[~five.success] == 1 + 5 * 11).all()


@needed
def test_a_model_that_hides_its_gradient_is_refused():
    class Detached(nn.Module):
        def forward(self, x):
            return torch.stack([x.detach().flatten(1).sum(1), -x.detach().flatten(1).sum(1)], 1)

    x = torch.rand(2, 3, 4, 4)
    with pytest.raises(ValueError, match=r"torchattacks.PGD on images .*output has no gradient"):
        make("PGD")(Detached().eval(), x, torch.zeros(2, dtype=torch.int64))


@needed
@pytest.mark.parametrize(
    ("name", "params", "error", "message"),
    [
        ("PGDD", {}, ValueError, "torchattacks has no attack 'PGDD'; did you mean 'PGD'"),
        ("MultiAttack", {}, ValueError, "torchattacks.MultiAttack cannot be used as an attack; use"),
        ("PGD", {"step": 3}, TypeError, "torchattacks.PGD has no parameter 'step'; did you mean 'steps'"),
        ("PIFGSM", {"eps": 0.1, "max_epsilon": 0.2}, ValueError, "eps and max_epsilon mean the same; give one"),
        ("PGD", {"eps": "eight"}, ValueError, "eps must be a finite number >= 0 or a fraction"),
        ("PGD", {"norm": "L2"}, ValueError, "torchattacks.PGD: norm must be one of 'Linf', got 'L2'"),
        ("APGD", {"targeted": True}, ValueError, "torchattacks.APGD: cannot lead towards a class"),
        ("PGD", {"together": 0}, ValueError, "torchattacks.PGD: together must be a whole number >= 1, got 0"),
    ],
)
def test_what_cannot_be_meant_is_refused(name, params, error, message):
    with pytest.raises(error, match=message):
        make(name, **params)


@needed
def test_a_budget_may_be_called_eps_as_that_of_every_attack():
    assert make("PIFGSM", eps="20/255") == make("PIFGSM", max_epsilon=20 / 255)


@needed
def test_what_the_library_cannot_do_is_refused():
    x, y = data()
    with pytest.raises(ValueError, match=r"torchattacks.PGD: works on images \(B, C, H, W\), got \(\d, 6\)"):
        make("PGD")(nn.Linear(6, 3).eval(), torch.rand(5, 6), torch.tensor([0, 1, 2, 0, 1]), eps=0.1)
    with pytest.raises(ValueError, match="cannot leave values alone that a mask names"):
        make("PGD")(Network(), x, y, mask=torch.ones(12, 12, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"x must lie in the box \[0, 1\]"):
        make("PGD")(Network(), x * 255, y)


@needed
@pytest.mark.parametrize(
    ("name", "params"),
    [("PGD", {"eps": "4/255", "steps": 3}), ("APGD", {"norm": "L2", "eps": 0.5}), ("CW", {"eps": 2.0}), ("FGSM", {})],
)
def test_specs_texts_and_pickles_make_the_same_attack(name, params):
    attack = robustaug.create(f"torchattacks.{name}", restarts=2, **params)
    [(known, written)] = json.loads(json.dumps(attack.spec())).items()
    assert known == f"torchattacks.{name}"
    for again in (
        robustaug.create(known, **written),
        eval(repr(attack), {"robustaug": robustaug}),
        pickle.loads(pickle.dumps(attack)),
    ):
        assert again == attack
        assert again.spec() == attack.spec()
    assert robustaug.create(known).spec() == {known: {}}


# --- agreement ---


@needed
def test_fgsm_is_the_same_step():
    x, y = data()
    ours, theirs = robustaug.create("attack.fgsm", eps=0.03)(Network(), x, y), make("FGSM", eps=0.03)(Network(), x, y)
    assert torch.equal(ours.success, theirs.success)
    both = ours.success
    torch.testing.assert_close(ours.x_adv[both], theirs.x_adv[both], rtol=0, atol=1e-6)


@needed
@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_pgd_takes_the_same_steps(norm):
    x, y = data()
    size, eps, theirs = (0.01, 0.03, "PGD") if norm == "Linf" else (0.1, 0.4, "PGDL2")
    attack = robustaug.create("attack.pgd", norm=norm, eps=eps, step_size=size, steps=5, random_start=False)
    ours = perturb(attack, Network(), x, y, Keys.of(0, N))
    params = {"eps": eps, "alpha": size, "steps": 5, "random_start": False}
    found = make(theirs, **params)(Network(), x, y)
    rows = found.norm > 0
    torch.testing.assert_close(ours[rows], found.x_adv[rows], rtol=0, atol=1e-5)


@needed
@pytest.mark.parametrize(
    ("ours", "theirs", "params", "same"),
    [
        ("attack.fgsm", "FGSM", {}, {}),
        ("attack.pgd", "PGD", {"step_size": "2/255"}, {"steps": 10}),
        ("attack.mifgsm", "MIFGSM", {"step_size": "2/255"}, {"steps": 10}),
        ("attack.apgd_ce", "APGD", {}, {"steps": 10}),
    ],
)
@pytest.mark.parametrize("eps", [2 / 255, 4 / 255, 8 / 255])
def test_at_equal_budgets_our_robust_accuracy_is_not_above_theirs(ours, theirs, params, same, eps):
    if ours not in robustaug.list(kind="attack"):
        pytest.skip(f"{ours} is not registered")
    x = torch.rand(40, 3, 12, 12, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        y = Network()(x).argmax(1)
    stood = [
        (~attack(Network(), x, y).success).float().mean()
        for attack in (robustaug.create(ours, eps=eps, **params, **same), make(theirs, eps=eps, **same))
    ]
    assert stood[0] <= stood[1]
