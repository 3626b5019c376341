import pytest
import torch
import torch.nn.functional as F

import robustaug
from robustaug.models import checkpoints
from robustaug.rng import Keys
from robustaug.train.view import Facts, View

CNN = {"model.small_cnn": {"channels": 1, "classes": 10, "width": 2, "size": 8}}
SOURCE = robustaug.create("data.digits", split="val")


def first(folder):
    model = robustaug.create("model.small_cnn", **CNN["model.small_cnn"], seed=4).eval()
    checkpoints.save(folder / "first.safetensors", model, {"model": CNN})
    with torch.inference_mode():
        guess = model(torch.stack([sample.image for sample in map(SOURCE.__getitem__, range(297))]).float() / 255)
    return str(folder / "first.safetensors"), guess.argmax(1)


def facts(labels):
    return Facts(SOURCE, labels, 10, None, (), 10, 5, torch.device("cpu"))


def test_mistakes_of_the_first_model_count_several_times(tmp_path):
    path, guess = first(tmp_path)
    loss = robustaug.create("loss.jtt", first=path, times=7)
    labels = torch.where(torch.arange(297) % 3 == 0, (guess + 1) % 10, guess)  # a third is wrong
    memory = loss.memory(facts(labels))
    model, x, rows = torch.nn.Linear(4, 10), torch.rand(297, 4), torch.arange(297)
    losses = loss(model, View(x, labels, rows, Keys.of(0, 297)), memory)
    repeated = torch.cat([rows, *[rows[rows % 3 == 0]] * 6])
    by_hand = F.cross_entropy(model(x[repeated]), labels[repeated])
    assert torch.allclose(losses.mean(), by_hand, atol=1e-5)
    assert loss.files() == (path,)


def test_a_first_model_without_mistakes_is_no_use(tmp_path):
    path, guess = first(tmp_path)
    with pytest.raises(ValueError, match="makes no mistake on the training data; train it for fewer epochs"):
        robustaug.create("loss.jtt", first=path).memory(facts(guess))


def test_a_checkpoint_that_does_not_say_what_it_is_is_named(tmp_path):
    checkpoints.save(tmp_path / "bare.safetensors", robustaug.create("model.small_cnn", **CNN["model.small_cnn"]))
    with pytest.raises(ValueError, match="does not say which model it is for"):
        robustaug.create("loss.jtt", first=str(tmp_path / "bare.safetensors")).memory(facts(SOURCE.labels))
