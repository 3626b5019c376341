"""The one way to the model: gradients and logits are the model's own, in any batches, for any rows."""

import pytest
import torch
from torch import nn

from robustaug.attacks.ask import Ask
from robustaug.attacks.execution import Execution
from robustaug.attacks.losses import LOSSES


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4)).double().eval()


def points(n=5):
    return torch.rand(n, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


class Noted:
    """A witness that notes what it is told."""

    def __init__(self):
        self.seen, self.counts = [], []

    def reserve(self, forwards):
        pass

    def spent(self, forwards, backwards, grad):
        self.counts.append((forwards, backwards))

    def saw(self, x, logits, loss):
        self.seen.append((x, logits, loss))

    def of(self, rows):
        return self


@pytest.mark.parametrize("size", [None, 1, 2])
@pytest.mark.parametrize("loss", LOSSES)
def test_the_gradient_is_that_of_each_samples_loss(size, loss):
    model, x, y, noted = network(), points(), torch.tensor([0, 1, 2, 3, 0]), Noted()
    answer = Ask(model, Execution(batch_size=size), noted).gradient(x, LOSSES[loss], y)
    leaf = x.clone().requires_grad_()
    value = LOSSES[loss](model(leaf), y)
    torch.testing.assert_close(answer.grad, torch.autograd.grad(value.sum(), leaf)[0])
    torch.testing.assert_close(answer.loss, value.detach())
    torch.testing.assert_close(answer.logits, model(x).detach())
    assert noted.counts == [(1, 1)]
    assert torch.equal(noted.seen[0][0], x)


def confident(surplus):
    """Convolutions that are sure of class 0 by `surplus`, and images."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)).eval()
    with torch.no_grad():
        net[3].bias.copy_(torch.tensor([surplus, 0.0, 0.0]))
    return net, torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(1)), torch.zeros(4, dtype=torch.int64)


@pytest.mark.parametrize("surplus", [2.0, 22.0])
@pytest.mark.parametrize("way", ["execution", "autocast"])
def test_slopes_too_small_for_fp16_are_found_in_it(surplus, way):
    """To 1 % of the largest: at a surplus of 22 they are below 1e-10, and fp16 holds nothing below 6e-8."""
    net, x, y = confident(surplus)
    exact = Ask(net, Execution()).gradient(x, LOSSES["ce"], y).grad
    with torch.autocast("cpu", torch.float16, enabled=way == "autocast"):
        found = Ask(net, Execution(precision="fp16" if way == "execution" else "full")).gradient(x, LOSSES["ce"], y)
    assert exact.abs().max() < 1e-10 or surplus == 2
    largest = exact.flatten(1).abs().amax(1).reshape(4, 1, 1, 1)
    assert ((found.grad - exact).abs() <= 0.01 * largest).all()
    assert (exact != 0).any()


def test_float32_slopes_are_those_of_autograd_to_the_last_bit():
    net, x, y = confident(2.0)
    leaf = x.clone().requires_grad_()
    [exact] = torch.autograd.grad(LOSSES["ce"](net(leaf), y).sum(), leaf)
    assert torch.equal(Ask(net, Execution()).gradient(x, LOSSES["ce"], y).grad, exact)


@pytest.mark.parametrize("size", [None, 2])
def test_the_jacobian_is_that_of_the_chosen_logits(size):
    model, x, noted = network(), points(), Noted()
    classes = torch.tensor([[0, 1, 3], [3, 2, 1], [0, 0, 2], [1, 2, 3], [2, 1, 0]])
    logits, found = Ask(model, Execution(batch_size=size), noted).jacobian(x, classes)
    whole = torch.stack([torch.autograd.functional.jacobian(lambda v: model(v[None])[0], row) for row in x])
    expected = torch.stack([whole[i][classes[i]] for i in range(5)])
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(logits, model(x).detach())
    assert noted.counts == [(1, 3)]


def test_the_model_is_shown_what_the_view_makes_and_the_gradient_is_of_what_it_is_made_from():
    model, x, y, noted = network(), points(), torch.zeros(5, dtype=torch.int64), Noted()
    scale = torch.arange(1.0, 6.0, dtype=torch.float64).reshape(5, 1, 1)
    ask = Ask(model, Execution(batch_size=2), noted)
    answer = ask.gradient(x, LOSSES["ce"], y, view=lambda leaf, part: leaf * scale[part])
    plain = Ask(model, Execution()).gradient(x * scale, LOSSES["ce"], y)
    torch.testing.assert_close(answer.grad, plain.grad * scale)
    assert torch.equal(noted.seen[0][0], x * scale)


def test_repeated_passes_of_a_random_model_are_averaged_and_the_point_stays_the_point():
    class Changing(nn.Module):
        def __init__(self):
            super().__init__()
            self.calls = 0

        def forward(self, x):
            self.calls += 1
            return torch.stack([self.calls * x.flatten(1).sum(1), -x.flatten(1).sum(1)], 1)

    x = torch.tensor([[0.754419208, 0.2], [0.363478482, 1e-9]])  # whose mean over three passes is another number
    assert not torch.equal((x + x + x) / 3, x)
    noted = Noted()
    answer = Ask(Changing(), Execution(), noted).gradient(x, lambda z: z[:, 0], repeats=3)
    assert answer.grad.tolist() == [[2, 2], [2, 2]]  # the mean of 1, 2 and 3
    assert noted.counts == [(3, 3)]
    assert torch.equal(noted.seen[0][0], x)


def test_gradients_are_kept_where_each_pass_overwrites_the_last():
    """As CUDA graphs do, which write each answer to the same memory."""
    memory = torch.zeros(2, 3)

    class Overwriting(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, grad):
            return memory.copy_(grad)

    _, found = Ask(Overwriting.apply, Execution()).jacobian(torch.rand(2, 3), torch.tensor([[0, 2], [1, 0]]))
    assert found.tolist() == [[[1, 0, 0], [0, 0, 1]], [[0, 1, 0], [1, 0, 0]]]


def test_points_of_no_interest_are_not_told():
    noted = Noted()
    ask = Ask(network(), Execution(), noted)
    ask.logits(points(), keep=False)
    ask.gradient(points(), LOSSES["ce"], torch.zeros(5, dtype=torch.int64), keep=False)
    assert noted.seen == []
    assert noted.counts == [(1, 0), (1, 1)]


def test_an_input_the_model_ignores_has_a_gradient_of_zero():
    class Constant(nn.Module):
        def __init__(self):
            super().__init__()
            self.bias = nn.Parameter(torch.tensor([1.0, 0.0]))

        def forward(self, x):
            return self.bias.expand(len(x), 2) * 1

    ask = Ask(Constant(), Execution())
    assert not ask.gradient(torch.rand(3, 2), LOSSES["ce"], torch.zeros(3, dtype=torch.int64)).grad.any()
    assert not ask.jacobian(torch.rand(3, 2), torch.tensor([[0, 1]] * 3))[1].any()


def test_no_gradient_at_all_is_an_error():
    class Rounded(nn.Module):
        def forward(self, x):
            return x.detach()

    with pytest.raises(ValueError, match="output has no gradient"):
        Ask(Rounded(), Execution()).gradient(torch.rand(2, 3), LOSSES["ce"], torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ValueError, match="output has no gradient"):
        Ask(Rounded(), Execution()).jacobian(torch.rand(2, 3), torch.tensor([[0, 1]] * 2))
