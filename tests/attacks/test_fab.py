"""FAB against the least change of linear models and against the published step, written out for one sample."""

import math

import pytest
import torch
from torch import nn

import robustaug
from robustaug.attacks.driver import last_state
from robustaug.rng import Keys
from tests.attacks.test_hyperplane import least_length
from tests.conformance.test_attack_conformance import FREE, linear, network
from tests.conformance.test_minimal_norm_conformance import least, slopes_and_gaps

NAMES = ["attack.fab", "attack.fab_t"]
DUAL = {"Linf": 1, "L2": 2, "L1": math.inf}
ORDER = {"Linf": math.inf, "L2": 2, "L1": 1}


def points(model, n=6, seed=1):
    x = torch.rand(n, 3, 2, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x[:, 0, 0] = x[:, 0, 0].round()  # some values at the sides of the box
    with torch.no_grad():
        return x, model(x).argmax(1)


# --- the least change of a linear model ---


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("norm", DUAL)
@pytest.mark.parametrize("classes", [2, 6])
def test_a_linear_model_breaks_within_one_per_cent_of_the_least_change(name, norm, classes):
    model, x, y = linear((2, 9), classes)
    result = robustaug.create(name, norm=norm, box=FREE, steps=40)(model, x, y)
    best = least(model, x, y, norm)
    assert result.success.all()
    assert result.verified.all()
    assert (result.norm >= best * (1 - 1e-9)).all()
    assert (result.norm <= best * 1.01).all()


@pytest.mark.parametrize(("name", "classes"), [("attack.fab", 2), ("attack.fab_t", 2), ("attack.fab_t", 6)])
@pytest.mark.parametrize("norm", DUAL)
def test_near_the_sides_of_the_box_it_is_still_within_one_per_cent(name, norm, classes):
    """With more classes FAB may choose one whose boundary is nearest where there is no box, as published."""
    model, x, _ = linear((7,), classes, seed=3)
    x = torch.sigmoid(3 * x)
    x[:, :2] = x[:, :2].round()
    with torch.no_grad():
        y = model(x).argmax(1)
    slope, gap = slopes_and_gaps(model, x, y)
    reach = torch.maximum(slope * (1 - x)[:, None], -slope * x[:, None]).sum(2)
    best = torch.tensor(
        [
            min(
                (
                    least_length(norm, x[i], slope[i, k], float(gap[i, k]))
                    for k in range(classes)
                    if reach[i, k] > gap[i, k] and k != y[i]
                ),
                default=math.inf,
            )
            for i in range(len(x))
        ],
        dtype=torch.float64,
    )
    can = best.isfinite()
    assert can.sum() >= 4
    assert (best > least(model, x, y, norm) * 1.001)[can].any()  # the box is in the way of some
    result = robustaug.create(name, norm=norm, steps=40)(model, x, y)
    assert torch.equal(result.success, can)
    assert (result.norm[can] >= best[can] * (1 - 1e-6)).all()
    assert (result.norm[can] <= best[can] * 1.01).all()


# --- the published step ---


def onto(norm, point, slope, rise):
    """The shortest step inside [0, 1] with slope . d = rise, or as near as it goes: by bisection or sorting."""
    up = (slope > 0) == (rise >= 0)
    room, pace = torch.where(up, 1 - point, point), slope.abs()
    if norm == "L1":
        way, left = torch.zeros_like(point), abs(rise)
        for i in pace.flatten().argsort(descending=True, stable=True).tolist():
            if pace.flatten()[i] > 0:
                way.view(-1)[i] = min(float(room.flatten()[i]), left / float(pace.flatten()[i]))
                left -= float(way.view(-1)[i] * pace.flatten()[i])
    else:

        def at(time):
            return torch.minimum(room, time * (pace if norm == "L2" else (pace > 0).double()))

        low, high = 0.0, 1e6
        for _ in range(200):
            middle = (low + high) / 2
            low, high = (middle, high) if float((pace * at(middle)).sum()) < abs(rise) else (low, middle)
        way = at(high)
    return torch.where(up, way, -way)


def published(model, x, y, norm, steps, target=None):
    """Croce & Hein 2020, algorithm 1, on one sample; with the boundary to `target`, or to the nearest class."""
    path, point = [], x
    for _ in range(steps):
        leaf = point[None].detach().requires_grad_()
        logits = model(leaf)[0]
        lines = []
        for k in range(len(logits)):
            if k != y and target in (None, k):
                [slope] = torch.autograd.grad(logits[k] - logits[y], leaf, retain_graph=True)
                gap = float((logits[k] - logits[y]).detach())
                lines.append((abs(gap) / float(torch.linalg.vector_norm(slope, DUAL[norm])), gap, slope[0]))
        _, gap, slope = min(lines, key=lambda line: line[0])
        here = onto(norm, point, slope, -gap)
        there = onto(norm, x, slope, float((slope * (point - x)).sum()) - gap)
        own, drawn = (float(torch.linalg.vector_norm(way, ORDER[norm])) for way in (here, there))
        alpha = min(own / (own + drawn), 0.1)
        point = ((1 - alpha) * (point + 1.05 * here) + alpha * (x + 1.05 * there)).clamp(0, 1)
        path.append(point)
        if int(model(point[None]).argmax()) != y:
            point = x + 0.9 * (point - x)
    return path


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("norm", DUAL)
def test_it_takes_the_published_steps(name, norm):
    model = network(5)
    x, y = points(model)
    with torch.no_grad():
        second = model(x).argsort(dim=1, descending=True)[:, 1]
    theirs = [
        published(model, x[i], int(y[i]), norm, 12, int(second[i]) if name == "attack.fab_t" else None)
        for i in range(len(x))
    ]
    across = torch.tensor([[int(model(p[None]).argmax()) != int(y[i]) for p in theirs[i]] for i in range(len(x))])
    assert across.any()  # both kinds of step
    assert not across.all()
    for steps in (1, 2, 3, 6, 12):
        ours = last_state(robustaug.create(name, norm=norm, steps=steps), model, x, y, Keys.of(0, len(x))).x
        torch.testing.assert_close(ours, torch.stack([p[steps - 1] for p in theirs]), rtol=0, atol=1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_targets_are_tried_in_turn_and_restarts_begin_elsewhere(name):
    model = network(5)
    x, y = points(model)
    attack = robustaug.create(name, targets=2) if name == "attack.fab_t" else robustaug.create(name)
    assert attack.rounds(5) == (2 if name == "attack.fab_t" else 1)
    assert robustaug.create(name, restarts=3).rounds(2) == 3
    shown = []

    class Watched(nn.Module):
        def forward(self, at):
            shown.append(at.detach().clone())
            return model(at)

    robustaug.create(name, steps=1, restarts=2)(Watched().eval(), x, y)
    rounds = robustaug.create(name).rounds(5)
    firsts = shown[1 :: 1 + 1][: 2 * rounds]  # a gradient and a verdict a round, once the clean samples were asked
    assert all(torch.equal(first, x) for first in firsts[:rounds])
    assert not any(torch.equal(first, x) for first in firsts[rounds:])
    for first in firsts[rounds:]:
        assert ((first - x).abs() <= 0.05 + 1e-12).all()


# --- passes ---


class Saturating(nn.Module):
    """Never crosses: the other logit comes nearer and nearer and stays below."""

    def forward(self, x):
        z = torch.tanh(x.flatten(1).sum(1))
        return torch.stack([torch.ones_like(z), 0.5 * z], 1)


@pytest.mark.parametrize("norm", DUAL)
def test_a_sample_that_never_crosses_costs_one_forward_and_one_backward_a_step(norm):
    x = 0.1 * torch.rand(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    result = robustaug.create("attack.fab_t", norm=norm, steps=9)(Saturating().eval(), x, torch.zeros(5).long())
    assert not result.success.any()
    assert (result.forwards == 1 + 9 + 1).all()  # the clean one before, and the last verdict after
    assert (result.backwards == 9).all()
    every = robustaug.create("attack.fab", norm=norm, steps=9)(Saturating().eval(), x, torch.zeros(5).long())
    assert (every.forwards == 1 + 9 + 1).all()
    assert (every.backwards == 2 * 9).all()  # of each logit


@pytest.mark.parametrize("norm", DUAL)
def test_a_sample_across_is_asked_for_its_verdict_before_its_gradient(norm):
    """A step that is not expected to cross, and does, costs its gradient twice; one that is, a verdict more."""
    model, x, y = linear((6,), 2)
    result = robustaug.create("attack.fab_t", norm=norm, steps=1, box=FREE)(model, x, y)
    assert result.success.all()
    assert (result.forwards == 3).all()
    two, three = (robustaug.create("attack.fab_t", norm=norm, steps=k, box=FREE)(model, x, y) for k in (2, 3))
    assert (two.forwards == 1 + 1 + 2 + 1).all()
    assert (two.backwards == 3).all()
    assert (three.forwards == 1 + 1 + 2 + 2 + 1).all()
    assert (three.backwards == 4).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("norm", DUAL)
def test_within_a_finite_budget_a_sample_ends_early(name, norm):
    model = network(5)
    x, y = points(model, 24)
    whole = robustaug.create(name, norm=norm, steps=30)(model, x, y)
    assert whole.success.sum() >= 20
    eps = float(whole.norm[whole.success].median()) * 1.001
    result = robustaug.create(name, norm=norm, steps=30, eps=eps)(model, x, y)
    assert 8 <= result.success.sum() <= 16
    assert (result.norm[result.success] <= eps * (1 + 1e-6)).all()
    assert result.forwards[result.success].max() < whole.forwards.min()
    assert not (result.success & (whole.norm > eps)).any()
    assert not (~result.success & (whole.norm < eps * 0.999)).any()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("norm", DUAL)
def test_masked_values_never_move(name, norm):
    model = network(5)
    x, y = points(model, 12)
    mask = torch.rand(x.shape, generator=torch.Generator().manual_seed(3)) < 0.6
    result = robustaug.create(name, norm=norm, steps=30)(model, x, y, mask=mask)
    assert result.success.any()
    assert result.verified[result.success].all()
    assert torch.equal(result.x_adv[~mask], x[~mask])
    free = robustaug.create(name, norm=norm, steps=30)(model, x, y)
    assert result.norm[result.success].mean() > free.norm[result.success].mean()


@pytest.mark.parametrize("name", NAMES)
def test_restarts_never_hurt(name):
    model = network(3)
    x, y = points(model, 24)
    one, three = (robustaug.create(name, norm="L2", steps=10, restarts=k)(model, x, y) for k in (1, 3))
    assert not (one.success & ~three.success).any()
    assert (three.norm[one.success] <= one.norm[one.success]).all()
    assert (three.norm[one.success] < one.norm[one.success]).any()


@pytest.mark.parametrize(
    ("name", "params", "match"),
    [
        ("attack.fab_t", {"steps": 0}, "attack.fab_t: steps must be a whole number >= 1, got 0"),
        ("attack.fab_t", {"targets": 0}, "attack.fab_t: targets must be a whole number >= 1, got 0"),
        ("attack.fab_t", {"targeted": True}, "attack.fab_t: cannot lead towards a class"),
        ("attack.fab", {"alpha_max": 1.5}, r"attack.fab: alpha_max must be in \[0, 1\], got 1.5"),
        ("attack.fab", {"eta": 0.9}, r"attack.fab: eta must be in \[1, inf\], got 0.9"),
        ("attack.fab", {"beta": 1.0}, r"attack.fab: beta must be in \(0, 1\), got 1"),
    ],
)
def test_values_that_make_no_sense_are_refused(name, params, match):
    with pytest.raises(ValueError, match=match):
        robustaug.create(name, **params)
