"""What every registered attack on tensors keeps to, whoever wrote it. A new attack is covered by being registered.

Tags say what to expect: "image" refuses other inputs, "shared" looks at the whole batch, "score" and "decision" need no
gradient.
"""

import json
import math
import random
from dataclasses import fields, replace
from functools import cache
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

import robustaug
from robustaug.attacks import session
from robustaug.attacks.attack import Attack
from robustaug.attacks.state import AttackResult
from robustaug.registry import lookup
from robustaug.rng import Keys

NAMES = [name for name in robustaug.list(kind="attack") if lookup(name).modality != "text"]
CLASSES, N = 4, 6
SHAPES = {"image": (1, 8, 8), "table": (6,)}
SMALL = {"Linf": 0.02, "L2": 0.05, "L1": 0.1, "L0": 1.0}
LARGE = {
    "image": {"Linf": 0.6, "L2": 3.0, "L1": 16.0, "L0": 16.0},
    "table": {"Linf": 0.6, "L2": 1.2, "L1": 2.5, "L0": 4.0},
}

MOST = 10
"""Whole numbers among the defaults (steps, queries, draws) are cut to this, or to one less where they are odd, so that
each attack takes milliseconds.
"""

INSTEAD: dict[str, dict] = {
    "attack.pgd": {"steps": 8, "restarts": 2},
}
"""Parameters where that does not do, by attack."""


def test_the_table_names_only_attacks_that_exist():
    assert set(INSTEAD) <= set(NAMES)


@cache
def plain(name) -> Attack:
    """With its defaults; what some names make is another attack with other defaults."""
    return robustaug.create(name)


def cheap(name, **params) -> Attack:
    attack = robustaug.create(name, **(few(plain(name)) | INSTEAD.get(name, {}) | params))
    if name == "attack.autoattack":  # its parts are no parameters
        attack.__dict__["parts"] = tuple(replace(part, **few(part)) for part in attack.parts)
    return attack


def few(attack: Attack) -> dict:
    """The whole numbers among an attack's parameters that are larger, cut to `MOST`."""
    values = {f.name: getattr(attack, f.name) for f in fields(attack)}
    return {key: MOST - value % 2 for key, value in values.items() if type(value) is int and value > MOST}


def searches_parameters(name):
    """Whether ranges of parameters are the limit, and the distance is only measured unless one asks for more."""
    return math.isinf(plain(name).usual_eps()) and not plain(name).minimal


def norms(name):
    """The norms that an attack is tested in: those it can be made with."""
    if searches_parameters(name):
        return [plain(name).norm]
    made = []
    for norm in plain(name).norms:
        try:
            robustaug.create(name, norm=norm)
        except ValueError as error:
            if str(error).startswith(f"{plain(name).name}:"):
                raise
            continue  # one of the attacks that it is made of refuses the norm
        made.append(norm)
    return made


def large(name, norm, kind):
    return math.prod(SHAPES[kind]) if searches_parameters(name) and norm == "L0" else LARGE[kind][norm]


def inputs(name):
    return ["image"] if "image" in lookup(name).tags else ["image", "table"]


def among(names):
    """Each attack with each of its norms and each kind of input it takes."""
    return [(name, norm, kind) for name in names for norm in norms(name) for kind in inputs(name)]


class Counted(nn.Module):
    """A small network with frozen batch statistics that counts the rows of its passes."""

    def __init__(self, kind):
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        values = int(torch.tensor(SHAPES[kind]).prod())
        self.body = nn.Sequential(
            nn.Flatten(), nn.Linear(values, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Linear(16, CLASSES)
        ).double()
        with torch.no_grad():
            for parameter in self.body.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
            points = torch.rand(64, *SHAPES[kind], dtype=torch.float64, generator=generator)
            self.body.train()(points)
            self.body[-1].bias -= self.eval().body(points).mean(0)  # every class about as likely
        self.body[2].weight.requires_grad_(False)
        self.body[1].weight.grad = torch.ones_like(self.body[1].weight)
        self.forwards = self.backwards = 0

    def forward(self, x):
        self.forwards += len(x)
        logits = self.body(x)
        if logits.requires_grad and x.requires_grad:
            logits.register_hook(lambda grad: self.count(len(grad)))
        return logits

    def count(self, rows):
        self.backwards += rows


def condition(model):
    """Everything an attack could leave changed, as numbers and tensors."""
    return [
        *(value.detach().clone() for value in (*model.parameters(), *model.buffers())),
        *(torch.tensor(-1.0) if p.grad is None else p.grad.clone() for p in model.parameters()),
        torch.tensor([p.requires_grad for p in model.parameters()]),
        torch.tensor([m.training for m in model.modules()]),
        torch.tensor(
            [len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in model.modules()]
        ),
        torch.random.get_rng_state(),
        torch.from_numpy(np.random.get_state()[1].astype(np.int64)),  # noqa: NPY002 - the state that others share
        torch.tensor(random.getstate()[1]),
        torch.tensor([torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")]),
    ]


@cache
def samples(kind):
    x = torch.rand(N, *SHAPES[kind], dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        y = Counted(kind)(x).argmax(1)
    y[0] = (y[0] + 1) % CLASSES  # wrong to begin with
    return x, y


def run(attack, kind, rows=slice(None), seed=0, model=None, eps=None, **extra) -> AttackResult:
    x, y = samples(kind)
    extra = {key: value[rows] for key, value in extra.items()}
    return attack(model or Counted(kind), x[rows].clone(), y[rows].clone(), Keys.of(seed, N)[rows], eps, **extra)


class Run(NamedTuple):
    result: AttackResult
    forwards: int
    backwards: int
    untouched: bool
    inputs_unchanged: bool


@cache
def once(name, norm, kind) -> Run:
    """Run an attack with much budget; looked at by several tests."""
    model, (x, y), real = Counted(kind), samples(kind), session.verify
    before, x_before, y_before, counts = condition(model), x.clone(), y.clone(), []

    def uncounted(*args, **params):
        counts.append((model.forwards, model.backwards))
        return real(*args, **params)

    session.verify = uncounted
    try:
        given = x.clone(), y.clone()
        result = cheap(name, norm=norm)(model, *given, Keys.of(0, N), large(name, norm, kind))
    finally:
        session.verify = real
    same = torch.equal(given[0], x_before) and torch.equal(given[1], y_before)
    untouched = all(torch.equal(a, b) for a, b in zip(before, condition(model), strict=True))
    return Run(result, *counts[0], untouched, same)


def measured(norm, delta):
    return torch.linalg.vector_norm(delta.flatten(1).double(), {"Linf": torch.inf, "L2": 2, "L1": 1, "L0": 0}[norm], 1)


@pytest.mark.parametrize(("name", "norm", "kind"), among(NAMES))
def test_successes_are_near_inside_the_box_wrong_and_verified(name, norm, kind):
    (x, y), result = samples(kind), once(name, norm, kind).result
    found = measured(norm, result.x_adv - x)
    torch.testing.assert_close(result.norm, found, rtol=1e-9, atol=1e-12)
    assert (found[result.success] <= large(name, norm, kind) * (1 + 1e-6)).all()
    assert torch.isfinite(result.x_adv).all()
    assert ((result.x_adv >= 0) & (result.x_adv <= 1))[result.success].all()
    with torch.no_grad():
        wrong = Counted(kind)(result.x_adv).argmax(1) != y
    assert wrong[result.success].all()
    assert result.verified[result.success].all()
    assert result.x_adv.shape == x.shape
    assert result.x_adv.dtype == x.dtype
    assert not result.x_adv.requires_grad


@pytest.mark.parametrize(("name", "norm", "kind"), among(NAMES))
def test_much_budget_breaks_a_fragile_model(name, norm, kind):
    result = once(name, norm, kind).result
    assert result.success[0]  # wrong to begin with
    assert torch.equal(result.x_adv[0], samples(kind)[0][0])
    assert result.success[1:].any()
    assert (result.by >= 0).equal(result.success)


@pytest.mark.parametrize(("name", "norm", "kind"), among(NAMES))
def test_the_model_is_left_exactly_as_found(name, norm, kind):
    assert once(name, norm, kind).untouched
    assert once(name, norm, kind).inputs_unchanged


@pytest.mark.parametrize(("name", "norm", "kind"), among(NAMES))
def test_passes_are_counted_truly(name, norm, kind):
    ran = once(name, norm, kind)
    assert ran.result.forwards.sum() == ran.forwards
    assert ran.result.backwards.sum() == ran.backwards
    assert (ran.result.forwards >= 1).all()
    assert (ran.result.forwards[0], ran.result.backwards[0]) == (1, 0)  # wrong to begin with: left alone
    if lookup(name).tags & {"score", "decision"} and "gradient" not in lookup(name).tags:
        assert ran.backwards == 0


@pytest.mark.parametrize(("name", "norm", "kind"), among(NAMES))
def test_the_same_keys_give_the_same_result(name, norm, kind):
    again = run(cheap(name, norm=norm), kind, eps=large(name, norm, kind))
    for one, other in zip(again[:8], once(name, norm, kind).result[:8], strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(("name", "norm", "kind"), among(NAMES))
def test_eps_zero_leaves_data_alone(name, norm, kind):
    model = Counted(kind)
    result = run(cheap(name, norm=norm), kind, model=model, eps=0.0)
    assert torch.equal(result.x_adv, samples(kind)[0])
    assert result.success.tolist() == [True] + [False] * (N - 1)
    assert not result.norm.any()
    assert (result.forwards == 1).all()


@pytest.mark.parametrize(("name", "norm", "kind"), among(NAMES))
def test_more_budget_is_no_weaker_and_each_sample_may_have_its_own(name, norm, kind):
    attack = cheap(name, norm=norm)
    few = run(attack, kind, eps=SMALL[norm])
    assert (few.norm[few.success] <= SMALL[norm] * (1 + 1e-6)).all()
    assert few.success.sum() <= once(name, norm, kind).result.success.sum()
    if "shared" in lookup(name).tags:
        return
    eps = torch.tensor([SMALL[norm], large(name, norm, kind)] * (N // 2), dtype=torch.float64)
    mixed = run(attack, kind, eps=eps)
    expected = torch.where(eps == SMALL[norm], few.success, once(name, norm, kind).result.success)
    assert torch.equal(mixed.success, expected)


@pytest.mark.parametrize(("name", "norm", "kind"), among([name for name in NAMES if "shared" not in lookup(name).tags]))
@pytest.mark.parametrize("size", [1, 3])
def test_results_do_not_depend_on_the_batch(name, norm, kind, size):
    whole, attack = once(name, norm, kind).result, cheap(name, norm=norm)
    parts = [run(attack, kind, slice(i, i + size), eps=large(name, norm, kind)) for i in range(0, N, size)]
    for column in ("success", "forwards", "backwards"):
        assert torch.equal(torch.cat([getattr(p, column) for p in parts]), getattr(whole, column)), column
    torch.testing.assert_close(torch.cat([p.x_adv for p in parts]), whole.x_adv, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("name", "norm", "kind"), among(NAMES))
def test_values_off_the_mask_never_move(name, norm, kind):
    x, _ = samples(kind)
    mask = torch.rand(x.shape, generator=torch.Generator().manual_seed(9)) > 0.5
    result = run(cheap(name, norm=norm), kind, eps=large(name, norm, kind), mask=mask)
    assert torch.equal(result.x_adv[result.success][~mask[result.success]], x[result.success][~mask[result.success]])
    assert result.verified[result.success].all()


@pytest.mark.parametrize(("name", "norm", "kind"), among(NAMES))
def test_targeted_results_say_the_target(name, norm, kind):
    if not plain(name).can_target or plain(name).loss == "dlr":
        with pytest.raises(ValueError, match=f"{plain(name).name}.*(target|leads away)"):
            cheap(name, norm=norm, targeted=True)
        return
    target = (samples(kind)[1] + 1) % CLASSES
    attack = cheap(name, norm=norm, targeted=True)
    result = run(attack, kind, eps=large(name, norm, kind), target=target)
    with torch.no_grad():
        said = Counted(kind)(result.x_adv).argmax(1)
    assert torch.equal(said[result.success], target[result.success])
    assert result.verified[result.success].all()


@pytest.mark.parametrize("name", NAMES)
def test_single_precision_works_and_an_empty_batch_is_empty(name):
    kind = inputs(name)[-1]
    x, y = samples(kind)
    attack = cheap(name)
    eps = large(name, attack.norm, kind)
    result = attack(Counted(kind).float(), x.float(), y, Keys.of(0, N), eps)
    assert result.x_adv.dtype == torch.float32
    assert (measured(attack.norm, result.x_adv.double() - x.float().double())[result.success] <= eps * (1 + 1e-6)).all()
    assert result.verified[result.success].all()
    empty = attack(Counted(kind).float(), x[:0].float(), y[:0])
    assert empty.x_adv.shape == x[:0].shape
    assert all(len(column) == 0 for column in empty)


@pytest.mark.parametrize("name", [name for name in NAMES if "image" in lookup(name).tags])
def test_attacks_on_images_refuse_tables(name):
    x, y = samples("table")
    with pytest.raises(ValueError, match=rf"{plain(name).name}.*\(\d, 6\)"):
        cheap(name)(Counted("table"), x, y)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("params", [{}, {"eps": "16/255"}, {"box": (-1.0, float("inf"))}], ids=str)
def test_specs_and_texts_make_the_same_attack(name, params):
    if "image" in lookup(name).tags and "box" in params:
        params = {"box": (-1.0, 2.0)}
    if norms(name) == ["L0"] and "eps" in params:
        params = {"eps": 3}
    attack = cheap(name, **params)
    [(known, written)] = json.loads(json.dumps(attack.spec())).items()
    assert known == plain(name).name
    assert robustaug.create(name, **written).spec() == attack.spec()
    assert eval(repr(attack), {"robustaug": robustaug}).spec() == attack.spec()
    if known == name:
        assert plain(name).spec() == {name: {}}


@pytest.mark.parametrize("name", NAMES)
def test_unknown_parameters_are_refused_with_a_suggestion(name):
    with pytest.raises(TypeError, match=rf"{plain(name).name} has no parameter 'restrats'; did you mean 'restarts'"):
        robustaug.create(name, restrats=1)
    with pytest.raises(ValueError, match=rf"{plain(name).name}: norm must be one of .*, got 'L3'"):
        robustaug.create(name, norm="L3")


@pytest.mark.parametrize("name", NAMES)
def test_every_attack_says_what_it_is(name):
    entry = lookup(name)
    assert entry.tags & {"gradient", "score", "decision"}
    assert entry.summary.endswith(".")
    assert plain(name).minimal == ("minimal-norm" in entry.tags)
    assert norms(name)
    assert set(plain(name).norms) <= set(SMALL)
