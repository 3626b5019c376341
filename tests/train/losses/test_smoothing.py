import pytest
import torch
import torch.nn.functional as F
from torch import nn

import robustaug
from robustaug.rng import Keys
from robustaug.train.view import View


class Recorder(nn.Module):
    """Says the first two values of what it is shown, which it remembers."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, x):
        self.seen.append(x)
        return x[:, :2]


def view(n=4, epoch=0, **fields):
    x = torch.tensor([0.0, 1.0]).repeat(n, 3000)  # both ends of the range
    return View(x, torch.arange(n) % 2, torch.arange(n), Keys.of(7, n, epoch), **fields)


def test_labels_are_found_through_noise_that_leaves_the_range():
    model, given = Recorder(), view()
    losses = robustaug.create("loss.smoothing", sigma="1/4")(model, given, {})
    [shown] = model.seen
    noise = shown - given.x
    assert float(noise.mean()) == pytest.approx(0, abs=0.01)
    assert float(noise.std()) == pytest.approx(0.25, rel=0.02)
    assert shown.min() < -0.5
    assert shown.max() > 1.5
    assert torch.allclose(losses, F.cross_entropy(shown[:, :2], given.y, reduction="none"))


def test_noise_belongs_to_the_sample_and_the_epoch():
    loss, model = robustaug.create("loss.smoothing", sigma=0.5), Recorder()
    whole = view()
    for one in (whole, *whole.split(2), view(epoch=1)):
        loss(model, one, {})
    first, *parts, later = model.seen
    assert torch.equal(torch.cat(parts), first)
    assert not torch.allclose(later, first)


def test_the_points_of_an_attack_get_the_same_noise():
    model, given = Recorder(), view(clean_share=0.5)
    attacked = View(**{**vars(given), "x_adv": given.x + 1})
    robustaug.create("loss.smoothing", sigma=0.5)(model, attacked, {})
    assert torch.allclose(model.seen[0], model.seen[1] + 1, atol=1e-6)
