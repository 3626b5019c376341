import pytest
import torch

import robustaug
from robustaug.models import checkpoints
from robustaug.models.twins import pair_of

CNN = {"model.small_cnn": {"channels": 1, "classes": 10, "width": 2, "size": 8}}


def test_their_logits_are_the_mean_of_both():
    model, x = robustaug.create("model.twins", of=CNN).eval(), torch.rand(3, 1, 8, 8)
    first, second = pair_of(model)
    assert torch.allclose(model(x), (first(x) + second(x)) / 2)
    assert not torch.allclose(first(x), second(x))
    assert model.num_classes == 10
    assert model.has_features
    assert torch.equal(model.features(x), torch.cat([first.features(x), second.features(x)], dim=1))


def test_the_first_is_what_the_model_alone_would_be(tmp_path):
    twins, alone = (
        robustaug.create("model.twins", of=CNN, seed=3),
        robustaug.create(*CNN, **CNN[next(iter(CNN))], seed=3),
    )
    weights = pair_of(twins)[0].state_dict()
    assert all(torch.equal(weights[key], value) for key, value in alone.state_dict().items())
    checkpoints.save(tmp_path / "w.safetensors", twins)
    other = robustaug.create("model.twins", of=CNN, seed=9)
    checkpoints.load_into(tmp_path / "w.safetensors", other)
    assert all(torch.equal(a, b) for a, b in zip(twins.parameters(), other.parameters(), strict=True))


def test_what_would_be_no_twins_is_refused(tmp_path):
    net = {"name": "shufflenet_v2_x0_5", "classes": 2}
    checkpoints.save(tmp_path / "w.safetensors", robustaug.create("model.torchvision", **net))
    with pytest.raises(ValueError, match="would begin the same, as no seed draws their weights"):
        robustaug.create("model.twins", of={"model.torchvision": net | {"weights": str(tmp_path / "w.safetensors")}})
    with pytest.raises(ValueError, match="both networks would begin the same"):
        robustaug.create("model.twins", of={"model.small_cnn": {"seed": 1}})
    with pytest.raises(ValueError, match="of kind 'source', not 'model'"):
        robustaug.create("model.twins", of="data.digits")
    with pytest.raises(ValueError, match="small_cnn is one network; two are needed"):
        pair_of(robustaug.create("model.small_cnn"))
