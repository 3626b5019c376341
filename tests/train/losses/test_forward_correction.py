import pytest
import torch

import robustaug
from robustaug.rng import Keys
from robustaug.train.losses.forward_correction import at_anchors
from robustaug.train.view import Facts, View

Y = torch.tensor([0, 1, 2, 2])
FACTS = Facts(robustaug.create("data.digits"), Y, 3, None, (), 10, 5, torch.device("cpu"))
LOGITS = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
T = torch.tensor([[0.7, 0.2, 0.1], [0.0, 1.0, 0.0], [0.3, 0.3, 0.4]])


def of(loss, **fields):
    return loss.of(LOGITS, View(LOGITS, Y, torch.arange(4), Keys.of(0, 4), **fields), loss.memory(FACTS))


def test_it_is_minus_the_logarithm_of_the_written_labels_chance():
    loss = robustaug.create("loss.forward_correction", transition=T.tolist())
    chance = torch.stack([sum(p[i] * T[i] for i in range(3)) for p in LOGITS.softmax(1)])
    assert torch.allclose(of(loss), -chance[torch.arange(4), Y].log(), atol=1e-6)
    target = torch.rand(4, 3).softmax(1)
    assert torch.allclose(of(loss, target=target), -(target * chance.log()).sum(1), atol=1e-6)


def test_a_rate_spreads_evenly_over_the_other_classes():
    memory = robustaug.create("loss.forward_correction", noise_rate=0.4).memory(FACTS)
    assert torch.allclose(memory["transition"], torch.full((3, 3), 0.2) + 0.4 * torch.eye(3))


def test_the_transition_is_read_off_where_a_class_is_certain():
    """A model that predicts written labels: samples sure to be of class i, among others, show row i of T."""
    unsure = torch.full((50, 3), 1 / 3)
    shares = torch.cat([unsure @ T, torch.eye(3).repeat(5, 1) @ T])
    assert torch.allclose(at_anchors(shares, 1.0), T)
    assert torch.equal(at_anchors(shares, 0.0), shares[shares.argmin(0)])


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({}, "give one of transition, noise_rate and first, got none"),
        ({"noise_rate": 0.1, "first": "x"}, "give one of .* got .'noise_rate', 'first'."),
        ({"transition": [[1, 0]]}, "must be K rows of K numbers"),
        ({"transition": [[1, 1], [0, 1]]}, "sum to 1"),
        ({"noise_rate": 1.0}, "noise_rate must be in"),
    ],
)
def test_mistakes_are_named(params, message):
    with pytest.raises(ValueError, match=message):
        robustaug.create("loss.forward_correction", **params)


def test_a_matrix_for_other_classes_and_a_checkpoint_that_is_none_are_named():
    with pytest.raises(ValueError, match="transition has 2 classes, the model 3"):
        robustaug.create("loss.forward_correction", transition=[[1, 0], [0, 1]]).memory(FACTS)
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at gone\.safetensors"):
        robustaug.create("loss.forward_correction", first="gone.safetensors").memory(FACTS)
