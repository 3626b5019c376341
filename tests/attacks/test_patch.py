import pytest
import torch
from torch import nn

import robustaug
from robustaug.attacks.driver import perturb
from robustaug.attacks.execution import Execution
from robustaug.rng import Keys
from tests.attacks.test_driver import data, network


def attack(**params):
    return robustaug.create("attack.patch", **{"steps": 10} | params)


def extent(x_adv, x):
    """The rows and columns that changed in each image: (top, bottom, left, right), inclusive."""
    changed = (x_adv != x).any(1)
    rows, columns = changed.any(2), changed.any(1)
    spans = [[(int(line.nonzero()[0]), int(line.nonzero()[-1])) for line in lines] for lines in (rows, columns)]
    return [(*down, *across) for down, across in zip(*spans, strict=True)]


def test_nothing_outside_of_the_patch_changes():
    model = network()
    x, y = data(model)
    right = torch.arange(24) % 6 != 0
    result = attack(size=(2, 3))(model, x, y)
    places = extent(result.x_adv[right], x[right])
    for top, bottom, left, across in places:
        assert bottom - top <= 1
        assert across - left <= 2
    assert len(set(places)) > 6  # each image has a place of its own
    assert torch.equal(result.verified, result.success)
    assert result.x_adv.min() >= 0
    assert result.x_adv.max() <= 1


def test_the_place_may_be_given():
    model = network()
    x, y = data(model)
    result = attack(size=2, place=[5, 1])(model, x, y)
    outside = torch.ones(8, 8, dtype=torch.bool)
    outside[5:7, 1:3] = False
    assert torch.equal(result.x_adv[:, :, outside], x[:, :, outside])
    assert (result.x_adv != x).any()


def test_every_place_comes_up():
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 3)).eval()
    x = torch.rand(300, 1, 3, 4)
    ball = attack().threat.around(x, torch.ones(300, dtype=torch.float64))
    masks = attack(size=(2, 2)).confined(ball, Keys.of(0, 300)).mask
    assert masks.sum((1, 2, 3)).unique().tolist() == [4]
    assert len(masks.flatten(1).unique(dim=0)) == 2 * 3
    with torch.no_grad():
        y = model(x).argmax(1)
    assert attack(size=(3, 4))(model, x, y).success.float().mean() > 0.5  # the whole image


def test_inside_the_patch_anything_goes():
    """A linear model is worst off with each value of the patch at the end of the box that its slope points to."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2)).double().eval()
    with torch.no_grad():
        model[1].bias.copy_(torch.tensor([50.0, 0.0]))  # out of reach
    x = torch.rand(5, 1, 4, 4, dtype=torch.float64)
    y = torch.zeros(5, dtype=torch.int64)
    result = attack(size=2, place=(1, 1), loss="margin", steps=20)(model, x, y)
    slope = (model[1].weight[1] - model[1].weight[0]).detach().reshape(4, 4)
    expected = x.clone()
    expected[:, 0, 1:3, 1:3] = (slope[1:3, 1:3] > 0).double()
    torch.testing.assert_close(result.x_adv, expected)
    assert not result.success.any()


def test_larger_patches_break_more():
    model = network()
    x, y = data(model)
    fell = [int(attack(size=size, place=(0, 0))(model, x, y).success.sum()) for size in (1, 3, 6)]
    assert fell == sorted(fell)
    assert fell[0] < fell[-1]


def test_a_patch_may_be_held_near_the_image_and_to_a_mask():
    model = network()
    x, y = data(model)
    mask = torch.zeros(8, 8, dtype=torch.bool)
    mask[:, :4] = True
    result = attack(size=4, place=(2, 2), eps=0.3)(model, x, y, mask=mask)
    assert (result.norm <= 0.3).all()
    changed = (result.x_adv != x).any(0)[0]
    assert changed.nonzero().amin(0).tolist() == [2, 2]
    assert changed.nonzero().amax(0).tolist() == [5, 3]
    assert torch.equal(result.verified, result.success)


def test_restarts_never_hurt_and_keep_the_place():
    model = network()
    x, y = data(model)
    one, three = (attack(size=1, steps=3, restarts=restarts)(model, x, y) for restarts in (1, 3))
    assert not (one.success & ~three.success).any()
    for top, bottom, left, across in extent(three.x_adv[1:6], x[1:6]):
        assert (top, left) == (bottom, across)


def test_results_do_not_depend_on_the_batch():
    model = network()
    x, y = data(model)
    keys = Keys.of(3, 24)
    whole = attack()(model, x, y, keys)
    for i in range(0, 24, 8):
        part = attack()(model, x[i : i + 8], y[i : i + 8], keys[i : i + 8])
        torch.testing.assert_close(part.x_adv, whole.x_adv[i : i + 8], rtol=0, atol=1e-9)


def test_targets_are_reached():
    model = network()
    x, _ = data(model)
    with torch.no_grad():
        y = model(x).argmax(1)
    target = (y + 1) % 4
    result = attack(size=6, targeted=True, steps=30)(model, x, y, target=target)
    with torch.no_grad():
        assert torch.equal(model(result.x_adv).argmax(1) == target, result.success)
    assert result.success.sum() > 6


def test_passes_are_counted_and_bounded():
    model = network()
    x, y = data(model)
    result = attack(size=1, place=(0, 0))(model, x, y)
    assert (result.forwards[~result.success] == 12).all()
    assert attack()(model, x, y, execution=Execution(budget=4)).forwards.max() <= 4


def test_a_run_that_was_cut_off_keeps_its_place(tmp_path):
    model = network()
    x, y = data(model)
    expected = attack(size=1)(model, x, y)

    class CutError(Exception):
        pass

    def cut(progress):
        if progress.fraction > 0.5:
            raise CutError

    where = {"checkpoint": tmp_path / "c", "checkpoint_every_s": 0.0}
    with pytest.raises(CutError):
        attack(size=1)(model, x, y, execution=Execution(progress=cut, **where))
    resumed = attack(size=1)(model, x, y, execution=Execution(**where))
    assert torch.equal(resumed.x_adv, expected.x_adv)
    assert torch.equal(resumed.verified, expected.verified)


def test_training_may_use_it():
    model = network()
    x, y = data(model)
    for top, bottom, left, across in extent(perturb(attack(size=2), model, x, y, Keys.of(0, 24)), x):
        assert bottom - top <= 1
        assert across - left <= 1


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"size": 0}, r"size must be two whole numbers >= 1 of pixels, got \(0, 0\)"),
        ({"size": [2.5, 1]}, r"size must be two whole numbers >= 1 of pixels, got \[2.5, 1\]"),
        ({"place": (1,)}, r"place must be two whole numbers >= 0 of pixels, got \(1,\)"),
        ({"box": (-torch.inf, torch.inf)}, r"the box \(-inf, inf\) has no end; give eps"),
        ({"norm": "L2"}, "norm must be one of 'Linf', got 'L2'"),
    ],
)
def test_values_out_of_range_are_refused(params, words):
    with pytest.raises(ValueError, match=f"attack.patch: {words}"):
        attack(**params)


def test_what_does_not_fit_is_refused():
    model = network()
    x, y = data(model)
    with pytest.raises(ValueError, match=r"a patch of size \(3, 3\) at \(6, 0\) does not fit into images of 8 x 8"):
        attack(size=3, place=(6, 0))(model, x, y)
    table = nn.Linear(6, 3).eval()
    with pytest.raises(ValueError, match=r"attack.patch: x must be images \(B, C, H, W\), got \(4, 6\)"):
        attack()(table, torch.rand(4, 6), torch.zeros(4, dtype=torch.int64))
