"""What a session keeps: checkpoints to go on from, budgets, progress, the ball, and the model as it was found."""

import itertools
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import ClassVar

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import robustaug
from robustaug.attacks import session
from robustaug.attacks.ask import Ask
from robustaug.attacks.attack import Attack
from robustaug.attacks.execution import Execution
from robustaug.attacks.session import Session, Spent, _Rows
from robustaug.attacks.threat import NORMS
from robustaug.rng import Keys

CLASSES = 4


class Network(nn.Module):
    """A small network that notes the sizes it is asked at, and stops working at a chosen call."""

    def __init__(self, values=6, stop=None, seed=0):
        super().__init__()
        draw = torch.Generator().manual_seed(seed)
        self.first = nn.Parameter(torch.randn(values, 16, dtype=torch.float64, generator=draw))
        self.last = nn.Parameter(torch.randn(16, CLASSES, dtype=torch.float64, generator=draw))
        self.training, self.stop, self.sizes = False, stop, []

    def forward(self, x):
        self.sizes.append(len(x))
        if len(self.sizes) == self.stop:
            raise KeyboardInterrupt
        first, last = self.first.to(x.dtype), self.last.to(x.dtype)
        return torch.tanh((x.flatten(1) - 0.5) @ first) @ last


def data(shape=(6,), n=12, seed=1, dtype=torch.float64):
    x = torch.rand(n, *shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))
    y = Network(x[0].numel())(x).argmax(1)
    y[::5] = (y[::5] + 1) % CLASSES  # some are wrong to begin with
    return x, y


@dataclass(frozen=True, kw_only=True, repr=False)
class Drifting(Attack):
    """Carries a velocity from step to step, widens its ball, and ends some samples early."""

    name: ClassVar[str] = "test.drifting"
    norms: ClassVar[tuple[str, ...]] = tuple(NORMS)
    loss: ClassVar[str] = "margin"
    steps: int = 6  # type: ignore[assignment]

    def init(self, start, ask):
        state = start.at(start.x, speed=torch.zeros_like(start.x), done=torch.zeros_like(start.label, dtype=torch.bool))
        return replace(state, ball=start.ball.within(1.5 * start.eps))

    def step(self, state, ask):
        grad = ask.gradient(state.x, self.objective, state.label).grad
        speed = 0.75 * state.memory["speed"] + state.ball.norm.steepest(grad)
        done = (state.keys.index % 4 == 3) & torch.tensor(state.steps >= 3)
        return state.moved(state.ball.climb(state.x, speed, state.eps / 3), speed=speed, done=done)


def pgd(**params):
    return robustaug.create("attack.pgd", **{"eps": 0.1, "steps": 5} | params)


ATTACKS = {
    "pgd": pgd(restarts=2, eps=0.05),
    "pgd L1": pgd(norm="L1", eps=0.2, restarts=2),
    "targeted": pgd(targeted=True, eps=0.2),
    "drifting": Drifting(eps=0.05),
    "drifting L2": Drifting(norm="L2", eps=0.1),
}


def same(one, other):
    columns = [(a, b) for a, b in zip(one, other, strict=True) if isinstance(a, torch.Tensor)]
    return len(columns) >= 8 and all(torch.equal(a, b) for a, b in columns)


# --- checkpoints ---


@pytest.mark.parametrize("name", ATTACKS)
def test_interrupted_at_any_call_an_attack_ends_with_the_same_result(name, tmp_path):
    attack, (x, y) = ATTACKS[name], data()
    execution = Execution(checkpoint=tmp_path / "attack.safetensors", checkpoint_every_s=0)
    whole = attack(counted := Network(), x, y)
    assert 0 < whole.success.sum() < 12
    resumed = 0
    for stop in range(1, len(counted.sizes) + 1):
        with pytest.raises(KeyboardInterrupt):
            attack(Network(stop=stop), x, y, execution=execution)
        resumed += execution.checkpoint.exists()
        again = Network()
        assert same(attack(again, x, y, execution=execution), whole), f"interrupted at call {stop}"
        assert len(again.sizes) < len(counted.sizes) or stop <= 3, "it began anew"
        assert not [*tmp_path.iterdir()], "it has served"
    assert resumed >= len(counted.sizes) - 4


def test_a_run_may_be_interrupted_again_and_again(tmp_path):
    attack, (x, y) = ATTACKS["pgd"], data()
    execution = Execution(checkpoint=tmp_path / "attack.safetensors", checkpoint_every_s=0)
    for _ in range(30):
        try:
            result = attack(Network(stop=5), x, y, execution=execution)
            break
        except KeyboardInterrupt:
            continue
    assert same(result, attack(Network(), x, y))


def test_checkpoints_are_written_as_often_as_asked(tmp_path):
    execution = Execution(checkpoint=tmp_path / "attack.safetensors", checkpoint_every_s=1e9)
    with pytest.raises(KeyboardInterrupt):
        pgd()(Network(stop=6), *data(), execution=execution)
    assert not [*tmp_path.iterdir()]


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "attack.safetensors"
    with pytest.raises(KeyboardInterrupt):
        pgd()(Network(stop=5), *data(), execution=Execution(checkpoint=path, checkpoint_every_s=0))
    assert path.exists()
    return path


def resume(path, attack=None, model=None, x=None, y=None, **extra):
    usual = data()
    x, y = usual[0] if x is None else x, usual[1] if y is None else y
    return (attack or pgd())(model or Network(), x, y, execution=Execution(checkpoint=path), **extra)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.999])
def test_a_truncated_checkpoint_is_named(checkpoint, share):
    content = checkpoint.read_bytes()
    checkpoint.write_bytes(content[: int(share * len(content))])
    with pytest.raises(
        ValueError, match=r"attack.safetensors: no readable attack checkpoint .*delete it to start anew"
    ):
        resume(checkpoint)


def test_a_damaged_checkpoint_is_named(checkpoint):
    content = bytearray(checkpoint.read_bytes())
    content[-9] ^= 4
    checkpoint.write_bytes(content)
    with pytest.raises(ValueError, match=r"the checkpoint is damaged .*; delete it to start anew"):
        resume(checkpoint)


def test_another_kind_of_file_is_named(tmp_path):
    path = tmp_path / "weights.safetensors"
    save_file({"weight": torch.zeros(3)}, path)
    with pytest.raises(ValueError, match="the checkpoint of another attack, model or data"):
        resume(path)
    path.write_text("# notes\n" * 100)
    with pytest.raises(ValueError, match="no readable attack checkpoint"):
        resume(path)
    assert path.read_text().startswith("# notes"), "what is not ours stays"
    with pytest.raises(ValueError, match="no readable attack checkpoint"):
        resume(tmp_path)


@pytest.mark.parametrize(
    "other",
    [
        {"attack": pgd(steps=6)},
        {"attack": pgd(norm="L2")},
        {"model": Network(seed=3)},
        {"x": data(seed=2)[0]},
        {"y": data()[1].roll(1)},
        {"eps": 0.09},
        {"keys": Keys.of(1, 12)},
        {"mask": torch.arange(6) < 5},
    ],
    ids=lambda other: next(iter(other)),
)
def test_the_checkpoint_of_another_run_is_refused(checkpoint, other):
    with pytest.raises(ValueError, match="of another attack, model or data; delete it, or name another checkpoint"):
        resume(checkpoint, **other)
    assert same(resume(checkpoint), pgd()(Network(), *data())), "it still serves its own"


def test_a_checkpoint_is_an_ordinary_file(checkpoint):
    assert {"x", "found", "success", "forwards", "backwards"} <= load_file(checkpoint).keys()


KILLED = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_session import ATTACKS, Network, data
from robustaug.attacks.execution import Execution

calls = []
def told(progress):
    calls.append(progress)
    if len(calls) == 7:
        print("reached", flush=True)
        time.sleep(600)

ATTACKS["pgd"](Network(), *data(), execution=Execution(checkpoint=sys.argv[1], checkpoint_every_s=0, progress=told))
"""


def test_killed_in_mid_attack_it_goes_on_with_the_same_result(tmp_path):
    """kill -9, when six steps are on file and a seventh is not."""
    path = tmp_path / "attack.safetensors"
    command = [sys.executable, "-c", KILLED, str(path), os.path.dirname(__file__)]  # noqa: PTH120
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert process.stdout.readline() == b"reached\n"
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    again, whole = Network(), Network()
    attack = ATTACKS["pgd"]
    assert same(attack(again, *data(), execution=Execution(checkpoint=path)), attack(whole, *data()))
    assert len(again.sizes) == len(whole.sizes) - 7  # six steps, and the last point of the first round


# --- counts, budgets, progress ---


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("budget", [1, 2, 4, 9, 100])
def test_a_budget_is_never_exceeded(name, budget):
    attack, (x, y) = ATTACKS[name], data()
    model = Network()
    result = attack(model, x, y, execution=Execution(budget=budget))
    assert result.forwards.max() <= budget
    free = attack(Network(), x, y)
    assert not (result.success & ~free.success).any()
    if budget < free.forwards.max():
        assert result.forwards.max() == budget
    else:
        assert same(result, free)
    verifying = (len(x) + 1) * bool(result.success.any())
    assert sum(model.sizes) == result.forwards.sum() + verifying


def test_samples_asked_about_several_times_are_counted_and_held_to_the_budget():
    x, y = data(n=3)
    model, keys = Network(), Keys.of(0, 3)
    execution = Execution(budget=6)
    eps = torch.full((3,), 0.1, dtype=torch.float64)
    session = Session(model, execution, pgd().threat, x, model(x).argmax(1), model(x), eps, keys, None, False)
    rows = torch.tensor([0, 2, 0, 0])
    ask = Ask(session.searched.ask, execution, _Rows(session, torch.arange(3), session.ball)).of(rows)
    ask.gradient(x[rows], pgd().objective, y[rows], keep=False)
    assert session.forwards.tolist() == [4, 1, 2]
    assert session.backwards.tolist() == [3, 0, 1]
    assert session.moved.tolist() == [True, False, True]
    with pytest.raises(Spent):
        ask.logits(x[rows], keep=False)
    assert session.forwards.tolist() == [4, 1, 2]


def test_progress_grows_to_one_and_knows_the_accuracy():
    x, y = data()
    told = []
    result = ATTACKS["pgd"](Network(), x, y, execution=Execution(progress=told.append))
    fractions = [p.fraction for p in told]
    assert fractions == sorted(fractions)
    assert fractions[:3] == pytest.approx([0.1, 0.2, 0.3])
    assert fractions[-1] == 1
    assert told[-1].seconds_left == 0
    assert all(p.seconds > 0 and p.seconds_left >= 0 for p in told)
    assert {p.attack for p in told} == {"attack.pgd"}
    assert {p.total for p in told} == {12}
    standing = [p.standing for p in told]
    assert standing == sorted(standing, reverse=True)
    assert standing[0] <= int((Network()(x).argmax(1) == y).sum())
    assert told[-1].accuracy == float((~result.success).sum()) / 12


def test_progress_ends_at_one_when_every_sample_fell_early():
    told = []
    result = pgd(eps=0.9, steps=50)(Network(), *data(), execution=Execution(progress=told.append))
    assert result.success.all()
    assert len(told) < 50
    assert (told[-1].fraction, told[-1].accuracy, told[-1].seconds_left) == (1, 0, 0)


def test_after_a_resume_the_time_left_follows_the_new_pace(tmp_path, monkeypatch):
    path = tmp_path / "attack.safetensors"
    attack, (x, y) = pgd(eps=0.001, steps=20), data()
    with pytest.raises(KeyboardInterrupt):
        attack(Network(stop=17), x, y, execution=Execution(checkpoint=path, checkpoint_every_s=0))
    told, clock = [], itertools.count()
    monkeypatch.setattr(session, "time", SimpleNamespace(perf_counter=lambda: next(clock)))  # a second a look at it
    attack(Network(), x, y, execution=Execution(checkpoint=path, progress=told.append))
    assert told[0].fraction == pytest.approx(16 / 20)
    # the step took a second and four are left; by the share of all steps it would look like a quarter of one
    assert told[0].seconds_left == pytest.approx(4)


# --- the ball ---


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("shape", [(6,), (2, 3), (1, 2, 3), (1, 2, 1, 3)], ids=str)
def test_any_rank_and_every_norm_stay_within_each_samples_budget(norm, shape):
    x, y = data(shape)
    eps = torch.linspace(0, {"Linf": 0.2, "L2": 0.4, "L1": 0.6, "L0": 3}[norm], 12, dtype=torch.float64)
    result = Drifting(norm=norm)(Network(), x, y, eps=eps)
    assert (result.norm[result.success] <= (eps * (1 + 1e-6))[result.success]).all()
    assert 0 < result.success.sum() < 12
    assert result.verified[result.success].all()
    assert torch.equal(result.x_adv[0], x[0])


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("masks", ["one a sample", "one for all"])
def test_values_off_the_mask_never_move(norm, masks):
    x, y = data((2, 3))
    mask = torch.tensor([[True, False, True], [False, True, True]])
    if masks == "one a sample":
        mask = torch.rand(12, 2, 3, generator=torch.Generator().manual_seed(0)) > 0.4
    for attack in [Drifting(norm=norm), *([pgd(norm=norm)] if norm in pgd().norms else [])]:
        result = attack(Network(), x, y, mask=mask, eps={"Linf": 0.3, "L2": 0.5, "L1": 1.0, "L0": 2}[norm])
        moved = result.x_adv != x
        assert not (moved & ~mask).any()
        assert moved.any()
        assert result.verified[result.success].all()


def test_a_mask_without_values_leaves_every_sample_alone():
    x, y = data()
    result = pgd()(Network(), x, y, mask=torch.zeros(6, dtype=torch.bool))
    assert torch.equal(result.x_adv, x)
    assert torch.equal(result.success, Network()(x).argmax(1) != y)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tables_whose_columns_have_different_ranges_keep_them(dtype):
    low = torch.tensor([0.0, -5.0, 0.4, 0.0, 0.0, -1.0], dtype=torch.float64)
    high = torch.tensor([1.0, 50.0, 0.6, 2.0, 1e-3, 1.0], dtype=torch.float64)
    x, y = data(dtype=dtype)
    x = (low + x * (high - low)).to(dtype)
    y = Network()(x).argmax(1)
    for norm in ("Linf", "L2", "L1"):
        result = pgd(norm=norm, eps=0.7, box=(low, high), steps=20)(Network(), x, y)
        assert ((result.x_adv >= low.to(dtype)) & (result.x_adv <= high.to(dtype))).all()
        assert result.success.any()
        assert result.verified[result.success].all()
        assert (result.norm <= 0.7).all()
    listed = pgd(eps=0.7, box=(low.tolist(), high.tolist()), steps=20)
    assert torch.equal(listed(Network(), x, y).x_adv, pgd(eps=0.7, box=(low, high), steps=20)(Network(), x, y).x_adv)


def test_a_box_open_to_one_side_is_kept():
    x, y = data()
    result = pgd(eps=2.0, box=(0.0, float("inf")))(Network(), x, y)
    assert result.x_adv.min() >= 0
    assert result.x_adv.max() > 1


# --- the model ---


def picture():
    """A network whose batch statistics are frozen by hand, with scale and shift to learn."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, CLASSES))
    with torch.no_grad():
        model(torch.rand(32, 1, 8, 8))
    model.eval()
    model[1].weight.requires_grad_(False)
    model[0].weight.grad = torch.ones_like(model[0].weight)
    return model


def condition(model):
    """Everything about a model that an attack could leave changed."""
    named = [*model.named_parameters(), *model.named_buffers()]
    return {
        "values": [(name, value.detach().clone()) for name, value in named],
        "grads": [None if p.grad is None else p.grad.clone() for p in model.parameters()],
        "flags": [p.requires_grad for p in model.parameters()],
        "modes": [m.training for m in model.modules()],
        "hooks": [len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in model.modules()],
        "generator": torch.random.get_rng_state(),
    }


def alike(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(alike, one, other))
    return one == other


@pytest.mark.parametrize("fails_at", [None, 1, 4])
def test_the_model_is_left_as_found_even_when_the_attack_breaks_off(fails_at):
    model = picture()
    x = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    y = model(x).argmax(1)
    before, calls = condition(model), []

    class Failing(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.training = model, False

        def forward(self, x):
            calls.append(len(x))
            if len(calls) == fails_at:
                raise RuntimeError("out of memory")
            return self.inner(x)

    attack = pgd(steps=8, eps=0.02)
    if fails_at is None:
        attack(Failing(), x, y)
    else:
        with pytest.raises(RuntimeError, match="out of memory"):
            attack(Failing(), x, y)
    after = condition(model)
    for key, value in before.items():
        assert alike(value, after[key]), key
    assert torch.is_grad_enabled()
