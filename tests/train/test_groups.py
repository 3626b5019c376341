"""Groups: how an epoch is judged by its worst one, and what losses that look at them gain."""

from pathlib import Path

import numpy as np
import pytest
import torch

import robustaug
from robustaug.config import load, validate
from robustaug.data import open_source
from robustaug.data.source import batches
from robustaug.models.checkpoints import read_metadata
from robustaug.train.recipe import Recipe
from robustaug.train.trainer import train

CONFIGS = Path(__file__).parents[2] / "configs/train"
CPU = torch.device("cpu")


def digits(split, agreement):
    return {"data.spurious": {"of": {"data.digits": {"split": split}}, "agreement": agreement}}


def recipe(**changes):
    base = {
        "name": "r",
        "model": {"model.small_cnn": {"channels": 1, "classes": 10, "width": 8, "size": 8}},
        "data": {"train": digits("train", 0.98), "validation": digits("val", 0.5), "groups": ["group"]},
        "epochs": 2,
        "batch_size": 64,
    }
    return validate(base | changes, Recipe, "recipe")


def accuracies(model, spec):
    """Accuracy of each group by name."""
    source = open_source(spec)
    [batch] = batches(source, len(source))
    with torch.inference_mode():
        right = (model.eval()(batch.image.float() / 255).argmax(1) == batch.label).numpy()
    return {str(name): right[source.cohorts["group"] == name].mean() for name in np.unique(source.cohorts["group"])}


def test_an_epoch_is_judged_by_its_worst_group(tmp_path):
    trained = train(recipe(epochs=4, select="worst_group"), tmp_path, CPU)
    best = max(trained.history, key=lambda one: (one["val_worst_group_accuracy"], one["val_accuracy"]))
    assert read_metadata(trained.checkpoint)["figures"]["epoch"] == best["epoch"]
    worst = min(accuracies(trained.model, digits("val", 0.5)).values())
    assert best["val_worst_group_accuracy"] == pytest.approx(worst)
    assert best["val_accuracy"] > worst


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": {"train": digits("train", 0.9), "validation": digits("val", 0.9)}}, "select is worst_group; name"),
        (
            {
                "data": {
                    "train": digits("train", 0.9),
                    "validation": {"data.digits": {"split": "val"}},
                    "groups": ["group"],
                }
            },
            r"data.groups names 'group'; digits/val has columns \['ink', 'class'\]",
        ),
        (
            {"data": {"train": digits("train", 0.9), "validation": digits("val", 1.0), "groups": ["group"]}},
            "select is worst_group, but the validation data hold no sample of group 'cued without'",
        ),
    ],
)
def test_groups_that_are_not_there_are_named(changes, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        train(recipe(select="worst_group", **changes), tmp_path, CPU)


def test_group_dro_and_a_second_training_lift_the_worst_group(tmp_path):
    """The configs, on digits with a square that goes with 5 to 9 for 98 %: by at least 3 points.

    Measured 4 to 14 (group DRO) and 4 to 7 (JTT) over three seeds.
    """

    def run(name, loss=None, **changes):
        config = load(CONFIGS / ("jtt.yaml" if name == "jtt" else "group_dro.yaml"), Recipe)
        changes |= {} if loss is None else {"loss": loss}
        return train(config.model_copy(update={"name": name, **changes}), tmp_path / name, CPU)

    run("first", "loss.cross_entropy", epochs=4)
    first = str(tmp_path / "first/last/model.safetensors")
    models = {
        "erm": run("erm", "loss.cross_entropy").model,
        "group_dro": run("group_dro").model,
        "jtt": run("jtt", {"loss.jtt": {"first": first, "times": 3}}).model,
    }
    worst = {name: min(accuracies(model, digits("test", 0.5)).values()) for name, model in models.items()}
    assert worst["group_dro"] >= worst["erm"] + 0.03, worst
    assert worst["jtt"] >= worst["erm"] + 0.03, worst


def test_a_loss_that_needs_groups_says_so(tmp_path):
    data = {"train": {"data.digits": {"split": "train"}}, "validation": {"data.digits": {"split": "val"}}}
    with pytest.raises(ValueError, match=r"loss\.group_dro looks at groups; name the columns"):
        train(recipe(data=data, loss="loss.group_dro"), tmp_path, CPU)
    assert robustaug.create("loss.group_dro").needs == {"group"}
