import json

import pytest
import torch
from torch import nn

import robustaug
from robustaug.models import checkpoints
from robustaug.models.classifier import require_eval
from robustaug.rng import torch_seed


def test_a_torchvision_model_has_its_classes_and_normalisation():
    model = robustaug.create("model.torchvision", name="squeezenet1_1", classes=4).eval()
    assert model(torch.rand(2, 3, 64, 64)).shape == (2, 4)
    assert "0.485" in repr(model)
    assert not model.has_features  # its head is a convolution


def test_fresh_weights_depend_on_the_seed_alone():
    one, two = (robustaug.create("model.torchvision", name="shufflenet_v2_x0_5", classes=2, seed=1) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_torchvision_weights_come_from_a_checkpoint(tmp_path):
    one = robustaug.create("model.torchvision", name="shufflenet_v2_x0_5", classes=2, seed=1)
    path = tmp_path / "w.safetensors"
    checkpoints.save(path, one)
    two = robustaug.create("model.torchvision", name="shufflenet_v2_x0_5", classes=2, weights=str(path))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    with pytest.raises(ValueError, match=r"does not fit ShuffleNetV2.*shapes different"):
        robustaug.create("model.torchvision", name="shufflenet_v2_x0_5", classes=3, weights=str(path))


def test_unknown_torchvision_names_and_weights_are_told_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'resnet18'"):
        robustaug.create("model.torchvision", name="resnet-18")
    with pytest.raises(ValueError, match="path of a checkpoint; or one of torchvision's: IMAGENET1K_V1"):
        robustaug.create("model.torchvision", name="squeezenet1_1", weights="imagenet")


def test_a_timm_model_is_normalised_as_timm_says(tmp_path):
    pytest.importorskip("timm")
    model = robustaug.create("model.timm", name="test_resnet", classes=4, seed=1).eval()
    x = torch.rand(2, 3, 64, 64)
    assert model(x).shape == (2, 4)
    assert model.features(x).shape[0] == 2
    assert "mean=" in repr(model)
    checkpoints.save(tmp_path / "w.safetensors", model)
    again = robustaug.create("model.timm", name="test_resnet", classes=4, weights=str(tmp_path / "w.safetensors"))
    assert torch.equal(again.eval()(x), model(x))
    grey = robustaug.create("model.timm", name="test_resnet", classes=4, channels=1).eval()
    assert grey(torch.rand(1, 1, 64, 64)).shape == (1, 4)
    with pytest.raises(ValueError, match="timm has no model 'resnet-18'; did you mean"):
        robustaug.create("model.timm", name="resnet-18")


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("vit")
    config = transformers.ViTConfig(
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        image_size=16,
        patch_size=8,
        num_labels=4,
    )
    with torch_seed(0):
        transformers.ViTForImageClassification(config).save_pretrained(folder)
    transformers.ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(folder)
    return folder


def test_a_hugging_face_classifier_resizes_and_normalises_inside(vit):
    before = torch.random.get_rng_state()
    model = robustaug.create("model.huggingface", name=str(vit))
    assert torch.equal(before, torch.random.get_rng_state())
    require_eval(model)
    x = torch.rand(2, 3, 16, 16, requires_grad=True)
    assert model.num_classes == 4
    assert torch.allclose(model(x), model.module.module((x - 0.5) / 0.5).logits)
    small = torch.rand(2, 3, 9, 12, requires_grad=True)
    model(small).sum().backward()
    assert small.grad is not None
    assert small.grad.abs().sum() > 0
    assert model.features(small).shape == (2, 8)


def test_hugging_face_weights_must_fill_the_model(vit, tmp_path):
    for file in vit.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    config["num_hidden_layers"] = 2
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="does not fill its model"):
        robustaug.create("model.huggingface", name=str(tmp_path))


def test_hugging_face_pickles_and_missing_folders_are_refused(vit, tmp_path):
    for name in ("config.json", "preprocessor_config.json"):
        (tmp_path / name).write_bytes((vit / name).read_bytes())
    torch.save(nn.Linear(1, 1).state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"cannot load .* from Hugging Face"):
        robustaug.create("model.huggingface", name=str(tmp_path))
    with pytest.raises(ValueError, match="cannot load"):
        robustaug.create("model.huggingface", name=str(tmp_path / "nowhere"))
