import pytest

from robustaug.config import ConfigError, validate
from robustaug.train.recipe import Recipe

PGD = {"attack.pgd": {"eps": 0.1}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attack": {"attack.pgd": {"eps": 8}}}, r"recipe: attack: eps must be <= 1.*got 8; did you mean 8/255\?"),
        ({"attack": [PGD, {"attack.fgsm": {"eps": 8}}]}, r"recipe: attack: .*did you mean 8/255\?"),
        ({"validation_attack": {"attack.pgd": {"eps": 8}}}, r"recipe: validation_attack: .*did you mean 8/255\?"),
        ({"loss": {"loss.grad_align": {"eps": 8}}, "attack": PGD}, r"recipe: loss: .*did you mean 8/255\?"),
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
    ],
)
def test_a_wrong_adversarial_recipe_names_its_mistake(changes, message):
    with pytest.raises(ConfigError, match=message):
        validate({"name": "r", "model": "model.small_cnn", "epochs": 1} | changes, Recipe, "recipe")
