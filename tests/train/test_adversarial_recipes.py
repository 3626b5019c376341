"""Each adversarial recipe under configs/train, shortened: what it claims to improve, it improves."""

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import robustaug
from robustaug.config import load
from robustaug.models import checkpoints
from robustaug.train.processes import Processes
from robustaug.train.recipe import Recipe
from robustaug.train.trainer import train
from robustaug.train.validation import Validation

CONFIGS = Path(__file__).parents[2] / "configs" / "train"
CPU = torch.device("cpu")
SHORT = (
    "epochs=2",
    "batch_size=100",
    "optimizer.lr=0.2",
    "validation_limit=80",
    "model={model.small_cnn: {classes: 10, width: 8, size: 8}}",
)
LINF = "validation_attack={attack.pgd: {eps: 0.15, steps: 5}}"


def short(name, *overrides):
    return load(CONFIGS / f"{name}.yaml", Recipe, [*SHORT, *overrides])


@pytest.fixture(scope="module")
def standard(tmp_path_factory):
    """Ordinary training, judged as the robust ones are: the baseline, and the start or helper of some."""
    return train(short("digits_standard", LINF, "epochs=4"), tmp_path_factory.mktemp("standard"), CPU)


LINF_RECIPES = {
    "pgd_at": (),
    "trades": (),
    "trades_awp": ("weight_perturbation.from_epoch=1",),
    "mart": (),
    "mart_awp": ("weight_perturbation.from_epoch=1",),
    "free": ("epochs=1",),
    "fast": (),
    "fast_grad_align": (),
    "nfgsm": (),
    "fat": (),
    "curriculum": ("curriculum.epochs=1",),
    "hat": ("loss.loss.hat.helper={helper}", "optimizer.lr=0.1"),
}
"""By name, what else is shortened or filled in."""


@pytest.mark.parametrize("name", LINF_RECIPES)
def test_it_withstands_more_than_ordinary_training(name, standard, tmp_path):
    """At eps 0.15 by at least 20 points under PGD-5, after two epochs; measured are 35 to 50."""
    extra = [one.format(helper=standard.checkpoint) for one in LINF_RECIPES[name]]
    robust = train(short(name, LINF, *extra), tmp_path, CPU)
    assert robust.best["val_robust_accuracy"] >= standard.best["val_robust_accuracy"] + 0.2
    assert robust.best["val_accuracy"] > 0.6


@pytest.mark.parametrize("name", ["multinorm_msd", "multinorm_max", "multinorm_average"])
def test_it_withstands_more_in_three_norms_at_once(name, standard, tmp_path):
    """By at least 10 points on samples that have to withstand an attack in each norm, after two epochs."""
    recipe = short(name)
    robust = train(recipe, tmp_path, CPU)
    held_back = robustaug.create("data.digits", split="val")
    ordinary = Validation(recipe, held_back, *recipe.judges(), CPU, Processes())(standard.model)
    assert robust.best["val_robust_accuracy"] >= ordinary["val_robust_accuracy"] + 0.1


def test_fine_tuning_makes_a_checkpoint_robust_and_keeps_its_clean_accuracy(standard, tmp_path):
    """By at least 20 points at eps 0.15, for at most 3 points of clean accuracy."""
    tuned = train(
        short("finetune", LINF, f"checkpoint={standard.checkpoint}", "epochs=3", "optimizer.lr=0.05"), tmp_path, CPU
    )
    assert tuned.start["val_accuracy"] == pytest.approx(standard.best["val_accuracy"])
    assert tuned.best["val_robust_accuracy"] >= tuned.start["val_robust_accuracy"] + 0.2
    assert tuned.best["val_accuracy"] >= tuned.start["val_accuracy"] - 0.03


def test_where_the_guard_lets_no_epoch_through_the_checkpoint_is_kept(standard, tmp_path):
    changes = (f"checkpoint={standard.checkpoint}", "epochs=1", "guard.clean_drop=0", "optimizer.lr=0.5", LINF)
    tuned = train(short("finetune", *changes), tmp_path, CPU)
    assert tuned.history[0]["val_accuracy"] < tuned.start["val_accuracy"]
    assert tuned.best == tuned.start
    kept, begun = load_file(tuned.checkpoint), load_file(standard.checkpoint)
    assert all(torch.equal(kept[key], begun[key]) for key in begun)


def test_an_alarm_ends_training_with_the_weights_of_the_best_epoch(tmp_path, monkeypatch):
    """Validation says what it would of training that overfits its one step in the third epoch of five."""
    script = iter([(0.30, 0.35), (0.50, 0.60), (0.10, 0.95)])

    def figures(self, model):
        robust, single = next(script)
        return {"val_accuracy": 0.9, "val_robust_accuracy": robust, "val_single_step_accuracy": single}

    monkeypatch.setattr(Validation, "__call__", figures)
    recipe = short("fast", LINF, "epochs=5", "batch_size=500")
    trained = train(recipe, tmp_path, CPU)
    assert trained.stopped.startswith("catastrophic overfitting in epoch 3")
    assert "rolled back to epoch 2" in trained.stopped
    assert len(trained.history) == 3
    assert trained.best["epoch"] == 1
    assert checkpoints.read_metadata(tmp_path / "best/model.safetensors")["figures"]["epoch"] == 1
    best, last = (load_file(tmp_path / which / "model.safetensors") for which in ("best", "last"))
    now = trained.model.module.state_dict()
    assert all(torch.equal(now[key], best[key]) for key in best)
    assert not all(torch.equal(now[key], last[key]) for key in last)
    again = train(recipe, tmp_path, CPU)  # it has ended for good
    assert again.stopped == trained.stopped
    assert len(again.history) == 3


@pytest.mark.parametrize("name", ["finetune", "hat"])
def test_what_has_to_be_trained_first_is_named(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    where = "runs/digits_standard/best/model.safetensors; make it with `robustaug train`, or give another path"
    with pytest.raises(FileNotFoundError, match=re.escape(f"no checkpoint at {where}")):
        train(short(name), tmp_path / "run", CPU)


def test_the_helper_is_part_of_what_the_weights_depend_on(standard, tmp_path):
    helper = tmp_path / "helper.safetensors"
    helper.write_bytes(standard.checkpoint.read_bytes())
    recipe = short("hat", LINF, f"loss.loss.hat.helper={helper}", "epochs=1", "validation_limit=1")
    train(recipe, tmp_path / "run", CPU)
    checkpoints.save(helper, standard.model, checkpoints.read_metadata(standard.checkpoint) | {"touched": True})
    with pytest.raises(ValueError, match="another recipe, data or device"):
        train(recipe, tmp_path / "run", CPU)
