import pytest
import torch

import robustaug
from robustaug.models import checkpoints
from robustaug.models.calibrated import calibrated
from robustaug.models.classifier import require_eval, wrap
from robustaug.models.fingerprint import model_fingerprint
from robustaug.models.scaling import TemperatureScaling, VectorScaling, save_scaling

CNN = {"model.small_cnn": {"channels": 1, "classes": 10, "width": 2, "size": 8}}
X = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def test_everyone_sees_the_calibrated_logits(tmp_path):
    save_scaling(tmp_path / "c.safetensors", VectorScaling([0.5] * 10, [float(k) for k in range(10)]))
    spec = {"model.calibrated": {"of": CNN, "by": str(tmp_path / "c.safetensors")}}
    model = robustaug.create("model.calibrated", **spec["model.calibrated"]).eval()
    plain = robustaug.create("model.small_cnn", **CNN["model.small_cnn"]).eval()
    assert torch.allclose(model(X), plain(X) / 2 + torch.arange(10))
    assert torch.allclose(model.features(X), plain.features(X))
    assert model.num_classes == 10
    assert model_fingerprint(model) != model_fingerprint(plain)
    checkpoints.save(tmp_path / "w.safetensors", model, {"model": spec})
    assert torch.equal(checkpoints.load(tmp_path / "w.safetensors")(X), model(X))
    exported = torch.export.export(model, (X,), strict=False).module()
    assert torch.allclose(exported(X), model(X), atol=1e-6)


def test_the_normalisation_stays_and_the_model_is_left_as_it_was():
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3)).eval()
    plain = wrap(module, mean=0.4, std=0.2, num_classes=3)
    before = plain(X)
    model = calibrated(plain, TemperatureScaling(4.0))
    assert torch.allclose(model(X), before / 4)
    assert torch.equal(plain(X), before)
    require_eval(model)


def test_texts_are_calibrated_on_every_way_through_the_model():
    plain = robustaug.create("model.text_cnn", classes=2).eval()
    model = calibrated(plain, TemperatureScaling(2.0)).eval()
    texts = ["a fine film", "no"]
    plain.meet(texts)
    assert torch.allclose(model(texts), plain(texts) / 2)
    assert torch.allclose(model.from_embeddings(*model.embed(texts)), plain(texts) / 2)
    if hasattr(plain, "tokens"):
        tokens = model.tokens(texts)
        embedded = model.embeddings[tokens.ids]
        both = [one.logits_from_embeddings(embedded, tokens) for one in (model, plain)]
        assert torch.allclose(both[0], both[1] / 2)


def test_another_number_of_classes_is_refused():
    with pytest.raises(ValueError, match="vector scaling was fitted on 3 classes, 'small_cnn' has 10"):
        calibrated(robustaug.create("model.small_cnn"), VectorScaling([1.0] * 3, [0.0] * 3))
