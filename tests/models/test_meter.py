import copy
import time

import pytest
import torch

from robustaug.attacks.execution import Execution
from robustaug.laps import Laps
from robustaug.models.classifier import wrap
from robustaug.models.meter import Meter

CPU = torch.device("cpu")
PAUSE = 0.02


class Pausing(torch.autograd.Function):
    """The identity; takes a while each way."""

    @staticmethod
    def forward(ctx, x):
        time.sleep(PAUSE)
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        time.sleep(PAUSE)
        return grad


class Slow(torch.nn.Module):
    def forward(self, x):
        return Pausing.apply(x)


@pytest.fixture
def model():
    made = wrap(Slow(), num_classes=3).eval()
    made.meter = Meter(CPU)
    return made


def test_passes_forward_count_and_what_is_between_them_does_not(model):
    begun = time.perf_counter()
    for _ in range(2):
        with torch.inference_mode():
            model(torch.zeros(2, 3))
    inside = time.perf_counter() - begun
    assert 2 * PAUSE <= model.meter.seconds() <= inside


def test_a_pass_back_counts_once_it_comes_to_the_input(model):
    x = torch.zeros(2, 3, requires_grad=True)
    value = model(x).sum()
    forward = model.meter.seconds()
    torch.autograd.grad(value, x)
    assert forward + PAUSE <= model.meter.seconds()


def test_several_passes_back_of_one_forward_count_each(model):
    x = torch.zeros(2, 3, requires_grad=True)
    logits = model(x)
    for _ in range(3):
        torch.autograd.grad(logits.sum(), x, retain_graph=True)
    assert model.meter.seconds() >= 4 * PAUSE


def test_no_moment_counts_twice_where_an_input_is_shown_twice(model):
    x = torch.zeros(2, 3, requires_grad=True)
    begun = time.perf_counter()
    torch.autograd.grad(model(x).sum() + model(x).sum(), x)
    assert model.meter.seconds() <= time.perf_counter() - begun


def test_answers_and_slopes_are_what_they_were(model):
    x = torch.rand(2, 1, 1, 3)
    plain = wrap(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3, 3)), mean=0.5, std=0.25).eval()
    metered = copy.deepcopy(plain)
    metered.meter = Meter(CPU)
    leaf, other = (x.clone().requires_grad_() for _ in range(2))
    assert torch.equal(plain(leaf), metered(other))
    grads = [torch.autograd.grad(m(at).square().sum(), at)[0] for m, at in ((plain, leaf), (metered, other))]
    assert torch.equal(*grads)


def test_a_copy_such_as_attacks_make_counts_for_the_same_meter():
    layers = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Flatten())
    model = wrap(layers, num_classes=16).eval()
    model.meter = Meter(CPU)
    x = torch.rand(2, 1, 4, 4)
    searched = Execution().prepare(model, x)
    assert searched.differs, "batch normalisation is folded as it is without a meter"
    before = model.meter.seconds()
    searched.ask(x)
    assert model.meter.seconds() > before


def test_time_between_marks_is_added():
    laps = Laps(CPU)
    begun = laps.mark()
    time.sleep(0.01)
    laps.add("a", begun, laps.mark())
    assert laps.seconds()["a"] >= 0.01
