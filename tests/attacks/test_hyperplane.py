"""The shortest step onto a hyperplane, against linear programming, quadratic programming and closed forms."""

import numpy as np
import pytest
import torch
from scipy.optimize import linprog, minimize

from robustaug.attacks.hyperplane import step_onto
from robustaug.attacks.threat import NORMS, Threat

ORDER = {"Linf": torch.inf, "L2": 2, "L1": 1}
DUAL = {"Linf": 1, "L2": 2, "L1": torch.inf}
FREE = (-torch.inf, torch.inf)


def around(norm, x, box=(0.0, 1.0), mask=None):
    return Threat(NORMS[norm], *box).around(x, torch.ones(len(x), dtype=torch.float64), mask)


def draws(n, values, seed=0, dtype=torch.float64):
    draw = torch.Generator().manual_seed(seed)
    x = torch.rand(n, values, generator=draw, dtype=torch.float64)
    slope = torch.randn(n, values, generator=draw, dtype=torch.float64)
    return x.to(dtype), slope.to(dtype), torch.rand(n, generator=draw, dtype=torch.float64)


def most_gain(x, slope, sign=1, low=0.0, high=1.0):
    """How far slope . d can rise (or fall) inside the box."""
    up = slope * sign > 0
    return (slope.abs() * torch.where(up, high - x, x - low)).sum(1)


def least_length(norm, x, slope, rise):
    """The length of the shortest step inside [0, 1], found by a solver that knows nothing of our way."""
    x, slope = x.double().numpy(), slope.double().numpy()
    n, bounds = len(x), [*zip(-x, 1 - x, strict=True)]
    if norm == "L2":
        equal = {"type": "eq", "fun": lambda d: slope @ d - rise, "jac": lambda _: slope}
        found = minimize(
            lambda d: d @ d, np.zeros(n), jac=lambda d: 2 * d, bounds=bounds, constraints=equal, options={"ftol": 1e-15}
        )
        assert found.success
        return found.fun**0.5
    eye = np.eye(n)
    if norm == "Linf":  # minimise t with -t <= d <= t
        cost, side = np.r_[np.zeros(n), 1], np.ones((n, 1))
        above = np.r_[np.c_[eye, -side], np.c_[-eye, -side]]
        found = linprog(cost, above, np.zeros(2 * n), np.r_[slope, 0][None], [rise], [*bounds, (0, None)])
    else:  # d = up - down, both >= 0
        found = linprog(
            np.ones(2 * n), None, None, np.r_[slope, -slope][None], [rise], [(0, b) for b in [*(1 - x), *x]]
        )
    assert found.status == 0
    return found.fun


@pytest.mark.parametrize("norm", ORDER)
@pytest.mark.parametrize("sign", [1, -1])
def test_it_is_the_shortest_step_that_reaches_the_hyperplane(norm, sign):
    x, slope, share = draws(25, 7)
    x[:8, :3], slope[3:12, 2] = torch.tensor([0.0, 1.0, 0.5], dtype=torch.float64), 0.0  # sides, and no slope
    rise = sign * most_gain(x, slope, sign) * share
    way = step_onto(around(norm, x), x, slope, rise)
    assert ((x + way >= 0) & (x + way <= 1)).all()
    torch.testing.assert_close((slope * way).sum(1), rise, rtol=1e-6, atol=1e-9)
    length = torch.linalg.vector_norm(way, ORDER[norm], 1)
    best = [least_length(norm, *row) for row in zip(x, slope, rise.tolist(), strict=True)]
    torch.testing.assert_close(length, torch.tensor(best, dtype=torch.float64), rtol=2e-6, atol=1e-8)


@pytest.mark.parametrize("norm", ORDER)
@pytest.mark.parametrize("sign", [1, -1])
def test_out_of_reach_it_goes_as_near_as_the_box_allows(norm, sign):
    x, slope, _ = draws(10, 9, seed=1)
    slope[:, 4] = 0.0
    most = most_gain(x, slope, sign)
    way = step_onto(around(norm, x), x, slope, sign * most * torch.linspace(1.001, 100, 10, dtype=torch.float64))
    torch.testing.assert_close((slope * way).sum(1), sign * most)
    assert not way[:, 4].any()  # would not bring it nearer


@pytest.mark.parametrize("norm", ORDER)
def test_many_values_reach_the_box_one_after_the_other(norm):
    """A thousand bends at very different times: more than a few Newton steps pass."""
    x = torch.linspace(0.0, 1.0, 1000, dtype=torch.float64)[None].expand(5, -1)
    slope = torch.logspace(-6, 3, 1000, dtype=torch.float64).flip(0).expand(5, -1)
    rise = most_gain(x, slope) * torch.tensor([1e-6, 0.1, 0.5, 0.99, 0.999999], dtype=torch.float64)
    way = step_onto(around(norm, x), x, slope, rise)
    assert ((x + way >= 0) & (x + way <= 1)).all()
    torch.testing.assert_close((slope * way).sum(1), rise, rtol=1e-6, atol=0)


@pytest.mark.parametrize("norm", [*ORDER, "L0"])
@pytest.mark.parametrize("scale", [1e-30, 1e-21, 1e-12, 1.0, 1e12, 1e20, 1e30])
def test_single_precision_is_within_1e_5(norm, scale):
    x, slope, share = draws(20, 40, seed=2, dtype=torch.float32)
    rise = most_gain(x.double(), slope.double()) * share
    way = step_onto(around(norm, x), x, slope * scale, rise * scale)
    exact = step_onto(around(norm, x.double()), x.double(), slope.double(), rise)
    assert way.dtype == torch.float32
    torch.testing.assert_close(way.double(), exact, rtol=0, atol=1e-5)


@pytest.mark.parametrize("norm", [*ORDER, "L0"])
@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_every_row_has_a_unit_of_its_own_and_what_cannot_move_does_not_count(norm, scale):
    x, slope, share = draws(12, 9, seed=7, dtype=torch.float32)
    mask = torch.arange(9) != 4
    rise = most_gain(x.double(), slope.double() * mask) * share
    expected = step_onto(around(norm, x, mask=mask.expand(12, 9)), x, slope, rise)
    units = torch.tensor([1.0, scale]).repeat(6)
    steep = slope * units[:, None]
    steep[:, 4] = 1e8 * units  # masked
    way = step_onto(around(norm, x, mask=mask.expand(12, 9)), x, steep, rise * units)
    torch.testing.assert_close(way, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("norm", [*ORDER, "L0"])
@pytest.mark.parametrize("scale", [1e-38, 1.0, 1e38])
def test_a_rise_beyond_all_bounds_leads_to_the_end_of_the_box_and_is_a_number(norm, scale):
    x = torch.full((2, 3), 0.25)
    slope = torch.tensor([[1.0, -0.5, 0.0]]).expand(2, -1) * scale
    rise = torch.tensor([1e300, -1e300], dtype=torch.float64)
    way = step_onto(around(norm, x), x, slope, rise)
    assert way.tolist() == [[0.75, -0.25, 0.0], [-0.25, 0.75, 0.0]]
    assert not step_onto(around(norm, x, FREE), x, slope, rise).isnan().any()


@pytest.mark.parametrize("sign", [1, -1])
def test_l0_changes_the_fewest_values_and_those_to_the_end_of_their_room(sign):
    x, slope, share = draws(20, 8, seed=8)
    rise = sign * most_gain(x, slope, sign) * share
    way = step_onto(around("L0", x), x, slope, rise)
    gain = slope * way * sign
    assert (gain.sum(1) >= rise.abs() * (1 - 1e-12)).all()
    changed = way != 0
    ends = torch.where(slope * sign > 0, 1.0, 0.0).double()
    torch.testing.assert_close((x + way)[changed], ends[changed])
    most = (slope.abs() * torch.where(slope * sign > 0, 1 - x, x)).sort(dim=1, descending=True).values
    fewest = (most.cumsum(1) < rise.abs()[:, None]).sum(1) + 1
    assert torch.equal(changed.sum(1), fewest)


def test_l0_goes_no_farther_than_it_takes_where_a_side_is_open():
    x, slope = torch.full((1, 3), 0.5), torch.tensor([[2.0, 4.0, 0.0]])
    ball = around("L0", x, (torch.tensor([0.0, 0.0, 0.0]), torch.tensor([1.0, torch.inf, torch.inf])))
    way = step_onto(ball, x, slope, torch.tensor([3.0], dtype=torch.float64))
    assert way.tolist() == [[0.0, 0.75, 0.0]]


@pytest.mark.parametrize("norm", ORDER)
def test_without_a_box_it_is_the_rise_over_the_dual_norm(norm):
    x, slope, _ = draws(6, 5, seed=3)
    rise = torch.tensor([0.3, -0.3, 1e3, -1e-9, 0.0, 2.0], dtype=torch.float64)
    for dtype, close in ((torch.float64, 1e-9), (torch.float32, 1e-5)):
        given = x.to(dtype), slope.to(dtype)
        way = step_onto(around(norm, given[0], FREE), *given, rise).double()
        torch.testing.assert_close((slope * way).sum(1), rise, rtol=close, atol=1e-12)
        best = rise.abs() / torch.linalg.vector_norm(slope, DUAL[norm], 1)
        torch.testing.assert_close(torch.linalg.vector_norm(way, ORDER[norm], 1), best, rtol=close, atol=1e-12)


@pytest.mark.parametrize("norm", ORDER)
def test_a_box_may_be_open_on_some_sides_only(norm):
    """The steepest value has little room, the next has no end: it must not forget what the first one gained."""
    x, slope = torch.full((1, 2), 0.9), torch.tensor([[2.0, 1.0]])
    ball = around(norm, x, (torch.tensor([0.0, 0.0]), torch.tensor([1.0, torch.inf])))
    way = step_onto(ball, x, slope, torch.tensor([3.0], dtype=torch.float64))
    torch.testing.assert_close(way, torch.tensor([[0.1, 2.8]]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("norm", ORDER)
def test_masked_values_stay_and_the_others_go_farther(norm):
    x, slope, share = draws(12, 8, seed=4)
    mask = torch.rand(12, 8, generator=torch.Generator().manual_seed(5)) < 0.6
    rise = most_gain(x, torch.where(mask, slope, 0.0)) * share
    way = step_onto(around(norm, x, mask=mask), x, slope, rise)
    assert not way[~mask].any()
    torch.testing.assert_close(way, step_onto(around(norm, x), x, torch.where(mask, slope, 0.0), rise))


@pytest.mark.parametrize("norm", ORDER)
@pytest.mark.parametrize("box", [(0.0, 1.0), FREE])
def test_without_slope_or_rise_nothing_moves(norm, box):
    x, slope, rise = draws(3, 4)
    ball = around(norm, x, box)
    assert not step_onto(ball, x, torch.zeros_like(slope), rise).any()
    assert not step_onto(ball, x, torch.zeros_like(slope), -rise).any()
    assert not step_onto(ball, x, slope, torch.zeros_like(rise)).any()


@pytest.mark.parametrize("norm", ORDER)
def test_steps_have_the_shape_of_samples_and_there_may_be_none(norm):
    x, slope, rise = draws(4, 12)
    flat = step_onto(around(norm, x), x, slope, rise)
    for shape in [(12,), (3, 4), (3, 2, 2)]:
        wide = x.reshape(4, *shape)
        way = step_onto(around(norm, wide), wide, slope.reshape(wide.shape), rise)
        assert torch.equal(way, flat.reshape(wide.shape))
        none = step_onto(around(norm, wide[:0]), wide[:0], slope.reshape(wide.shape)[:0], rise[:0])
        assert none.shape == (0, *shape)


@pytest.mark.parametrize("norm", ORDER)
def test_a_row_does_not_depend_on_the_others(norm):
    x, slope, share = draws(16, 30, seed=6)
    rise = most_gain(x, slope) * share * 1.2  # some out of reach, which takes other numbers of steps
    whole = step_onto(around(norm, x), x, slope, rise)
    for row in range(16):
        at = slice(row, row + 1)
        alone = step_onto(around(norm, x[at]), x[at], slope[at], rise[at])
        torch.testing.assert_close(alone, whole[at], rtol=0, atol=1e-9)
