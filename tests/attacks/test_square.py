"""Square attack: its schedule, where its windows lie and what they change, its budgets, and what it needs."""

import itertools
import math

import pytest
import torch
from torch import nn

import robustaug
from robustaug.attacks.ask import Ask
from robustaug.attacks.execution import Execution
from robustaug.attacks.losses import margin
from robustaug.attacks.square import _placed, _plane, _window, share_at
from robustaug.attacks.state import AttackWarning, State
from robustaug.rng import Keys

ORDER = {"Linf": torch.inf, "L2": 2, "L1": 1}
EPS = {"Linf": 0.1, "L2": 0.5, "L1": 1.5}
SHAPES = [(3, 8, 8), (1, 5, 12), (2, 12, 5), (1, 1, 1), (3, 1, 1), (2, 9), (7,), (1,), (2, 2, 4, 6)]


class Network(nn.Module):
    """A curved network without gradients that keeps the points it is shown."""

    def __init__(self, shape=(3, 8, 8), classes=4, seed=0):
        super().__init__()
        draw = torch.Generator().manual_seed(seed)
        self.first = torch.randn(math.prod(shape), 16, dtype=torch.float64, generator=draw)
        self.last = torch.randn(16, classes, dtype=torch.float64, generator=draw)
        self.training, self.shown = False, []

    def forward(self, x):
        self.shown.append(x.detach().clone())
        return (torch.tanh((x.detach().flatten(1).double() - 0.5) @ self.first) @ self.last).to(x.dtype)


def data(model, n=6, shape=(3, 8, 8), seed=1):
    x = torch.rand(n, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return x, model(x).argmax(1)


def made(norm="Linf", **params):
    return robustaug.create("attack.square", **{"norm": norm, "eps": EPS[norm]} | params)


def states(attack, model, x, y, mask=None, keys=None):
    """Where the attack is after its start and after each step, when nobody ends it."""
    ball = attack.threat.around(x, torch.full((len(x),), attack.eps, dtype=torch.float64), mask)
    ask = Ask(model, Execution())
    state = attack.init(State(ball, y, model(x), keys or Keys.of(0, len(x)), x), ask)
    yield state
    while state.steps < attack.steps:
        state = attack.step(state, ask)
        yield state


def length(norm, delta):
    return torch.linalg.vector_norm(delta.flatten(1), ORDER[norm], 1)


# --- schedule and windows ---


def test_the_share_follows_the_published_schedule():
    """Andriushchenko et al. 2020, section 5: halved after these of 10,000 queries."""
    halvings = [10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000]
    assert share_at(0.8, 0, 10_000) == 0.8
    for number, limit in enumerate(halvings):
        assert share_at(0.8, limit, 10_000) == 0.8 / 2**number
        assert share_at(0.8, limit + 1, 10_000) == 0.8 / 2 ** (number + 1)
    assert share_at(0.8, 9_999, 10_000) == 0.8 / 512


@pytest.mark.parametrize("steps", [100, 150, 5_000, 20_000])
def test_with_other_numbers_of_queries_the_schedule_is_stretched(steps):
    shares = [share_at(0.8, step, steps) for step in range(steps)]
    assert shares == [
        share_at(0.8, step * 10_000 // math.gcd(steps, 10_000), steps * 10_000 // math.gcd(steps, 10_000))
        for step in range(steps)
    ]
    assert len(set(shares)) >= 8
    assert shares == sorted(shares, reverse=True)
    assert shares[steps // 2] == 0.8 / 2**7


def test_the_schedule_may_be_that_of_more_queries():
    """Windows of the first queries are then as large as there."""
    model = Network((1, 20, 20))
    x, y = data(model, 2, (1, 20, 20))
    for schedule, side in ((None, [18, 2]), (10_000, [18, 13])):
        model.shown.clear()
        runs = [*states(made(steps=40, schedule=schedule), model, x, y)]
        areas = []
        for before, proposal in zip(runs, model.shown[2:], strict=False):
            areas.append(int(((proposal - before.x)[0, 0] != 0).any(1).sum()))
        assert max(areas[:1]) <= side[0]
        assert max(areas[20:]) <= side[1]
        assert max(areas[20:]) > side[1] / 2


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("least", [1, 3])
@pytest.mark.parametrize("share", [0.8, 0.1, 0.8 / 512])
def test_windows_lie_inside_and_cover_about_their_share(shape, share, least):
    x = torch.zeros(2000, *shape)
    _, height, width = _plane(x)
    tall, wide = _window(x, share, least)
    assert min(least, height) <= tall <= height
    assert min(least, width) <= wide <= width
    if share * height * width >= 9 and tall * wide >= 9:
        assert 0.6 * share <= tall * wide / (height * width) <= 1.6 * share
    at = torch.rand(2000, 2, generator=torch.Generator().manual_seed(0))
    at[:2] = torch.tensor([[0.0, 0.0], [1 - 2**-24, 1 - 2**-24]])
    inside = _placed(x, at, tall, wide)
    assert inside.shape == (2000, 1, height, width)
    assert (inside.sum((1, 2, 3)) == tall * wide).all()
    assert (inside.any(3).sum((1, 2)) == tall).all()
    assert inside[0, 0, 0, 0]
    assert inside[1, 0, -1, -1]
    assert inside.any(0).all()  # every value has its turn


# --- what it changes ---


@pytest.mark.parametrize("norm", ORDER)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_point_is_inside_ball_and_box_and_the_loss_never_falls(norm, shape):
    model = Network(shape)
    x, y = data(model, 5, shape)
    mask = torch.rand(x.shape, generator=torch.Generator().manual_seed(2)) < 0.8
    model.shown.clear()
    losses = [margin(model(state.x), y) for state in states(made(norm, steps=30), model, x, y, mask)]
    assert (torch.stack(losses).diff(dim=0) >= 0).all()
    for point in model.shown[1:]:
        assert ((point >= 0) & (point <= 1)).all()
        assert torch.equal(point[~mask], x[~mask])
        assert (length(norm, point - x) <= EPS[norm] * (1 + 1e-9)).all()


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 5, 12), (2, 9), (7,)], ids=str)
def test_in_linf_a_query_sets_one_sign_a_channel_in_one_window(shape):
    model = Network(shape)
    x, y = data(model, 4, shape)
    x = 0.2 + 0.6 * x  # the box is out of the way
    model.shown.clear()
    run = [*states(made(steps=60), model, x, y)]
    signs = (run[0].x - x).reshape(4, *_plane(x))
    torch.testing.assert_close(signs.abs(), torch.full_like(signs, 0.1))
    assert (signs.sign() == signs[:, :, :1].sign()).all()  # stripes along the columns
    assert len(signs.sign().unique()) == 2
    kept = 0
    for (before, after), point in zip(itertools.pairwise(run), model.shown[2:], strict=True):
        for row in range(4):
            old, new = ((p[row] - x[row]).reshape(_plane(x)) for p in (before.x, point))
            changed = (old - new).abs().amax(0) > 1e-9
            rows, columns = changed.any(1).nonzero(), changed.any(0).nonzero()
            if len(rows):
                window = new[:, int(rows.min()) : int(rows.max()) + 1, int(columns.min()) : int(columns.max()) + 1]
                moved = (old - new).abs().flatten(1).amax(1) > 1e-9
                assert (window[moved].sign() == window[moved][:, :1, :1].sign()).all()
            assert torch.equal(after.x[row], before.x[row]) or torch.equal(after.x[row], point[row])
            kept += bool((after.x[row] != before.x[row]).any())
    assert kept


@pytest.mark.parametrize("norm", ["L2", "L1"])
@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 5, 12), (2, 9), (7,)], ids=str)
def test_in_l2_and_l1_every_query_uses_the_whole_budget(norm, shape):
    model = Network(shape)
    x, y = data(model, 4, shape)
    attack = made(norm, steps=40, box=(-torch.inf, torch.inf))
    model.shown.clear()
    run = [*states(attack, model, x, y)]
    for point in model.shown[1:]:
        eps = run[0].eps.expand(len(point))
        torch.testing.assert_close(length(norm, point - x), eps, rtol=1e-9, atol=0)
    moved = torch.stack([a.x != b.x for a, b in itertools.pairwise(run)])
    assert moved.any()


@pytest.mark.parametrize("norm", ["L2", "L1"])
def test_in_l2_and_l1_a_query_moves_the_mass_of_one_window_to_another(norm):
    """What lies outside both windows keeps its share of the budget."""
    model = Network((1, 20, 20))
    x, y = data(model, 3, (1, 20, 20))
    attack = made(norm, steps=30, schedule=3, box=(-torch.inf, torch.inf))  # small windows soon
    model.shown.clear()
    run = [*states(attack, model, x, y)]
    for before, point in zip(run[10:], model.shown[12:], strict=False):
        changed = ((before.x - point).abs() > 1e-9).flatten(1).double().mean(1)
        assert (changed <= 2 * 9 / 400).all()


# --- what it needs ---


def test_a_query_costs_one_forward_and_no_gradient():
    model = Network()
    x, y = data(model)
    result = made(eps=1e-6, steps=12)(model, x, y)  # its logits carry no gradient at all
    assert not result.success.any()
    assert (result.forwards == 1 + 1 + 12 + 1).all()  # clean, stripes, queries, and the best point once more
    assert not result.backwards.any()
    assert not result.silent.any()


@pytest.mark.parametrize("norm", ORDER)
def test_targets_are_reached(norm):
    model = Network()
    x, y = data(model, 16)
    target = (y + 1) % 4
    result = made(norm, eps=2 * EPS[norm], steps=300, targeted=True)(model, x, y, target=target)
    assert result.success.sum() >= 4
    assert torch.equal(model(result.x_adv).argmax(1) == target, result.success)
    assert result.verified[result.success].all()


def test_it_sees_through_masked_gradients():
    """Rounding has no slope, so that PGD stands still; Square asks for logits alone."""

    class Rounded(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = robustaug.create("model.small_cnn", width=4, classes=4).eval()

        def forward(self, x):
            return self.body((x * 16).round() / 16 + 0 * x)

    model = Rounded().eval()
    x = torch.rand(16, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    model.body.module[-1].bias.data -= model(x).mean(0)
    y = model(x).argmax(1)
    with pytest.warns(AttackWarning, match="gradient of exactly zero"):
        pgd = robustaug.create("attack.pgd", eps=0.1, random_start=False, steps=20)(model, x, y)
    assert not pgd.success.any()
    assert robustaug.create("attack.square", eps=0.1, steps=100)(model, x, y).success.sum() >= 8


@pytest.mark.parametrize("norm", ORDER)
def test_more_queries_and_restarts_break_more(norm):
    model = Network(classes=6, seed=3)
    x, y = data(model, 32)
    few, many = (made(norm, eps=EPS[norm] / 4, steps=steps)(model, x, y).success.sum() for steps in (10, 300))
    assert many > few
    one, four = (made(norm, eps=EPS[norm] / 4, steps=20, restarts=k)(model, x, y).success for k in (1, 4))
    assert not (one & ~four).any()
    assert four.sum() > one.sum()


@pytest.mark.parametrize("norm", ORDER)
def test_results_do_not_depend_on_the_batch(norm):
    model = Network()
    x, y = data(model, 9)
    attack, keys = made(norm, eps=EPS[norm] / 2, steps=60), Keys.of(3, 9)
    whole = attack(model, x, y, keys)
    assert whole.success.any()
    for row in range(9):
        at = slice(row, row + 1)
        alone = attack(model, x[at], y[at], keys[at])
        assert torch.equal(alone.success, whole.success[at])
        assert torch.equal(alone.forwards, whole.forwards[at])
        torch.testing.assert_close(alone.x_adv, whole.x_adv[at], rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"steps": 0}, "attack.square: steps must be a whole number >= 1, got 0"),
        ({"share": 1.5}, r"attack.square: share must be in \[0, 1\], got 1.5"),
        ({"schedule": 0}, "attack.square: schedule must be a whole number >= 1, got 0"),
    ],
)
def test_values_that_make_no_sense_are_refused(params, match):
    with pytest.raises(ValueError, match=match):
        robustaug.create("attack.square", **params)
