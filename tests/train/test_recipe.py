from pathlib import Path

import pytest

from robustaug.config import ConfigError, load, validate
from robustaug.train.recipe import Recipe

PGD = {"attack.pgd": {"eps": 0.1}}
RECIPES = sorted((Path(__file__).parent.parent.parent / "configs" / "train").glob("*.yaml"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attack": {"attack.pgd": {"eps": 8}}}, r"recipe: attack: eps must be <= 1.*got 8; did you mean 8/255\?"),
        ({"attack": [PGD, {"attack.fgsm": {"eps": 8}}]}, r"recipe: attack: .*did you mean 8/255\?"),
        ({"validation_attack": {"attack.pgd": {"eps": 8}}}, r"recipe: validation_attack: .*did you mean 8/255\?"),
        ({"loss": "loss.trades"}, "loss.trades compares samples with attacked ones; add `attack:`"),
        ({"loss": "loss.mart", "attack": []}, "loss.mart compares samples with attacked ones"),
        ({"loss": "loss.trades", "attack": PGD, "clean_share": 0.5}, "loss.trades weighs clean samples itself"),
        (
            {"loss": {"loss.trades": {"bta": 6}}},
            "recipe: loss: loss.trades has no parameter 'bta'; did you mean 'beta'",
        ),
        ({"loss": "attack.pgd"}, "'attack.pgd' is of kind 'attack', not 'loss'"),
        ({"attack": "loss.trades"}, "recipe: attack: 'loss.trades' is no attack on tensors"),
        ({"guard": {"clean_drop": 0.02}}, "guard compares with the checkpoint .* add `checkpoint:`"),
        ({"replays": 4}, "replays is 4 but there is no attack"),
        ({"replays": 4, "attack": [PGD, PGD]}, "replays moves one attack's points .* give one attack"),
        ({"replays": 4, "attack": PGD, "weight_perturbation": {}}, "give one attack and no weight_perturbation"),
        ({"replays": 4, "attack": "attack.ddn"}, "curriculum and replays need attacks with a budget"),
        ({"curriculum": {"epochs": 3}}, "curriculum is given but there is no attack"),
        ({"curriculum": {"epochs": 3, "start": 1}, "attack": PGD}, "curriculum.start: "),
        ({"weight_perturbation": {"gamma": 0}}, "weight_perturbation.gamma: "),
        (
            {"weight_perturbation": {"from_epoch": 1}},
            "weight_perturbation.from_epoch is 1 of 1 epochs, so it never begins",
        ),
        ({"attack": "attack.autoattack"}, "attack.autoattack runs others in turn and has no point of its own"),
        (
            {"attack": {"attack.pgd": {"restarts": 2}}},
            "attack.pgd: training takes one start a sample; set restarts to 1",
        ),
    ],
)
def test_a_wrong_adversarial_recipe_names_its_mistake(changes, message):
    with pytest.raises(ConfigError, match=message):
        validate({"name": "r", "model": "model.small_cnn", "epochs": 1} | changes, Recipe, "recipe")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"optimizer": {"name": "adamw", "momentum": 0.5}},
            "optimizer: momentum is for sgd, adamw does not look at it",
        ),
        ({"optimizer": {"schedule": "cosine", "warmup": 0.1}}, "optimizer: warmup is for one_cycle, cosine does not"),
        ({"optimizer": {"milestones": [0.3]}}, "optimizer: milestones is for step, one_cycle does not look at it"),
        ({"averaging": {"kind": "swa", "decay": 0.9}}, "averaging: decay is for ema, swa does not look at it"),
        ({"averaging": {"from_epoch": 2}}, "averaging: from_epoch is for swa, ema does not look at it"),
        ({"averaging": {"kind": "swa", "from_epoch": 1}}, "averaging.from_epoch is 1 of 1 epochs, so it never begins"),
    ],
)
def test_what_would_be_ignored_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        validate({"name": "r", "model": "model.small_cnn", "epochs": 1} | changes, Recipe, "recipe")


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_recipe_in_a_checkpoint_can_be_read_again(path):
    recipe = load(path, Recipe)
    assert validate(recipe.settings(), Recipe, "checkpoint").settings() == recipe.settings()
