import pytest
import torch
import torch.nn.functional as F
from torch import nn

import robustaug
from robustaug import registry
from robustaug.models.classifier import wrap

CNN = {"model.small_cnn": {"channels": 1, "classes": 10, "width": 2, "size": 8}}


def test_logits_are_scaled_cosines_of_the_features():
    model, x = robustaug.create("model.cosine_head", of=CNN, scale=20).eval(), torch.rand(3, 1, 8, 8)
    head = model.module[-1]
    by_hand = F.cosine_similarity(model.features(x)[:, None], head.weight[None], dim=2)
    assert torch.allclose(model(x), 20 * by_hand, atol=1e-4)
    assert model.num_classes == 10


def test_the_length_of_a_class_means_nothing():
    model, x = robustaug.create("model.cosine_head", of=CNN).eval(), torch.rand(3, 1, 8, 8)
    before = model(x)
    with torch.no_grad():
        model.module[-1].weight[4] *= 7
    assert torch.allclose(model(x), before, atol=1e-4)


def test_what_it_cannot_do_is_named():
    with pytest.raises(ValueError, match="scale must be > 0 and finite, got 0"):
        robustaug.create("model.cosine_head", of=CNN, scale=0)
    with pytest.raises(ValueError, match="small_cnn twins has 2 linear layers that may give the logits"):
        robustaug.create("model.cosine_head", of={"model.twins": {"of": CNN}})
    with pytest.raises(ValueError, match="squeezenet1_1 has 0 linear layers"):
        robustaug.create("model.cosine_head", of={"model.torchvision": {"name": "squeezenet1_1", "classes": 4}})


def test_the_layer_that_gives_the_logits_is_exchanged_wherever_it_was_registered(monkeypatch):
    """A layer that helps in training may stand behind it."""

    class Backwards(nn.Module):
        def __init__(self):
            super().__init__()
            self.head, self.helper = nn.Linear(4, 3), nn.Linear(4, 7)

        def forward(self, x):
            return self.head(x)

    monkeypatch.setattr(registry, "_entries", {**registry._entries})
    registry.register("model.test_backwards")(lambda: wrap(Backwards(), num_classes=3))
    model, x = robustaug.create("model.cosine_head", of="model.test_backwards", scale=5), torch.ones(6, 4)
    assert type(model.module.helper) is nn.Linear
    assert model(x).abs().max() <= 5
