"""Auto-PGD against the published algorithms, written out plainly for one sample at a time."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import robustaug
from robustaug.attacks.apgd import likeliest, windows
from robustaug.attacks.driver import perturb
from robustaug.attacks.losses import dlr, dlr_to, margin_to
from robustaug.attacks.state import State
from robustaug.attacks.threat import NORMS, Threat
from robustaug.rng import Keys

ORDER = {"Linf": torch.inf, "L2": 2, "L1": 1}
EPS = {"Linf": 0.08, "L2": 0.3, "L1": 0.8}


class Network(nn.Module):
    """A curved network in float64 that keeps the points it is shown."""

    def __init__(self, classes=6, seed=0, values=12):
        super().__init__()
        draw = torch.Generator().manual_seed(seed)
        self.first = nn.Parameter(3 * torch.randn(values, 24, dtype=torch.float64, generator=draw))
        self.last = nn.Parameter(torch.randn(24, classes, dtype=torch.float64, generator=draw))
        self.training, self.shown = False, []

    def forward(self, x):
        self.shown.append(x.detach().clone())
        return torch.tanh((x.flatten(1) - 0.5) @ self.first) @ self.last


def data(model, n=8, shape=(3, 2, 2), seed=1):
    x = torch.rand(n, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    x[:, 0] = x[:, 0].round()  # some values at the sides of the box
    with torch.no_grad():
        return x, model(x).argmax(1)


def made(name="attack.apgd", norm="Linf", **params):
    return robustaug.create(name, **{"norm": norm, "eps": EPS[norm]} | params)


def length(norm, delta):
    return torch.linalg.vector_norm(delta.flatten(1), ORDER[norm], 1)


def path(attack, model, x, y, keys=None):
    """The points that a run of the attack shows the model, and the one it ends at: (steps + 1, B, ...)."""
    model.shown.clear()
    last = perturb(attack, model, x, y, Keys.of(0, len(x)) if keys is None else keys)
    return torch.stack([*model.shown[-attack.steps :], last])


# --- the schedule ---


def test_checkpoints_of_a_hundred_steps_are_the_published_ones():
    assert [*windows(100)] == [22, 41, 57, 70, 80, 87, 93, 99]
    assert [*windows(100).values()] == [22, 19, 16, 13, 10, 7, 6, 6]


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 10, 17, 20, 30, 33, 50, 99, 101, 250, 1000])
def test_windows_shrink_from_22_to_6_per_cent_by_3(steps):
    """Section 3.1: p_(j+1) = p_j + max(p_j - p_(j-1) - .03, .06), from p_0 = 0 and p_1 = .22, in whole steps."""
    expected, at, width = {}, 0, max(math.floor(0.22 * steps + 1e-9), 1)
    while at + width <= steps:
        at += width
        expected[at] = width
        width = max(width - max(math.floor(0.03 * steps + 1e-9), 1), max(math.floor(0.06 * steps + 1e-9), 1))
    assert windows(steps) == expected


# --- Linf and L2 ---


def project(norm, point, clean, eps):
    if norm == "Linf":
        return torch.minimum(torch.maximum(point, clean - eps), clean + eps).clamp(0, 1)
    delta = point - clean
    return (clean + delta * min(1.0, eps / max(float(delta.norm()), 1e-300))).clamp(0, 1)


def published(norm, first, clean, eps, steps, slope):
    """Croce & Hein 2020, algorithm 1, on one sample. `slope(point)` gives the loss and its gradient."""

    def climbed(point, grad, size):
        return project(norm, point + size * (grad.sign() if norm == "Linf" else grad / grad.norm()), clean, eps)

    checkpoints = [0, *windows(steps)]
    size, point = 2 * eps, first
    loss, grad = slope(point)
    losses, sizes, bests = [loss], [size], [loss]
    best, best_loss, best_grad = point, loss, grad
    points, before, last_check = [point], point, 0
    for k in range(1, steps + 1):
        z = climbed(point, grad, size)
        new = z if k == 1 else project(norm, point + 0.75 * (z - point) + 0.25 * (point - before), clean, eps)
        before, point = point, new
        points.append(point)
        loss, grad = slope(point)
        losses.append(loss)
        if loss > best_loss:
            best, best_loss, best_grad = point, loss, grad
        if k in checkpoints:
            window = range(last_check, k)
            few = sum(losses[i + 1] > losses[i] for i in window) <= 0.75 * len(window)
            # the first checkpoint has nothing to compare with
            stuck = last_check > 0 and sizes[-2] == size and bests[-1] == best_loss
            sizes.append(size)
            if few or stuck:
                size = size / 2
                point, grad = best, best_grad
            sizes[-1] = size
            bests.append(best_loss)
            last_check = k
    return torch.stack(points)


def sloped(model, y, loss):
    def slope(point):
        leaf = point[None].detach().requires_grad_()
        value = loss(model(leaf), y[None])
        return float(value.detach()), torch.autograd.grad(value.sum(), leaf)[0][0]

    return slope


@pytest.mark.parametrize("norm", ["Linf", "L2"])
@pytest.mark.parametrize(
    ("name", "loss"),
    [
        ("ce", lambda z, y: F.cross_entropy(z, y, reduction="none")),
        ("dlr", dlr),
        ("margin", lambda z, y: z.scatter(1, y[:, None], -torch.inf).amax(1) - z.gather(1, y[:, None])[:, 0]),
    ],
)
def test_it_takes_the_published_steps(norm, name, loss):
    model = Network()
    x, y = data(model)
    # the ratio is 1 whatever the logits once the label is third: no nearer than rounding, so not so far
    eps = EPS[norm] / (4 if name == "dlr" else 1)
    ours = path(made(norm=norm, eps=eps, steps=30, loss=name), model, x, y)
    halved = 0
    for row in range(len(x)):
        theirs = published(norm, ours[0, row], x[row], eps, 30, sloped(model, y[row], loss))
        torch.testing.assert_close(ours[:, row], theirs, rtol=0, atol=1e-9)
        halved += len(theirs.flatten(1).diff(dim=0).norm(dim=1).unique()) > 5
    assert halved  # something happened


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_it_starts_on_the_edge_of_the_ball(norm):
    model = Network()
    x, y = torch.full((20, 12), 0.5, dtype=torch.float64), torch.zeros(20, dtype=torch.int64)
    start = path(made(norm=norm, steps=1), model, x, y)[0]
    torch.testing.assert_close(length(norm, start - x), torch.full((20,), EPS[norm], dtype=torch.float64))
    assert len(start.unique(dim=0)) == 20
    if norm == "Linf":  # one value is at the edge; the others are anywhere
        assert ((start - x).abs() < 0.5 * EPS[norm]).double().mean() > 0.25


@pytest.mark.parametrize("norm", ORDER)
def test_masked_values_never_move_and_the_rest_keeps_its_budget(norm):
    model = Network()
    x, y = data(model, 16)
    mask = torch.rand(16, 3, 2, 2, generator=torch.Generator().manual_seed(3)) < 0.5
    model.shown.clear()
    result = made(norm=norm, steps=12)(model, x, y, mask=mask)
    shown = [p for p in model.shown[1:] if len(p) == 16]  # before the first sample falls
    assert len(shown) >= 1
    for point in shown:
        assert torch.equal(point[~mask], x[~mask])
    assert torch.equal(result.x_adv[~mask], x[~mask])
    assert result.success.any()
    assert result.verified[result.success].all()


# --- L1 ---


def project_l1(point, clean, eps):
    """The nearest point of ball and box: all values shrink by one amount, which bisection finds."""
    delta = point - clean
    room = torch.where(delta > 0, 1 - clean, clean)

    def shrunk(by):
        return torch.minimum((delta.abs() - by).clamp_min(0), room)

    low, high = 0.0, float(delta.abs().max())
    if float(shrunk(0.0).sum()) > eps:
        for _ in range(200):
            middle = (low + high) / 2
            low, high = (middle, high) if float(shrunk(middle).sum()) > eps else (low, middle)
    else:
        high = 0.0
    return clean + delta.sign() * shrunk(high)


def published_l1(first, clean, eps, steps, slope):
    """Croce & Hein 2021, algorithm 1, in balls of 3, 2 and 1 eps for 30, 30 and 40 % of the steps."""
    values, points, point = clean.numel(), [], first
    share, before, best, best_grad = 0.2, values, first, None
    for phase, (radius, count) in enumerate(zip((3, 2, 1), (0.3, 0.3, 0.4), strict=True)):
        radius, count, every = radius * eps, round(count * steps), max(int(0.04 * steps), 1)
        if phase:
            point = project_l1(best, clean, radius)
            before = int((point != clean).sum())
            share = before / values / 1.5
        size, best_loss = radius, -math.inf
        for k in range(count):
            points.append(point)
            loss, grad = slope(point)
            if loss > best_loss:
                best, best_loss, best_grad = point, loss, grad
            if k and k % every == 0:
                now = int((best != clean).sum())
                if now < 0.95 * before:
                    size, point, grad = radius, best, best_grad
                else:
                    size = max(size / 1.5, radius / 10)
                share, before = now / values / 1.5, now
            order = grad.abs().flatten().sort().values
            least = order[min(max(int((1 - share) * values), 0), values - 1)]
            sign = torch.where(grad.abs() >= least, grad.sign(), 0.0)
            point = project_l1(point + size * sign / sign.abs().sum(), clean, radius)
    return torch.stack([*points, point])


@pytest.mark.parametrize("steps", [30, 100])
def test_in_l1_it_takes_the_published_steps(steps):
    model = Network(values=60)
    x, y = data(model, 4, (3, 4, 5))
    eps = 0.8
    ours = path(made(norm="L1", eps=eps, steps=steps), model, x, y)
    for row in range(len(x)):
        ce = sloped(model, y[row], lambda z, y: F.cross_entropy(z, y, reduction="none"))
        theirs = published_l1(ours[0, row], x[row], eps, steps, ce)
        torch.testing.assert_close(ours[:, row], theirs, rtol=0, atol=1e-9)


def test_in_l1_the_ball_shrinks_to_eps_and_points_stay_sparse():
    model = Network(values=60)
    x, y = data(model, 16, (3, 4, 5))
    points = path(made(norm="L1", eps=0.8, steps=100), model, x, y)
    far = torch.stack([length("L1", p - x) for p in points])
    for radius, phase in zip((3, 2, 1), (far[:30], far[30:60], far[60:]), strict=True):
        assert (phase <= 0.8 * radius * (1 + 1e-9)).all()
    assert (far[:30] > 0.8 * 2).any()
    assert (far[30:60] > 0.8).any()
    changed = (points != x).flatten(2).sum(2).double()
    assert changed[-1].mean() < changed[0].mean()
    assert changed[-1].mean() < 20  # of 60


def test_in_l1_only_points_within_eps_count():
    """Larger balls are passed through on the way: what breaks there is no success."""
    model = Network(values=60)
    x, y = data(model, 32, (3, 4, 5))
    wide = made(norm="L1", eps=1.6, steps=40)(model, x, y)
    result = made(norm="L1", eps=0.4, steps=40)(model, x, y)
    assert result.success.any()
    assert wide.success.sum() > result.success.sum()
    assert (length("L1", result.x_adv - x) <= 0.4 * (1 + 1e-9)).all()
    assert result.verified[result.success].all()


# --- towards classes ---


def start_of(logits, label, turn=0):
    x = torch.rand(len(logits), 5, dtype=torch.float64)
    ball = Threat(NORMS["Linf"]).around(x, torch.full((len(x),), 0.1, dtype=torch.float64))
    return State(ball, label, logits, Keys.of(0, len(x)), x, turn)


def test_targets_are_the_likeliest_wrong_classes_on_the_clean_sample_in_turn():
    logits = torch.tensor([[5.0, 1.0, 3.0, 2.0], [0.0, 9.0, 8.0, 7.0], [1.0, 1.0, 1.0, 1.0]])
    label = torch.tensor([0, 2, 1])
    turns = [likeliest(start_of(logits, label, turn), 9).tolist() for turn in range(4)]
    assert turns == [[2, 1, 0], [3, 3, 2], [1, 0, 3], [2, 1, 0]]  # the last one is a restart
    assert likeliest(start_of(logits, label, 0), 1, skip=1).tolist() == [3, 3, 2]
    assert [likeliest(start_of(logits, label, turn), 2)[0] for turn in range(3)] == [2, 3, 2]


@pytest.mark.parametrize(
    ("classes", "params", "rounds"),
    [
        (10, {}, 9),
        (100, {}, 9),
        (4, {}, 3),
        (2, {}, 1),
        (10, {"targets": 5}, 5),
        (10, {"targets": 9, "restarts": 2}, 18),
        (10, {"skip": 8}, 1),
        (10, {"skip": 9}, 0),
        (4, {"skip": 5}, 0),
    ],
)
def test_there_is_a_round_for_each_target_there_is(classes, params, rounds):
    assert made("attack.apgd_t", **params).rounds(classes) == rounds


@pytest.mark.parametrize(("classes", "loss"), [(6, dlr_to), (4, dlr_to), (3, margin_to), (2, margin_to)])
def test_towards_a_class_it_climbs_the_targeted_ratio_or_below_four_classes_the_margin(classes, loss):
    model = Network(classes)
    x, y = data(model)
    attack = made("attack.apgd_t", steps=30)
    ours = path(attack, model, x, y)
    with torch.no_grad():
        second = model(x).argsort(dim=1, descending=True)[:, 1]
    for row in range(len(x)):
        aim = second[row][None]
        theirs = published(
            "Linf", ours[0, row], x[row], EPS["Linf"], 30, sloped(model, y[row], lambda z, y, aim=aim: loss(z, y, aim))
        )
        torch.testing.assert_close(ours[:, row], theirs, rtol=0, atol=1e-9)


def test_two_classes_are_one_round_and_any_wrong_class_counts():
    model = Network(2)
    x, y = data(model, 24)
    result = made("attack.apgd_t", steps=10)(model, x, y)
    assert result.success.any()
    standing = ~result.success
    assert standing.any()
    assert (result.backwards[standing] == 10).all()
    many = Network(6)
    x, y = data(many, 32)
    result = made("attack.apgd_t", steps=10, targets=1)(many, x, y)
    with torch.no_grad():
        z = many(x)
        fell = many(result.x_adv).argmax(1) != y
    assert torch.equal(fell, result.success)
    assert (many(result.x_adv).argmax(1) != z.argsort(dim=1, descending=True)[:, 1])[fell].any()


def test_more_targets_than_before_find_no_fewer():
    model = Network(8)
    x, y = data(model, 64)
    one, all_ = (made("attack.apgd_t", eps=0.03, steps=8, targets=k)(model, x, y).success for k in (1, 9))
    assert not (one & ~all_).any()
    assert all_.sum() > one.sum()


# --- passes, restarts, strength ---


@pytest.mark.parametrize("name", ["attack.apgd", "attack.apgd_t"])
@pytest.mark.parametrize("norm", ORDER)
def test_a_step_costs_one_forward_and_one_backward_and_eot_as_many_as_it_says(name, norm):
    model = Network()
    x, y = data(model)
    tiny = {"norm": norm, "eps": 1e-4, "steps": 6} | ({"targets": 1} if name == "attack.apgd_t" else {})
    result = made(name, **tiny)(model, x, y)
    assert not result.success.any()
    assert (result.backwards == 6).all()
    assert (result.forwards == 1 + 6 + 1).all()  # the clean one, and the last point's verdict
    result = made(name, **tiny, eot=3)(model, x, y)
    assert (result.backwards == 18).all()
    assert (result.forwards == 1 + 18 + 1).all()


def test_the_mean_over_passes_finds_its_way_where_single_gradients_are_noise():
    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight, self.calls = torch.linspace(-1, 1, 20, dtype=torch.float64), 0

        def forward(self, x):
            self.calls += 1
            draw = torch.Generator().manual_seed(self.calls)
            noise = 6 * torch.randn(len(x), 20, generator=draw, dtype=torch.float64)
            z = (x * (self.weight + noise * (x - x.detach() + 1))).sum(1) - (x.detach() * noise).sum(1)
            return torch.stack([-z, z], 1)

    x = torch.full((16, 20), 0.5, dtype=torch.float64)
    y = torch.zeros(16, dtype=torch.int64)
    weight = torch.linspace(-1, 1, 20, dtype=torch.float64)
    few, many = (
        ((perturb(made(eps=0.1, steps=10, eot=k), Noisy().eval(), x, y, Keys.of(0, 16)) - x) * weight).sum(1).mean()
        for k in (1, 60)
    )
    assert many > few + 0.1
    assert many > 0.6 * 0.1 * weight.abs().sum()


def test_restarts_begin_elsewhere_and_never_hurt():
    model = Network(8, seed=2)
    x, y = data(model, 64)
    one, four = (made(steps=2, eps=0.04, restarts=k)(model, x, y).success for k in (1, 4))
    assert not (one & ~four).any()
    assert four.sum() > one.sum()
    model.shown.clear()
    made(steps=3, eps=1e-6, restarts=2)(model, x, y)
    firsts = [model.shown[1], model.shown[5]]
    assert not torch.equal(*firsts)


@pytest.mark.parametrize("norm", ORDER)
def test_at_equal_gradients_it_climbs_higher_than_pgd_on_average(norm):
    found = {"attack.apgd": 0.0, "attack.pgd": 0.0}
    eps = {"Linf": 0.012, "L2": 0.07, "L1": 0.3}[norm]
    for seed in range(6):
        model = Network(6, seed, values=192)
        x, y = data(model, 48, (3, 8, 8), seed=seed + 20)
        for name in found:
            result = made(name, norm, eps=eps, steps=40, loss="ce")(model, x, y)
            found[name] += float(result.success.double().mean()) / 6
    assert 0.2 < found["attack.apgd"] < 0.9
    assert found["attack.apgd"] >= found["attack.pgd"]


@pytest.mark.parametrize("norm", ORDER)
def test_results_do_not_depend_on_the_batch(norm):
    model = Network()
    x, y = data(model, 12)
    attack, keys = made(norm=norm, eps=EPS[norm] / 2, steps=12), Keys.of(3, 12)
    whole = attack(model, x, y, keys)
    assert 0 < whole.success.sum() < 12
    for row in range(12):
        at = slice(row, row + 1)
        alone = attack(model, x[at], y[at], keys[at])
        assert torch.equal(alone.success, whole.success[at])
        assert torch.equal(alone.forwards, whole.forwards[at])
        torch.testing.assert_close(alone.x_adv, whole.x_adv[at], rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ["attack.apgd_ce", "attack.apgd_dlr"])
def test_names_of_the_ensemble_make_the_same_attack(name):
    assert robustaug.create(name).spec() == robustaug.create("attack.apgd", loss=name[-3:].strip("_")).spec()


@pytest.mark.parametrize(
    ("name", "params", "match"),
    [
        ("attack.apgd", {"steps": 0}, "attack.apgd: steps must be a whole number >= 1, got 0"),
        ("attack.apgd", {"eot": 0}, "attack.apgd: eot must be a whole number >= 1, got 0"),
        ("attack.apgd", {"loss": "hinge"}, "attack.apgd: loss must be one of 'ce', 'margin', 'dlr', got 'hinge'"),
        ("attack.apgd", {"loss": "dlr", "targeted": True}, "only leads away from a class"),
        ("attack.apgd_t", {"targets": 0}, "attack.apgd_t: targets must be a whole number >= 1, got 0"),
        ("attack.apgd_t", {"skip": -1}, "attack.apgd_t: skip must be a whole number >= 0, got -1"),
        ("attack.apgd_t", {"targeted": True}, "attack.apgd_t: cannot lead towards a class"),
    ],
)
def test_values_that_make_no_sense_are_refused(name, params, match):
    with pytest.raises(ValueError, match=match):
        robustaug.create(name, **params)
