"""The networks we define: small_cnn and preact_resnet18."""

import pytest
import torch

import robustaug

NETWORKS = {
    "model.small_cnn": ({"channels": 1, "classes": 10, "width": 4, "size": 8}, (1, 8, 8)),
    "model.preact_resnet18": ({"channels": 3, "classes": 7, "width": 4}, (3, 32, 32)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_logits_and_features_have_their_shapes(name):
    params, shape = NETWORKS[name]
    model = robustaug.create(name, **params).eval()
    x = torch.rand(2, *shape)
    assert model(x).shape == (2, params["classes"])
    assert model.num_classes == params["classes"]
    assert model.features(x).shape == (2, params["width"] * {"model.small_cnn": 4}.get(name, 8))


@pytest.mark.parametrize("name", NETWORKS)
def test_weights_depend_on_the_seed_alone(name):
    params, _ = NETWORKS[name]
    before = torch.random.get_rng_state()
    one = robustaug.create(name, seed=3, **params).state_dict()
    torch.rand(5)
    two = robustaug.create(name, seed=3, **params).state_dict()
    other = robustaug.create(name, seed=4, **params).state_dict()
    assert all(torch.equal(one[k], two[k]) for k in one)
    assert any(not torch.equal(one[k], other[k]) for k in one)
    torch.random.set_rng_state(before)
    robustaug.create(name, **params)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("size", [1, 2, 8, 28, 32, 64])
def test_the_small_network_takes_pictures_of_any_size(size):
    model = robustaug.create("model.small_cnn", channels=2, classes=3, width=2, size=size).eval()
    assert model(torch.rand(2, 2, size, size)).shape == (2, 3)


def test_the_published_width_has_the_published_number_of_weights():
    model = robustaug.create("model.preact_resnet18")
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 1) == 11.2


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("model.small_cnn", {"classes": 1}, "classes must be a whole number >= 2, got 1"),
        ("model.small_cnn", {"width": 0}, "width must be"),
        ("model.small_cnn", {"channels": 1.5}, "channels must be"),
        ("model.preact_resnet18", {"width": "64"}, "width must be"),
    ],
)
def test_sizes_that_cannot_be_are_refused(name, params, message):
    with pytest.raises(ValueError, match=message):
        robustaug.create(name, **params)
