"""Minimal-norm attacks against the least perturbation of linear models, which is known in closed form, and PGD."""

import pytest
import torch
from torch import nn

import robustaug
from robustaug.attacks.execution import Execution
from robustaug.registry import lookup
from tests.conformance.test_attack_conformance import FREE, linear, network

NAMES = ["attack.cw", "attack.ddn", "attack.deepfool", "attack.ead", "attack.fmn", "attack.jsma", "attack.sigma_zero"]
CASES = [(name, norm) for name in NAMES for norm in lookup(name).factory.norms]
DUAL = {"L1": torch.inf, "L2": 2, "Linf": 1}
# the least elastic net is not the least L1; FMN takes more steps to empty the last of the other values
FROM_THE_SAMPLE = {("attack.ead", "L1"): 1.25, ("attack.fmn", "L1"): 1.03, ("attack.cw", "L2"): 1.02}
SIZES = [((7,), 1), ((2, 9), 3), ((3, 4, 5), 8)]


def test_every_norm_of_every_attack_is_covered():
    assert len(CASES) == 11
    assert {norm for _, norm in CASES} == {"L0", "L1", "L2", "Linf"}


def slopes_and_gaps(model, x, y):
    """How each margin to another class grows, (n, K, D), and how far it has to, (n, K); the label's own is infinite."""
    weight = model[1].weight.detach()
    with torch.no_grad():
        z = model(x)
    gap = (z.gather(1, y[:, None]) - z).masked_fill(nn.functional.one_hot(y, z.shape[1]).bool(), torch.inf)
    return weight[None] - weight[y][:, None], gap


def least(model, x, y, norm):
    """The way to the nearest other class: min over classes of gap / dual norm of the slope."""
    slope, gap = slopes_and_gaps(model, x, y)
    return (gap / torch.linalg.vector_norm(slope, ord=DUAL[norm], dim=2)).amin(1)


def fewest(model, x, y, low, high):
    """The least number of values whose moves to the end of the box cross a margin; infinite where all do not."""
    slope, gap = slopes_and_gaps(model, x, y)
    rows = x.flatten(1)[:, None]
    gain = torch.maximum(slope * (high - rows), slope * (low - rows)).sort(dim=2, descending=True).values.cumsum(2)
    count = (gain <= gap[:, :, None]).sum(2) + 1.0
    return count.masked_fill(count > rows.shape[2], torch.inf).amin(1)


@pytest.mark.parametrize(("name", "norm"), CASES)
@pytest.mark.parametrize("classes", [2, 6])
@pytest.mark.parametrize(("shape", "n"), SIZES, ids=str)
def test_a_linear_model_breaks_within_one_per_cent_of_the_least_change(name, norm, classes, shape, n):
    model, x, _ = linear(shape, classes)
    box = FREE
    if norm == "L0":
        x, box = torch.sigmoid(x), (0.0, 1.0)
    with torch.no_grad():
        y = model(x).argmax(1)
    x, y = x[:n], y[:n]
    best = fewest(model, x, y, *box) if norm == "L0" else least(model, x, y, norm)
    result = robustaug.create(name, norm=norm, box=box)(model, x, y)
    can = best.isfinite()
    assert can.any()
    assert torch.equal(result.success, can)
    assert torch.equal(result.verified, can)
    assert (result.norm[can] >= best[can] * (1 - 1e-9)).all()
    assert (result.norm[can] <= best[can] * 1.01).all()


@pytest.mark.parametrize(("name", "norm"), CASES)
def test_the_search_itself_comes_close_from_the_sample(name, norm):
    """Without the linearised start (where that can be left out) and with two classes, where none can be missed."""
    model, x, y = linear((2, 9), 2, seed=3)
    if norm == "L0":
        x = torch.sigmoid(x)
        with torch.no_grad():
            y = model(x).argmax(1)
    extra = {} if name in ("attack.deepfool", "attack.jsma") else {"classes": 0}
    box = (0.0, 1.0) if norm == "L0" else FREE
    attack = robustaug.create(name, norm=norm, box=box, **extra)
    result = attack(model, x, y)
    best = fewest(model, x, y, *box) if norm == "L0" else least(model, x, y, norm)
    can = best.isfinite()
    assert torch.equal(result.success, can)
    assert (result.norm[can] <= best[can] * FROM_THE_SAMPLE.get((name, norm), 1.01)).all()


@pytest.mark.parametrize(("name", "norm"), CASES)
def test_targets_of_a_linear_model_are_reached_at_the_least_change(name, norm):
    """With two classes the way to the other class is the way out of one's own."""
    model, x, _ = linear((2, 5), 2, seed=1)
    box = FREE
    if norm == "L0":
        x, box = torch.sigmoid(x), (0.0, 1.0)
    with torch.no_grad():
        y = model(x).argmax(1)
    best = fewest(model, x, y, *box) if norm == "L0" else least(model, x, y, norm)
    result = robustaug.create(name, norm=norm, box=box, targeted=True)(model, x, y, target=1 - y)
    can = best.isfinite()
    assert torch.equal(result.success, can)
    assert (result.norm[can] <= best[can] * 1.01).all()


@pytest.mark.parametrize(("name", "norm"), CASES)
def test_a_box_and_a_mask_are_kept_and_still_broken(name, norm):
    model, x, _ = linear((8,), 2, seed=2)
    x = 0.5 * torch.tanh(x)
    x[:, 0], x[:, 1] = -1.0, 1.0  # at the sides of the box
    low, high = torch.full((8,), -1.0), torch.full((8,), 1.0)
    low[2], high[3] = -torch.inf, torch.inf
    mask = torch.ones(8, dtype=torch.bool)
    mask[4] = False
    with torch.no_grad():
        y = model(x).argmax(1)
    result = robustaug.create(name, norm=norm, box=(low, high))(model, x, y, mask=mask)
    assert (result.x_adv >= low).all()
    assert (result.x_adv <= high).all()
    assert torch.equal(result.x_adv[:, 4], x[:, 4])
    assert result.verified.float().mean() >= (0.75 if norm == "Linf" else 1.0)


@pytest.mark.parametrize(("name", "norm"), [case for case in CASES if case[1] in ("L1", "L2", "Linf")])
def test_a_network_breaks_no_farther_than_where_pgd_breaks_it(name, norm):
    """Where half of the samples break, PGD with restarts breaks hardly more."""
    model = network(4)
    x = torch.rand(48, 3, 2, 2, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    with torch.no_grad():
        y = model(x).argmax(1)
    result = robustaug.create(name, norm=norm)(model, x, y)
    assert result.success.float().mean() > 0.5
    eps = float(result.norm[result.success].median())
    pgd = robustaug.create("attack.pgd", norm=norm, eps=eps, steps=40, restarts=3)(model, x, y)
    ours = result.success & (result.norm <= eps)
    assert ours.sum() >= pgd.success.sum() - (4 if name == "attack.deepfool" else 1)


@pytest.mark.parametrize(("name", "norm"), CASES)
def test_an_interrupted_run_ends_as_if_it_had_not_been(name, norm, tmp_path):
    model = network(4)
    x = torch.rand(6, 3, 2, 2, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    with torch.no_grad():
        y = model(x).argmax(1)
    attack = robustaug.create(name, norm=norm)
    whole, calls = attack(model, x, y), []

    def stop(progress):
        calls.append(progress)
        if len(calls) == 3:
            raise KeyboardInterrupt

    path = tmp_path / "attack.safetensors"
    try:
        attack(model, x, y, execution=Execution(checkpoint=path, checkpoint_every_s=0, progress=stop))
    except KeyboardInterrupt:
        assert path.exists()
    resumed = attack(model, x, y, execution=Execution(checkpoint=path, checkpoint_every_s=0))
    for column, again in zip(whole[:-1], resumed[:-1], strict=True):  # the last are parameters, of which there are none
        assert torch.equal(column, again)
    assert whole.params == resumed.params == {}
