import pytest
import torch
import torch.nn.functional as F

import robustaug
from robustaug.rng import Keys
from robustaug.train.view import View

LOGITS = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
Y = torch.tensor([0, 1, 2, 2, 1, 0])


def of(loss, **fields):
    return robustaug.create("loss.focal", **loss).of(LOGITS, View(LOGITS, Y, Y, Keys.of(0, 6), **fields), {})


def test_it_is_cross_entropy_times_what_the_prediction_lacks():
    p = LOGITS.softmax(1)[torch.arange(6), Y]
    assert torch.allclose(of({"gamma": 2.0}), -((1 - p) ** 2) * p.log(), atol=1e-6)
    assert torch.allclose(of({"gamma": 0.0}), F.cross_entropy(LOGITS, Y, reduction="none"), atol=1e-6)
    alpha = torch.tensor([0.5, 1.0, 2.0])
    assert torch.allclose(of({"gamma": 0.5, "alpha": [0.5, 1, 2]}), -alpha[Y] * (1 - p) ** 0.5 * p.log(), atol=1e-6)


def test_mixed_labels_count_by_their_shares():
    target = torch.rand(6, 3).softmax(1)
    p = LOGITS.softmax(1)
    assert torch.allclose(of({}, target=target), (target * -((1 - p) ** 2) * p.log()).sum(1), atol=1e-6)


def test_certain_predictions_have_finite_slopes():
    logits = torch.tensor([[100.0, 0.0]], requires_grad=True)
    robustaug.create("loss.focal", gamma=0.5).per_class(logits, {}).sum().backward()
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("alpha", [[-1.0, 1.0], [0.0, 0.0], [[1.0]]])
def test_weights_that_are_none_are_refused(alpha):
    with pytest.raises(ValueError, match="alpha must be numbers >= 0"):
        robustaug.create("loss.focal", alpha=alpha)
