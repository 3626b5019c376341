import pytest
import torch
import torch.nn.functional as F

import robustaug
from robustaug.rng import Keys
from robustaug.train.view import View


def batch(**fields):
    x = torch.rand(6, 4)
    return View(x, torch.tensor([0, 1, 2, 2, 1, 0]), torch.arange(6), Keys.of(0, 6), **fields)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_it_is_torchs(smoothing):
    model, view = torch.nn.Linear(4, 3), batch()
    losses = robustaug.create("loss.cross_entropy", label_smoothing=smoothing)(model, view, {})
    theirs = F.cross_entropy(model(view.x), view.y, reduction="none", label_smoothing=smoothing)
    assert torch.allclose(losses, theirs, atol=1e-6)


def test_shares_count_as_torchs_do():
    model, view = torch.nn.Linear(4, 3), batch(target=torch.rand(6, 3).softmax(1))
    losses = robustaug.create("loss.cross_entropy")(model, view, {})
    assert torch.allclose(losses, F.cross_entropy(model(view.x), view.target, reduction="none"), atol=1e-6)


def test_attacked_points_take_the_place_of_clean_ones_but_for_their_share():
    model, view = torch.nn.Linear(4, 3), batch(x_adv=torch.rand(6, 4), clean_share=0.25)
    losses = robustaug.create("loss.cross_entropy")(model, view, {})
    clean, attacked = (F.cross_entropy(model(x), view.y, reduction="none") for x in (view.x, view.x_adv))
    assert torch.allclose(losses, 0.25 * clean + 0.75 * attacked, atol=1e-6)


def test_wrong_parameters_are_named():
    with pytest.raises(ValueError, match=r"label_smoothing must be in \[0, 1\].*got 2"):
        robustaug.create("loss.cross_entropy", label_smoothing=2)
    with pytest.raises(TypeError, match="no parameter 'smoothing'"):
        robustaug.create("loss.cross_entropy", smoothing=0.1)
