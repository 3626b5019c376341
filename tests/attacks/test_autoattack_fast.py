"""The fast schedule: its interval is true at every look, it stops and goes on rightly, it learns, and misses little."""

from dataclasses import replace
from functools import cache

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

import robustaug
from robustaug.attacks.anytime import anytime_interval
from robustaug.attacks.autoattack_fast import Arm
from robustaug.attacks.execution import Execution
from robustaug.attacks.session import Session
from robustaug.rng import Keys, torch_seed
from tests.attacks.test_session import Network, data, same


def made(brief=3, long=6, **params):
    """The attack with few steps in each form; its arms are no parameters."""
    attack = robustaug.create("attack.autoattack_fast", **{"eps": 0.06, "block": 8} | params)
    few = [*attack.arms[:4], attack.arms[-1]]
    attack.__dict__["arms"] = tuple(Arm(replace(arm.brief, steps=brief), replace(arm.long, steps=long)) for arm in few)
    return attack


@pytest.fixture
def runs(monkeypatch):
    """What the schedule does: (session, form, rows, how many of them stood) for each attack it runs."""
    seen, real = [], Session.pursue

    def pursue(self, attack, number=0, rows=None, salt=None):
        seen.append((self, salt, rows, len(self.standing(rows))))
        return real(self, attack, number, rows, salt)

    monkeypatch.setattr(Session, "pursue", pursue)
    return seen


# --- stopping ---


def test_at_the_tolerance_it_stops_and_says_which_samples_count():
    x, y = data(n=160)
    seen = []
    result = made(tolerance=0.2)(Network(), x, y, execution=Execution(progress=seen.append))
    tried = int(result.tried.sum())
    assert tried % 8 == 0
    assert 8 < tried < 160
    low, high = anytime_interval(int((~result.success[result.tried]).sum()), tried, 0.95)
    assert high - low <= 0.4
    assert (seen[-1].attack, seen[-1].fraction, seen[-1].interval) == ("attack.autoattack_fast", 1.0, (low, high))
    assert (result.forwards[~result.tried] == 1).all()
    wrong = Network()(x).argmax(1) != y
    assert torch.equal(result.success[~result.tried], wrong[~result.tried])
    assert not result.tried[: tried // 2].all()  # drawn at random, not the first ones
    whole = made()(Network(), x, y)
    assert whole.tried.all()
    assert low <= float((~whole.success).double().mean()) <= high


def test_progress_shows_the_interval_of_the_blocks_so_far():
    x, y = data(n=24)
    seen = []
    made()(Network(), x, y, execution=Execution(progress=seen.append))
    intervals = [*dict.fromkeys(progress.interval for progress in seen)]
    assert intervals[0] is None
    assert len(intervals) == 4  # none, and after each of three blocks
    assert all(0 <= low < high <= 1 for low, high in intervals[1:])
    assert all(0 <= progress.fraction <= 1 for progress in seen)


def test_confidence_and_tolerance_decide_how_many_are_tried():
    x, y = data(n=160)
    cases = [(0.3, 0.8), (0.2, 0.8), (0.2, 0.99)]
    tried = [int(made(tolerance=t, confidence=c)(Network(), x, y).tried.sum()) for t, c in cases]
    assert tried == sorted(tried)
    assert tried[0] < tried[1] < tried[2]


def test_a_budget_of_passes_is_kept():
    x, y = data()
    result = made()(Network(), x, y, execution=Execution(budget=9))
    assert (result.forwards <= 9).all()
    assert result.tried.all()


# --- keys and checkpoints ---


def test_the_same_keys_give_the_same_result_in_any_order():
    x, y = data(n=24)
    keys, attack = Keys.of(4, 24), made()
    whole = attack(Network(), x, y, keys)
    assert same(attack(Network(), x, y, keys), whole)
    order = torch.randperm(24, generator=torch.Generator().manual_seed(1))
    mixed = attack(Network(), x[order], y[order], keys[order])
    for column in ("success", "by", "forwards", "backwards"):
        assert torch.equal(getattr(mixed, column), getattr(whole, column)[order]), column
    assert torch.allclose(mixed.x_adv, whole.x_adv[order], rtol=0, atol=1e-9)
    assert not torch.equal(attack(Network(), x, y, Keys.of(5, 24)).x_adv, whole.x_adv)


@pytest.mark.parametrize(("norm", "eps"), [("L2", 0.15), ("L1", 0.3)])
def test_interrupted_within_an_attack_or_between_two_it_ends_with_the_same_result(norm, eps, tmp_path):
    attack, (x, y) = made(norm=norm, eps=eps, brief=2), data(n=20)
    execution = Execution(checkpoint=tmp_path / "attack.safetensors", checkpoint_every_s=0)
    whole = attack(counted := Network(), x, y)
    assert 0 < whole.success.sum() < 20
    assert whole.by.max() >= (norm == "L1")  # where later attacks find something too
    calls = len(counted.sizes)
    for stop in [*range(2, calls, 37), calls]:
        with pytest.raises(KeyboardInterrupt):
            attack(Network(stop=stop), x, y, execution=execution)
        again = Network()
        assert same(attack(again, x, y, execution=execution), whole), f"interrupted at call {stop}"
        assert len(again.sizes) <= calls - stop + 8, "it went back too far"
        assert not [*tmp_path.iterdir()]


def test_interrupted_again_and_again_it_still_ends(tmp_path):
    attack, (x, y) = made(), data(n=20)
    execution = Execution(checkpoint=tmp_path / "attack.safetensors", checkpoint_every_s=0)
    for _ in range(200):
        try:
            result = attack(Network(stop=12), x, y, execution=execution)
            break
        except KeyboardInterrupt:
            continue
    assert same(result, attack(Network(), x, y))


# --- the schedule ---


class Linear(nn.Module):
    """One line between two classes: the gradient of the margin finds all there is, and nothing is left."""

    def forward(self, x):
        z = 4 * (x - 0.5).sum(1)
        return torch.stack([z, -z, -9 - z * 0], 1)


def test_an_attack_that_broke_nothing_for_long_is_left_out(runs):
    """Once it is sure, by the same interval, that it breaks less than `miss` of all samples."""
    x = torch.rand(200, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    attack = made(block=10, miss=0.2, eps=0.05)
    y = Linear()(x).argmax(1)
    result = attack(Linear().eval(), x, y)
    assert 0 < result.success.sum() < 200
    most = next(k for k in range(1, 20) if anytime_interval(0, 10 * k, 0.95)[1] < 0.2)
    forms = [form for _, form, _, _ in runs]
    standing_blocks = 20
    assert forms.count(0) == standing_blocks
    for form in range(1, len(attack.arms)):
        assert forms.count(form) <= most, form
        assert forms.count(form + len(attack.arms)) <= 1
    assert forms[-5:] == [0] * 5  # the one that breaks something comes first, and then alone
    assert torch.equal(result.by[result.success], torch.zeros(int(result.success.sum()), dtype=torch.int64))


def test_with_no_share_to_miss_every_attack_is_run_in_every_block(runs):
    x, y = data(n=40)
    attack = made(block=10, miss=0.0, eps=0.02)
    attack(Network(), x, y)
    forms = [form for _, form, _, _ in runs]
    assert all(forms.count(form) == 4 for form in range(len(attack.arms)))


def test_what_it_learns_counts_the_samples_each_attack_broke(runs):
    x, y = data(n=40)
    wrong = Network()(x).argmax(1) != y
    attack = made(block=10)
    result = attack(Network(), x, y)
    session = runs[0][0]
    known = session.notes["known"]
    assert sum(about["broken"] for about in known) == int((result.success & ~wrong).sum())
    assert all(about["broken"] <= about["tried"] <= about["seen"] for about in known)
    passes = sum(about["cost"] for about in known)
    price = torch.where(result.backwards > 0, 1.0, 0.0)
    assert passes >= float(((result.forwards - 1) * price).sum())
    by_arm = [known[i]["broken"] + known[i + 5]["broken"] for i in range(5)]
    assert torch.bincount(result.by[result.success & ~wrong], minlength=5).tolist() == by_arm


def test_the_long_form_runs_only_where_the_brief_one_still_broke_samples_late(runs):
    x, y = data(n=40)
    attack = made(block=10, brief=4, long=8)
    attack(Network(), x, y)
    blocks = {}
    for _, form, rows, standing in runs:
        blocks.setdefault(int(rows[0]), []).append((form, standing))
    assert len(blocks) == 4
    long = 0
    for ran in blocks.values():
        forms = [form for form, _ in ran]
        assert len(set(forms)) == len(forms)
        stood = [standing for _, standing in ran]
        assert stood == sorted(stood, reverse=True)
        for place, form in enumerate(forms):
            if form >= len(attack.arms):
                brief = forms.index(form - len(attack.arms))
                assert brief < place
                after = stood[brief + 1] if brief + 1 < len(stood) else 0
                assert after < stood[brief]  # it broke something
                long += 1
    assert long


@pytest.mark.parametrize("patience", [2, 8, 50])
def test_the_schedule_is_the_same_however_seldom_it_looks_which_samples_fell(runs, patience):
    """On CUDA samples are worked on until the next look: a fall at the first step is none in the second half."""
    x, y = data(n=40)
    attack, schedules = made(block=10, brief=4, long=8), []
    for looks in (1, patience):
        runs.clear()
        result = attack(Network(), x, y, execution=Execution(patience=looks))
        schedules.append(([(form, standing) for _, form, _, standing in runs], runs[0][0].notes["known"], result))
    (forms, known, result), (forms_later, known_later, later) = schedules
    assert forms_later == forms
    assert known_later == known
    assert torch.equal(later.by, result.by)
    assert (later.forwards > result.forwards).any()
    assert any(form >= len(attack.arms) for form, _ in forms)


def test_without_anything_left_standing_it_ends():
    x, y = data(n=16)
    result = made(eps=1.0)(Network(), x, y)
    assert result.success.all()


# --- against the whole ensemble ---


@cache
def trained():
    """A small network on the embedded digits, some of it robust, and test samples."""
    x, y = load_digits(return_X_y=True)
    x, y = torch.tensor(x / 16, dtype=torch.float32), torch.tensor(y)
    with torch_seed(0):
        model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(120):
        at = x[:1200].clone().requires_grad_()
        [slope] = torch.autograd.grad(nn.functional.cross_entropy(model(at), y[:1200]), at)
        at = (x[:1200] + 0.08 * slope.sign()).clamp(0, 1)
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(at), y[:1200]).backward()
        optimiser.step()
    return model.eval(), x[1200:1224], y[1200:1224]


@cache
def standard_and_fast():
    model, x, y = trained()
    return [
        robustaug.create(name, eps=0.2)(model, x, y, Keys.of(0, len(x)))
        for name in ("attack.autoattack", "attack.autoattack_fast")
    ]


def test_it_is_within_one_sample_of_the_whole_ensemble():
    standard, fast = standard_and_fast()
    assert 6 < standard.success.sum() < 22
    assert abs(int(standard.success.sum()) - int(fast.success.sum())) <= 1
    assert torch.equal(fast.verified, fast.success)
    assert ((fast.by >= 0) == fast.success).all()
    assert fast.by.max() < 11


def test_it_costs_a_small_part_of_the_whole_ensemble_in_passes():
    standard, fast = standard_and_fast()
    spent = [int(result.forwards.sum()) + 1.5 * int(result.backwards.sum()) for result in (standard, fast)]
    assert spent[1] < spent[0] / 5


@pytest.mark.parametrize("norm", ["Linf", "L2", "L1"])
def test_its_attacks_are_those_of_the_ensemble_brief_and_long(norm):
    attack = robustaug.create("attack.autoattack_fast", norm=norm, eps=0.2)
    names = [arm.brief.name for arm in attack.arms]
    assert names == ["attack.apgd", *["attack.apgd_t"] * 9, "attack.square"]
    assert attack.numbered() == (names[0], *(f"attack.apgd_t target {rank}" for rank in range(1, 10)), names[-1])
    for arm in attack.arms:
        assert arm.long == replace(arm.brief, steps=arm.long.steps)
        assert arm.long.steps > arm.brief.steps
        assert (arm.brief.norm, arm.brief.eps) == (norm, 0.2)
    assert [arm.brief.skip for arm in attack.arms[1:10]] == [*range(9)]


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"tolerance": 0.6}, r"attack.autoattack_fast: tolerance must be in \[0, 0.5\], got 0.6"),
        ({"confidence": 1.0}, r"attack.autoattack_fast: confidence must be in \(0, 1\), got 1"),
        ({"miss": -0.1}, r"attack.autoattack_fast: miss must be in \[0, 1\], got -0.1"),
        ({"block": 0}, "attack.autoattack_fast: block must be a whole number >= 1, got 0"),
        ({"restarts": 2}, "attack.autoattack_fast: the schedule sets the restarts itself, got 2"),
        ({"targeted": True}, "attack.autoattack_fast: cannot lead towards a class"),
    ],
)
def test_values_that_make_no_sense_are_refused(params, match):
    with pytest.raises(ValueError, match=match):
        robustaug.create("attack.autoattack_fast", **params)
