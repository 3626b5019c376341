import pytest
import torch
import torch.nn.functional as F

import robustaug

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
