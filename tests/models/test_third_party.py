import json

import pytest
import torch
from torch import nn

import robustaug
from robustaug.models import checkpoints
from robustaug.models.classifier import require_eval
from robustaug.rng import Keys, torch_seed
from robustaug.train.view import View


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


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """A tiny classifier of texts in a folder, with a tokenizer of whole words."""
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers

    folder = tmp_path_factory.mktemp("bert")
    words = {word: at for at, word in enumerate(["[PAD]", "[UNK]", "a", "fine", "dull", "film"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]"
    ).save_pretrained(folder)
    config = transformers.BertConfig(
        vocab_size=6,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        max_position_embeddings=16,
        num_labels=3,
    )
    with torch_seed(0):
        transformers.BertForSequenceClassification(config).save_pretrained(folder)
    return folder


def test_a_hugging_face_text_classifier_can_be_cut_at_its_embeddings(bert):
    before = torch.random.get_rng_state()
    model = robustaug.create("model.huggingface_text", name=str(bert))
    assert torch.equal(before, torch.random.get_rng_state())
    require_eval(model)
    texts = ["a fine film", "dull"]
    read = model.module.tokenizer(texts, padding=True, return_tensors="pt")
    logits = model.module.module(input_ids=read["input_ids"], attention_mask=read["attention_mask"]).logits
    assert model.num_classes == 3
    assert torch.allclose(model(texts), logits, atol=1e-6)
    assert torch.allclose(model(texts[1:]), logits[1:], atol=1e-5)
    assert not hasattr(model, "vocabulary")
    loss = robustaug.create("loss.freelb")
    view = View(texts, torch.tensor([0, 1]), torch.arange(2), Keys.of(0, 2))
    loss(model, view, {}).sum().backward()
    assert model.module.module.get_input_embeddings().weight.grad.abs().sum() > 0


def test_a_head_of_another_size_is_drawn_only_where_that_is_asked_for(bert, tmp_path):
    with pytest.raises(ValueError, match=r"mismatch|does not fill"):
        robustaug.create("model.huggingface_text", name=str(bert), classes=5)
    one, two = (
        robustaug.create("model.huggingface_text", name=str(bert), classes=5, fresh_head=True, seed=1) for _ in "ab"
    )
    assert torch.equal(one(["a film"]), two(["a film"]))
    assert one(["a film"]).shape == (1, 5)
    with pytest.raises(ValueError, match="cannot load"):
        robustaug.create("model.huggingface_text", name=str(tmp_path))
