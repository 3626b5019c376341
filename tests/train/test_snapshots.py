import math

import pytest
import torch
from safetensors.torch import load_file

import robustaug
from robustaug import experiment
from robustaug.config import ConfigError, validate
from robustaug.experiment import ModelSource, load_model
from robustaug.models import checkpoints
from robustaug.train import trainer
from robustaug.train.recipe import Recipe
from robustaug.train.schedule import Optimizer

CPU = torch.device("cpu")
CNN = {"model.small_cnn": {"channels": 1, "classes": 10, "width": 4, "size": 8}}
DATA = {"train": {"data.digits": {"split": "train"}}, "validation": {"data.digits": {"split": "val"}}}
CYCLES = {"schedule": "cycles", "cycles": 3, "lr": 0.1}


def recipe(**changes):
    base = {"name": "r", "model": CNN, "data": DATA, "epochs": 6, "batch_size": 250, "snapshots": True}
    return validate(base | {"optimizer": CYCLES} | changes, Recipe, "recipe")


def test_the_rate_falls_along_half_a_cosine_in_every_cycle():
    rates = [Optimizer(lr=0.2, schedule="cycles", cycles=3).rate(step, 12) for step in range(12)]
    cycle = [0.2 / 2 * (math.cos(math.pi * step / 4) + 1) for step in range(4)]
    assert rates == pytest.approx(cycle * 3)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    return folder, trainer.train(recipe(), folder, CPU)


def test_the_trained_model_is_the_ensemble_of_the_weights_at_the_end_of_each_cycle(trained):
    folder, result = trained
    assert sorted(place.name for place in (folder / "snapshots").iterdir()) == ["1", "2", "3"]
    each = [checkpoints.load(folder / "snapshots" / str(n) / "model.safetensors") for n in (1, 2, 3)]
    assert checkpoints.read_metadata(folder / "snapshots/2/model.safetensors")["figures"]["epoch"] == 3
    x = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    mean = torch.stack([model(x).softmax(1) for model in each]).mean(0)
    assert torch.allclose(result.model(x).exp(), mean, atol=1e-6)
    assert len({tuple(model(x)[0].tolist()) for model in each}) == 3
    assert result.best["snapshots"] == 3
    assert result.checkpoint == folder / "ensemble" / "model.safetensors"
    # the file alone is the whole: any command that takes a checkpoint takes it
    stored = load_model(validate({"checkpoint": str(result.checkpoint)}, ModelSource, "model"))
    assert torch.equal(stored(x), result.model(x))
    assert "members" in dict(stored.module.named_children())  # what disagreement is read from


def test_training_that_was_killed_ends_with_the_same_ensemble(trained, tmp_path):
    class KilledError(Exception):
        pass

    def kill(done, total, course):
        if done == total * 5 // 8:
            raise KilledError

    with pytest.raises(KilledError):
        trainer.train(recipe(), tmp_path, CPU, kill)
    again = trainer.train(recipe(), tmp_path, CPU)
    ours, theirs = load_file(again.checkpoint), load_file(trained[1].checkpoint)
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    assert again.best == trained[1].best


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"optimizer": {}}, "optimizer.schedule: cycles"),
        ({"epochs": 7}, "epochs is a multiple"),
        ({"optimizer": CYCLES | {"cycles": 1}}, "2 or more"),
        ({"averaging": {}}, "leave averaging out"),
        ({"patience": 3}, "leave patience out"),
        ({"optimizer": {"cycles": 3}}, "cycles is for cycles"),
    ],
)
def test_what_makes_no_snapshots_is_refused(changes, words):
    with pytest.raises(ConfigError, match=words):
        recipe(**changes)


def test_ensembles_of_every_kind_are_measured_by_an_experiment(trained, tmp_path):
    """Snapshots from the recipe; a deep ensemble of checkpoints; one network that looks at several views."""
    folder, _ = trained
    paths = [str(folder / "snapshots" / str(n) / "model.safetensors") for n in (1, 2)]
    stored = [{"model.checkpoint": {"path": path}} for path in paths]
    (tmp_path / "recipe.yaml").write_text(recipe().model_dump_json(exclude={"data"}))
    content = {
        "name": "several",
        "data": DATA | {"test": {"data.subset": {"of": {"data.digits": {"split": "test"}}, "per_class": 5}}},
        "models": {
            "one": {"checkpoint": paths[0]},
            "deep": {"model": {"model.ensemble": {"of": stored}}},
            "views": {"model": {"model.augmented": {"of": stored[0], "by": ["image.translate"], "draws": 3}}},
            "snapshots": {"train": "recipe.yaml"},
        },
        "suite": {
            "scenarios": {"far": {"ood": {"data.synthetic": {"n": 20}}, "role": "far"}},
            "scores": ["ood.msp", "ood.disagreement"],
        },
    }
    plan = experiment.resolve(validate(content, experiment.Experiment, "experiment"), tmp_path)
    outcome = experiment.run(plan, tmp_path / "run")
    assert {*outcome.figures} == {"one", "deep", "views", "snapshots"}
    assert "far_disagreement_auroc" in outcome.figures["deep"]
    assert "far_disagreement_auroc" in outcome.figures["snapshots"]
    assert "far_disagreement_auroc" in outcome.figures["views"]  # views may be of different minds, too
    assert "far_disagreement_auroc" not in outcome.figures["one"]
    x = robustaug.create("data.digits", split="test").as_input(torch.zeros(2, 1, 8, 8, dtype=torch.uint8), CPU)
    assert load_model(plan.experiment.models["deep"])(x).shape == (2, 10)
