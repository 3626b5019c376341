"""How an attack runs changes its cost, and never what it finds."""

import shutil
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch
from torch import nn

import robustaug
from robustaug.attacks.adapters.question import Question
from robustaug.attacks.ask import Ask
from robustaug.attacks.attack import Attack
from robustaug.attacks.driver import clean_logits
from robustaug.attacks.execution import Execution, bucket, filled
from robustaug.attacks.masking.trial import Trial
from robustaug.attacks.threat import NORMS

CLASSES = 4


class Network(nn.Module):
    """A small network for images that notes how it was asked."""

    def __init__(self, seed=0):
        super().__init__()
        draw = torch.Generator().manual_seed(seed)
        self.kernel = nn.Parameter(torch.randn(6, 2, 3, 3, generator=draw))
        self.last = nn.Parameter(torch.randn(6 * 9, CLASSES, generator=draw) / 2)
        self.training, self.asked = False, []

    def forward(self, x):
        rows_last = x.is_contiguous(memory_format=torch.channels_last)
        self.asked.append((len(x), torch.is_autocast_enabled("cpu"), rows_last))
        hidden = torch.tanh(nn.functional.conv2d(x - 0.5, self.kernel.to(x.dtype)))
        return hidden.contiguous().flatten(1) @ self.last.to(hidden.dtype)

    @property
    def sizes(self):
        return [size for size, _, _ in self.asked]


def data(n=20, dtype=torch.float32):
    x = torch.rand(n, 2, 5, 5, dtype=dtype, generator=torch.Generator().manual_seed(1))
    return x, Network()(x).argmax(1)


def pgd(**params):
    return robustaug.create("attack.pgd", **{"eps": 0.04, "steps": 6, "restarts": 2} | params)


def close(one, other, atol=1e-5, confirmed=False):
    """Where the search asks another form of the model, what breaks that is asked of the model itself once more."""
    assert torch.equal(one.success, other.success)
    assert torch.equal(one.forwards, other.forwards + (other.success & (other.forwards > 1)) * confirmed)
    assert torch.equal(one.backwards, other.backwards)
    assert torch.equal(one.verified, other.verified)
    torch.testing.assert_close(one.x_adv, other.x_adv, rtol=0, atol=atol)


@pytest.mark.parametrize("size", [1, 2, 7, 20, 100])
def test_small_batches_give_the_same_result(size):
    (x, y), model = data(dtype=torch.float64), Network()
    result, whole = pgd()(model, x, y, execution=Execution(batch_size=size)), pgd()(Network(), x, y)
    assert 0 < whole.success.sum() < 20
    close(result, whole, 1e-9)
    assert max(model.sizes) == 1 + min(size, 20)  # the verifier's


@pytest.mark.parametrize(("size", "n", "passes"), [(None, 128, [64]), (None, 7, [7]), (3, 128, [3]), (200, 128, [128])])
def test_one_place_says_how_many_samples_a_pass_takes(size, n, passes):
    """The clean pass, the search, other people's attacks: all cut alike; only the check takes another size."""
    x, execution = torch.rand(n, 2, 5, 5), Execution(batch_size=size, fuse=False)
    assert (execution.pass_size(x), execution.check_size(x)) == (passes[0], passes[0] + 1)
    assert execution.pass_size(x[:0]) == 1
    for asked in (
        lambda model: clean_logits(model, x, execution),
        lambda model: Ask(model, execution).logits(x),
        lambda model: Question(Ask(model, execution), x)(x),
        lambda model: Trial(model, x, None, None, 0.1, None, execution).ask(x),
    ):
        model = Network()
        assert asked(model).shape == (n, CLASSES)
        assert model.sizes == [len(part) for part in x.split(passes[0])]


@pytest.mark.parametrize(("size", "n", "eps"), [(None, 128, 1.0), (None, 131, 0.04), (None, 12, 0.04), (2, 9, 0.04)])
def test_no_witness_is_judged_at_a_size_that_the_attack_had(size, n, eps):
    """Whatever still stood when it fell, and however many there are to check."""
    (x, y), model = data(n), Network()
    result = pgd(eps=eps)(model, x, y, execution=Execution(batch_size=size))
    checked = int(result.success.sum())
    assert checked
    most = min(size or 64, n)
    passes = -(-checked // (most + 1))
    assert model.sizes[-passes:] == [most + 1] * passes
    assert max(model.sizes[:-passes]) == most


def test_a_compiled_search_is_judged_at_a_size_beyond_what_its_passes_are_filled_up_to():
    x = torch.zeros(200, 2, 5, 5)
    sizes = [Execution(batch_size=size, compile=True).check_size(x) for size in (63, 64, 65)]
    assert sizes == [65, 65, 129]


def test_what_holds_only_in_company_of_one_size_is_not_verified():
    """Wrong wherever it is asked about as many samples as the attack asks at once."""

    class Sized(Network):
        def forward(self, x):
            return super().forward(x).roll(int(len(x) == 6), dims=1)

    x = torch.rand(6, 2, 5, 5, generator=torch.Generator().manual_seed(1))
    result = pgd(eps=1e-6)(Sized(), x, Network()(x).argmax(1))
    assert result.success.all()
    assert not result.verified.any()


def test_channels_last_is_how_the_model_sees_images():
    (x, y), model = data(), Network()
    close(pgd()(model, x, y, execution=Execution(channels_last=True)), pgd()(Network(), x, y))
    searched = model.asked[1:-1]  # the model itself judges the clean samples, and the witnesses
    assert all(rows_last for _, _, rows_last in searched)
    assert not any(rows_last for _, _, rows_last in (model.asked[0], model.asked[-1]))


def test_channels_last_leaves_tables_and_series_as_they_are():
    model = nn.Sequential(nn.Flatten(), nn.Linear(6, 3)).eval()
    for x in (torch.rand(4, 6), torch.rand(4, 2, 3)):
        y = model(x).argmax(1)
        close(pgd()(model, x, y, execution=Execution(channels_last=True)), pgd()(model, x, y))


@pytest.mark.parametrize("norm", ["Linf", "L2", "L1"])
@pytest.mark.parametrize("params", [{}, {"targeted": True}, {"loss": "margin"}])
def test_without_waiting_for_the_device_the_verdicts_are_the_same(norm, params):
    """With patience nothing is packed between looks and every point is measured, as on CUDA."""
    attack = pgd(norm=norm, eps={"Linf": 0.04, "L2": 0.3, "L1": 0.6}[norm], **params)
    (x, y), eager = data(dtype=torch.float64), Network()
    expected = attack(eager, x, y)
    assert 0 < expected.success.sum() < 20
    for patience in (1, 2, 4, 50):
        result = attack(model := Network(), x, y, execution=Execution(patience=patience))
        for name in ("success", "verified", "by", "silent"):
            assert torch.equal(getattr(result, name), getattr(expected, name)), name
        torch.testing.assert_close(result.x_adv, expected.x_adv, rtol=0, atol=1e-12)
        torch.testing.assert_close(result.norm, expected.norm, rtol=0, atol=1e-12)
        assert (result.forwards >= expected.forwards).all()
        assert sum(model.sizes) == result.forwards.sum() + 21  # the verifier's one pass
    assert len(set(model.sizes[1:-1])) <= 3  # packed between rounds only


@dataclass(frozen=True, kw_only=True, repr=False)
class Nearest(Attack):
    """Goes over the border and comes half of the way back."""

    name: ClassVar[str] = "test.nearest"
    norms: ClassVar[tuple[str, ...]] = tuple(NORMS)
    minimal: ClassVar[bool] = True
    steps: int = 8  # type: ignore[assignment]

    def init(self, start, ask):
        return replace(start, ball=start.ball.within(2 * start.eps))

    def step(self, state, ask):
        answer = ask.gradient(state.x, self.objective, state.label)
        out = state.ball.climb(state.x, answer.grad, state.eps / 2)
        over = (answer.loss > 0).reshape(-1, 1, 1, 1)
        return state.moved(torch.where(over, (state.clean + state.x) / 2, out))


@pytest.mark.parametrize("norm", NORMS)
def test_patience_keeps_the_nearest_point_of_all(norm):
    (x, y), results = data(dtype=torch.float64), []
    for patience in (1, 3):
        attack = Nearest(norm=norm, eps={"Linf": 0.05, "L2": 0.3, "L1": 1.0, "L0": 3}[norm])
        results.append(attack(Network(), x, y, execution=Execution(patience=patience)))
    assert results[0].success.any()
    assert torch.equal(results[0].success, results[1].success)
    assert (results[1].norm <= results[0].norm + 1e-12)[results[0].success].all()


# --- precision ---


class Doubtful(Network):
    """Says another class whenever it runs in reduced precision."""

    def forward(self, x):
        logits = super().forward(x).float()
        return logits.roll(1, dims=1) if torch.is_autocast_enabled("cpu") else logits


@pytest.mark.parametrize("budget", [None, 9])
def test_what_only_the_reduced_model_gets_wrong_never_counts(budget):
    x, y = data()
    attack = pgd(eps=1e-6)
    model = Doubtful()
    result = attack(model, x, y, execution=Execution(precision="bf16", budget=budget))
    assert not result.success.any()
    assert torch.isfinite(result.norm).all()
    most = 1 + 2 * 2 * (6 + 1)  # each pass of the search is confirmed by one of the model itself
    assert (result.forwards == (most if budget is None else budget)).all()
    assert sum(model.sizes) == result.forwards.sum()


def test_a_search_in_reduced_precision_is_confirmed_in_full():
    x, y = data()
    model = Network()
    result = pgd(eps=0.1)(model, x, y, execution=Execution(precision="bf16"))
    reduced = {autocast for _, autocast, _ in model.asked}
    assert reduced == {True, False}
    assert not model.asked[0][1]
    assert result.success.sum() > 10
    assert torch.equal(result.verified, result.success)
    assert torch.equal(Network()(result.x_adv).argmax(1) != y, result.success)
    assert result.x_adv.dtype == torch.float32


def test_confirmations_keep_to_the_batch_size():
    x, y = data()
    model = Doubtful()
    pgd(eps=1e-6)(model, x, y, execution=Execution(precision="bf16", batch_size=3))
    assert max(model.sizes) <= 3


def test_an_autocast_around_the_call_changes_nothing():
    x, y = data()
    expected = pgd()(Network(), x, y)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model = Network()
        result = pgd()(model, x, y)
        assert torch.is_autocast_enabled("cpu")
    assert not any(autocast for _, autocast, _ in model.asked)
    assert torch.equal(result.x_adv, expected.x_adv)


# --- compilation ---


@pytest.fixture
def compiled(monkeypatch):
    """torch.compile as far as the C++ compiler, which takes most of the time; notes the sizes."""
    sizes, real = [], torch.compile

    def traced(model, mode, dynamic):
        assert mode == "default"
        made = real(model, backend="aot_eager", dynamic=dynamic)

        def noted(x):
            sizes.append(len(x))
            return made(x)

        return noted

    torch._dynamo.reset()
    monkeypatch.setattr(torch, "compile", traced)
    yield sizes
    torch._dynamo.reset()


def plain():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(50, 16), nn.Tanh(), nn.Linear(16, CLASSES)).eval()


@pytest.mark.parametrize("size", [None, 5])
def test_compiled_models_are_asked_at_few_sizes(compiled, size):
    torch._dynamo.utils.counters.clear()
    model = plain()
    x, _ = data(40)
    with torch.no_grad():
        y = model(x).argmax(1)
    attack = pgd(eps=0.25, steps=20)
    result = attack(model, x, y, execution=Execution(compile=True, batch_size=size))
    close(result, attack(model, x, y, execution=Execution(batch_size=size)), confirmed=True)
    assert 0 < (~result.success).sum() < 20
    assert set(compiled) <= ({64, 32, 16} if size is None else {8, 4, 2})
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 6
    assert model.training is False
    assert not any(m._forward_hooks for m in model.modules())


def test_what_fills_a_batch_up_is_thrown_away(compiled):
    asked = Execution(compile=True).prepare(plain(), torch.zeros(11, 2, 5, 5)).ask
    x, _ = data(11)
    for n in (11, 9, 4, 3, 1):
        torch.testing.assert_close(asked(x[:n]), plain()(x[:n]))
    assert compiled == [16, 16, 4, 4, 4]
    assert asked(x[:0]).shape == (0, CLASSES)
    x.requires_grad_()
    [grad] = torch.autograd.grad(asked(x).sum(), x)
    torch.testing.assert_close(grad, torch.autograd.grad(plain()(x).sum(), x)[0])


def test_channels_last_survives_compilation(compiled):
    seen = []

    class Watched(nn.Module):
        @torch.compiler.disable
        def forward(self, x):
            seen.append(x.is_contiguous(memory_format=torch.channels_last))
            return x.flatten(1)[:, :CLASSES]

    asked = Execution(compile=True, channels_last=True).prepare(Watched().eval(), torch.zeros(5, 2, 5, 5)).ask
    for n in (5, 4):
        asked(data(n)[0])
    assert seen == [True, True]


def test_sizes_are_filled_up_to_powers_of_two():
    assert filled(torch.tensor([[1.0], [2.0]]), 4).tolist() == [[1], [2], [2], [2]]
    assert [bucket(n) for n in (0, 1, 2, 3, 4, 5, 511, 512, 513)] == [1, 1, 2, 4, 4, 8, 512, 512, 1024]


@pytest.mark.skipif(shutil.which("g++") is None and shutil.which("clang++") is None, reason="needs a C++ compiler")
def test_the_real_compiler_gives_the_same_answers():
    model = nn.Linear(4, 3).eval()
    x = torch.rand(3, 4, requires_grad=True)
    asked = Execution(compile=True).prepare(model, x).ask
    for weight in (torch.eye(3), torch.ones(3, 3)):
        [grad] = torch.autograd.grad((asked(x) @ weight).sum(), x)
        torch.testing.assert_close(grad, torch.autograd.grad((model(x) @ weight).sum(), x)[0])


# --- values ---


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"precision": "half"}, "precision must be one of 'full', 'bf16', 'fp16', got 'half'"),
        ({"batch_size": 0}, "batch_size must be a whole number >= 1, got 0"),
        ({"budget": 2.5}, "budget must be a whole number >= 1, got 2.5"),
        ({"patience": True}, "patience must be a whole number >= 1, got True"),
        ({"checkpoint_every_s": -1}, "checkpoint_every_s must be >= 0, got -1"),
        ({"checkpoint_every_s": float("nan")}, "checkpoint_every_s must be >= 0, got nan"),
    ],
)
def test_values_that_cannot_be_meant(params, message):
    with pytest.raises(ValueError, match=message):
        Execution(**params)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(
    "params",
    [{}, {"channels_last": True}, {"compile": True}, {"precision": "bf16"}, {"batch_size": 3}, {"patience": 1}],
)
def test_on_cuda_every_way_to_run_finds_what_the_cpu_finds(params):
    x, y = data()
    expected = pgd()(Network(), x, y)
    result = pgd()(Network().cuda(), x.cuda(), y.cuda(), execution=Execution(**params))
    assert torch.equal(result.verified, result.success)
    if "precision" not in params:
        assert torch.equal(result.success.cpu(), expected.success)
