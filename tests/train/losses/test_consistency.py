import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import robustaug
from robustaug.rng import Keys
from robustaug.train.view import Unlabelled, View

WEAK = torch.tensor([[4.0, 0.0, 0.0], [0.5, 0.4, 0.0]])  # sure of 0 (0.96), and not sure (0.42)
STRONG = torch.tensor([[0.0, 1.0, 0.0], [0.0, 2.0, 0.0]])


def mean(**params):
    """Return what unlabelled samples add to each of four labelled ones; the model says what it is shown."""
    view = View(torch.zeros(4, 3), torch.zeros(4, dtype=torch.int64), torch.arange(4), Keys.of(0, 4))
    both = View(view.x, view.y, view.position, view.keys, unlabelled=Unlabelled(WEAK, STRONG, Keys.of(1, 2), 0.5))
    losses = robustaug.create("loss.consistency", **params)(nn.Identity(), both, {})
    return (losses - F.cross_entropy(view.x, view.y)).mean()


def test_sure_guesses_become_labels_and_the_mean_is_over_all():
    expected = F.cross_entropy(STRONG[:1], torch.tensor([0])) / 2  # the second guess is below 0.95
    assert float(mean()) == pytest.approx(float(expected), rel=1e-5)
    both = F.cross_entropy(STRONG, torch.tensor([0, 0]))
    assert float(mean(threshold=0.0, weight=2.0)) == pytest.approx(2 * float(both), rel=1e-5)


def test_a_temperature_keeps_guesses_soft():
    for temperature in (1.0, 0.4):
        p, q = (WEAK / temperature).softmax(1), STRONG.softmax(1)
        expected = (p * (p / q).log()).sum(1).mean()
        assert float(mean(threshold=0.0, temperature=temperature)) == pytest.approx(float(expected), rel=1e-5)
    assert float(mean(threshold=0.5, temperature=1.0)) == pytest.approx(
        float(F.kl_div(STRONG[:1].log_softmax(1), WEAK[:1].softmax(1), reduction="sum") / 2), rel=1e-5
    )


def test_guesses_get_no_gradient():
    weak, strong = WEAK.clone().requires_grad_(), STRONG.clone().requires_grad_()
    view = View(
        torch.zeros(2, 3),
        torch.zeros(2, dtype=torch.int64),
        torch.arange(2),
        Keys.of(0, 2),
        unlabelled=Unlabelled(weak, strong, Keys.of(1, 2), 1.0),
    )
    robustaug.create("loss.consistency", threshold=0.0, temperature=1.0)(nn.Identity(), view, {}).mean().backward()
    assert weak.grad.abs().sum() == 0
    assert strong.grad.abs().sum() > 0


@pytest.mark.parametrize(("key", "value"), [("threshold", 1.5), ("temperature", -1), ("weight", math.inf)])
def test_wrong_parameters_are_refused(key, value):
    with pytest.raises(ValueError, match=f"loss.consistency: {key} must be"):
        robustaug.create("loss.consistency", **{key: value})
