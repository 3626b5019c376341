import pytest
import torch
from pyarrow import parquet
from safetensors.torch import load_file

import robustaug
from robustaug.config import ConfigError, validate
from robustaug.rng import subset
from robustaug.train import trainer
from robustaug.train.recipe import Recipe

CPU = torch.device("cpu")
DIGITS = {"train": {"data.digits": {"split": "train"}}, "validation": {"data.digits": {"split": "val"}}}
MODEL = {"model.small_cnn": {"channels": 1, "classes": 10, "width": 4, "size": 8}}


def recipe(**changes):
    base = {"name": "r", "model": MODEL, "data": DIGITS, "epochs": 2, "batch_size": 250}
    return validate(base | changes, Recipe, "recipe")


def weights(trained):
    return load_file(trained.checkpoint)


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_training_is_a_function_of_the_recipe(tmp_path):
    torch.manual_seed(1)
    one = trainer.train(recipe(), tmp_path / "one", CPU)
    torch.manual_seed(2)  # the global generator must not matter
    two = trainer.train(recipe(), tmp_path / "two", CPU)
    other = trainer.train(recipe(seed=1), tmp_path / "three", CPU)
    assert same(weights(one), weights(two))
    assert not same(weights(one), weights(other))


def test_the_global_generator_is_left_alone(tmp_path):
    before = torch.random.get_rng_state()
    trainer.train(
        recipe(epochs=1, augment=["image.gaussian_noise"], attack={"attack.pgd": {"eps": 0.1, "steps": 1}}),
        tmp_path,
        CPU,
    )
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_training_stopped_between_steps_ends_with_the_same_weights(tmp_path, name):
    class StoppedError(Exception):
        pass

    settings = recipe(epochs=3, optimizer={"name": name, "lr": 0.01}, augment=["image.gaussian_noise"])
    whole = trainer.train(settings, tmp_path / "whole", CPU)

    def stop_in_epoch_two(done, total, figures):
        if done == total // 2:
            raise StoppedError

    with pytest.raises(StoppedError):
        trainer.train(settings, tmp_path / "cut", CPU, stop_in_epoch_two)
    resumed = trainer.train(settings, tmp_path / "cut", CPU)
    assert same(
        load_file(tmp_path / "whole/last/state.safetensors"), load_file(tmp_path / "cut/last/state.safetensors")
    )
    assert same(weights(whole), weights(resumed))
    assert [h["loss"] for h in whole.history] == [h["loss"] for h in resumed.history]


def test_the_attacked_validation_samples_are_a_random_choice_not_the_first(tmp_path):
    """Folders of classes are read class by class: the first samples would judge an epoch by one class."""
    settings = recipe(epochs=1, validation_attack={"attack.pgd": {"eps": 0.0, "steps": 1}}, validation_limit=60)
    trained = trainer.train(settings, tmp_path, CPU)  # no budget: accuracy on the samples that were chosen
    validation = robustaug.create("data.digits", split="val")
    chosen = [validation[int(position)] for position in subset(len(validation), 60, settings.seed)]
    labels = torch.tensor([int(sample.label) for sample in chosen])
    with torch.inference_mode():
        predicted = trained.model(torch.stack([sample.image for sample in chosen]).float() / 255).argmax(1)
    assert trained.history[0]["val_robust_accuracy"] == pytest.approx(float((predicted == labels).float().mean()))


def test_a_folder_of_other_training_is_refused_and_kept(tmp_path):
    trainer.train(recipe(epochs=1), tmp_path, CPU)
    before = (tmp_path / "last/state.safetensors").read_bytes()
    with pytest.raises(ValueError, match="another recipe, data or device"):
        trainer.train(recipe(epochs=1, seed=5), tmp_path, CPU)
    assert (tmp_path / "last/state.safetensors").read_bytes() == before


def test_a_damaged_state_is_named(tmp_path):
    trainer.train(recipe(epochs=1), tmp_path, CPU)
    path = tmp_path / "last/state.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"state\.safetensors is damaged"):
        trainer.train(recipe(epochs=1), tmp_path, CPU)


def test_the_best_epoch_is_chosen_by_robust_accuracy(tmp_path):
    settings = recipe(epochs=4, attack={"attack.pgd": {"eps": 0.2, "steps": 2}}, validation_limit=100)
    trained = trainer.train(settings, tmp_path, CPU)
    best = max(trained.history, key=lambda h: (h["val_robust_accuracy"], h["val_accuracy"]))
    from robustaug.models.checkpoints import read_metadata

    assert read_metadata(trained.checkpoint)["figures"]["epoch"] == best["epoch"]
    assert parquet.read_table(tmp_path / "history.parquet").to_pylist() == trained.history
    assert not trained.model.training


def test_adversarial_training_buys_robust_accuracy(tmp_path):
    """On digits with eps 0.2, by at least 15 points under PGD-10; measured gap is above 30."""
    attack = {"attack.pgd": {"eps": 0.2, "steps": 3}}
    common = {
        "epochs": 8,
        "batch_size": 50,
        "model": {"model.small_cnn": {"channels": 1, "classes": 10, "width": 8, "size": 8}},
    }
    standard = trainer.train(recipe(**common), tmp_path / "standard", CPU)
    robust = trainer.train(recipe(attack=attack, **common), tmp_path / "robust", CPU)
    source = robustaug.create("data.digits", split="test")
    samples = [source[i] for i in range(200)]
    x = torch.stack([s.image for s in samples]).float() / 255
    y = torch.tensor([s.label for s in samples])
    judge = robustaug.create("attack.pgd", eps=0.2, steps=10)
    left = {m: (~judge(t.model, x, y).success).float().mean() for m, t in (("standard", standard), ("robust", robust))}
    assert left["robust"] >= left["standard"] + 0.15


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "epochs: "),
        ({"optimizer": {"lr": -1}}, "optimizer.lr: "),
        ({"optimizer": {"nam": "sgd"}}, "optimizer.nam: unknown key; did you mean 'name'"),
        ({"clean_share": 0.5}, "there is no attack"),
        ({"augment": ["image.brightnes"]}, r"\[0\].*did you mean 'image.brightness'"),
        ({"model": "model.tiny"}, "unknown name 'model.tiny'"),
        ({"name": "../escape"}, "name: "),
    ],
)
def test_a_wrong_recipe_names_its_mistake(changes, message):
    with pytest.raises(ConfigError, match=message):
        recipe(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 5000}, "only .* samples"),
        ({"data": None}, "names no data"),
        (
            {"model": {"model.small_cnn": {"channels": 1, "classes": 5, "width": 4, "size": 8}}},
            "5 outputs, the data 10 classes",
        ),
        ({"optimizer": {"lr": 1e18}, "epochs": 3}, r"loss became .* lower optimizer.lr"),
    ],
)
def test_training_that_cannot_work_stops_with_one_clear_line(changes, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        trainer.train(recipe(**changes), tmp_path, CPU)
