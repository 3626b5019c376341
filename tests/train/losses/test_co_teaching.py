import pytest
import torch
import torch.nn.functional as F

import robustaug
from robustaug.models.twins import pair_of
from robustaug.rng import Keys
from robustaug.train.view import View

CNN = {"model.small_cnn": {"channels": 1, "classes": 3, "width": 2, "size": 8}}


def test_each_network_learns_from_what_the_other_finds_easy():
    model = robustaug.create("model.twins", of=CNN).train()
    x, y = torch.rand(10, 1, 8, 8), torch.arange(10) % 3
    view = View(x, y, torch.arange(10), Keys.of(0, 10), epoch=5.0)
    losses = robustaug.create("loss.co_teaching", forget_rate=0.4, epochs=10)(model, view, {})
    a, b = (F.cross_entropy(one(x), y, reduction="none") for one in pair_of(model))
    easy_a, easy_b = (one.argsort()[:8] for one in (a, b))  # half way to 0.4: 0.8 of ten
    assert float(losses.detach().mean()) == pytest.approx(
        float((a[easy_b].mean() + b[easy_a].mean()).detach()), rel=1e-5
    )
    losses.mean().backward()
    slope = pair_of(model)[0].module[-1].bias.grad
    (by_hand,) = torch.autograd.grad(
        F.cross_entropy(pair_of(model)[0](x), y, reduction="none")[easy_b].mean(), pair_of(model)[0].module[-1].bias
    )
    assert torch.allclose(slope, by_hand, atol=1e-6)


def test_it_forgets_more_and_more_until_its_epoch():
    loss = robustaug.create("loss.co_teaching", forget_rate=0.4, epochs=10)
    assert [round(loss.share(epoch), 3) for epoch in (0.0, 2.5, 10.0, 50.0)] == [1.0, 0.9, 0.6, 0.6]


def test_one_network_is_not_enough():
    view = View(torch.rand(2, 1, 8, 8), torch.tensor([0, 1]), torch.arange(2), Keys.of(0, 2))
    with pytest.raises(ValueError, match="two are needed"):
        robustaug.create("loss.co_teaching")(robustaug.create("model.small_cnn"), view, {})
