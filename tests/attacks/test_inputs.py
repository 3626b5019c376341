"""Bad input: one clear line each, before any attack starts."""

import math

import pytest
import torch
from torch import nn

import robustaug
from robustaug.attacks.driver import perturb
from robustaug.rng import Keys


def model(classes=3):
    return nn.Sequential(nn.Flatten(), nn.Linear(8, classes)).eval()


def attack(**params):
    return robustaug.create("attack.pgd", **{"eps": 0.1, "steps": 2} | params)


X, Y = torch.full((4, 2, 4), 0.5), torch.tensor([0, 1, 2, 0])


def changed(value):
    x = X.clone()
    x[2, 0, 0] = value
    return x


@pytest.mark.parametrize(
    ("x", "y", "error", "message"),
    [
        (X.numpy(), Y, TypeError, "must be torch.Tensors, got ndarray"),
        ((X * 255).byte(), Y, TypeError, r"got torch.uint8; pass x.float\(\) / 255"),
        (X.half(), Y, TypeError, "must be float32 or float64, got torch.float16"),
        (X[:, 0, 0], Y, ValueError, r"x must have shape \(B, ...\)"),
        (torch.zeros(4, 0), Y, ValueError, "at least one value a sample"),
        (changed(math.nan), Y, ValueError, "x holds NaN"),
        (changed(math.inf), Y, ValueError, r"box \[0, 1\]"),
        (X * 255, Y, ValueError, r"got values in \[127.5, 127.5\]; divide by 255"),
        (X - 1, Y, ValueError, "undo the normalisation, or set box"),
        (X, Y.float(), TypeError, r"y must hold class indices in int64, got torch.float32; pass y.long\(\)"),
        (X, Y > 0, TypeError, "got torch.bool"),
        (X, Y[:3], ValueError, r"one class a sample: shape \(4,\), got \(3,\)"),
        (X, torch.eye(4).long(), ValueError, r"got \(4, 4\)"),
        (X, Y + 1, ValueError, "y must be in 0 to 2, the model's classes; got 3"),
        (X, Y - 1, ValueError, "got -1"),
    ],
)
def test_bad_samples_and_labels(x, y, error, message):
    with pytest.raises(error, match=message):
        attack()(model(), x, y)


def test_rounding_beyond_the_box_is_no_error():
    result = attack()(model(), changed(-3e-8), Y)
    assert (result.verified == result.success).all()


def test_labels_of_other_whole_types_are_taken():
    expected = attack()(model_fixed := model(), X, Y)
    assert torch.equal(attack()(model_fixed, X, Y.to(torch.int32)).x_adv, expected.x_adv)


def test_train_mode_names_the_layer_and_the_fix():
    module = nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(8, 3))
    with pytest.raises(ValueError, match=r"layer '0' \(Flatten\) is in train mode.*model\.eval\(\)"):
        attack()(module, X, Y)
    module.eval()[1].train()
    with pytest.raises(ValueError, match=r"layer '1' \(Dropout\)"):
        attack()(module, X, Y)


def test_another_device_is_named():
    with pytest.raises(ValueError, match="x is on cpu but the model is on meta"):
        attack()(model().to("meta"), X, Y)
    with pytest.raises(ValueError, match="y is on meta but x is on cpu"):
        attack()(model(), X, Y.to("meta"))


@pytest.mark.parametrize(
    ("eps", "message"),
    [
        (8, r"eps must be <= 1, the whole box \[0, 1\] in Linf, got 8; did you mean 8/255\?"),
        (-0.1, "eps must be a finite number >= 0"),
        ("eight", "fraction such as '8/255', got 'eight'"),
        (math.nan, "finite"),
        (torch.tensor([0.1, 0.2]), r"eps must be one number or have shape \(4,\), got \(2,\)"),
        (torch.tensor([0.1, 0.2, -0.1, 0.1]), "eps must be a finite number >= 0"),
        (torch.tensor([0.1, 0.2, math.nan, 0.1]), "finite"),
        (torch.tensor([0.1, 4.0, 0.1, 0.1]), "did you mean 4/255"),
    ],
)
def test_budgets_that_cannot_be_meant(eps, message):
    with pytest.raises(ValueError, match=message):
        attack()(model(), X, Y, eps=eps)


def test_an_l2_budget_is_judged_by_the_size_of_the_sample():
    assert attack(norm="L2", eps=2.0)(model(), X, Y).x_adv.shape == X.shape
    with pytest.raises(ValueError, match=r"eps must be <= 2.828.* in L2, got 3; did you mean 3/255"):
        attack(norm="L2", eps=3.0)(model(), X, Y)


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"eps": 8}, ValueError, r"got 8; did you mean 8/255\?"),
        ({"norm": "l2"}, ValueError, "norm must be one of 'Linf', 'L2', got 'l2'"),
        ({"loss": "cw"}, ValueError, "loss must be one of 'ce', 'margin'"),
        ({"steps": 0}, ValueError, "steps must be a whole number >= 1, got 0"),
        ({"steps": 2.5}, ValueError, "steps must be"),
        ({"restarts": 0}, ValueError, "restarts must be"),
        ({"restarts": 2, "random_start": False}, ValueError, "would repeat itself"),
        ({"step_size": 0}, ValueError, "step_size must be > 0"),
        ({"step_size": "fast"}, ValueError, "step_size must be a number or a fraction"),
        ({"box": (1, 0)}, ValueError, r"box must be \(low, high\)"),
        ({"targeted": "yes"}, ValueError, "targeted must be true or false"),
        ({"random_start": None}, ValueError, "random_start must be true or false"),
        ({"step": 3}, TypeError, "attack.pgd has no parameter 'step'; did you mean 'steps'"),
    ],
)
def test_bad_parameters(params, error, message):
    with pytest.raises(error, match=message):
        attack(**params)


def test_bad_targets_and_keys():
    with pytest.raises(ValueError, match="set targeted=True"):
        attack()(model(), X, Y, target=Y)
    with pytest.raises(ValueError, match="target must be in 0 to 2"):
        attack(targeted=True)(model(), X, Y, target=Y + 3)
    with pytest.raises(TypeError, match="target must hold class indices"):
        attack(targeted=True)(model(), X, Y, target=Y.float())
    with pytest.raises(ValueError, match="keys must have one entry a sample: 4 samples, 3 keys"):
        attack()(model(), X, Y, keys=Keys.of(0, 3))


def test_training_refuses_what_it_would_ignore():
    with pytest.raises(ValueError, match="training takes one start a sample; set restarts to 1, not 3"):
        perturb(attack(restarts=3), model(), X, Y, Keys.of(0, 4))
    with pytest.raises(ValueError, match="one class a sample"):
        perturb(attack(), model(), X, Y[:2], Keys.of(0, 4))
    with pytest.raises(ValueError, match="did you mean 9/255"):
        perturb(attack(norm="L2", eps=9), model(), X, Y, Keys.of(0, 4))


def test_one_output_is_not_two_classes():
    with pytest.raises(ValueError, match="for two classes return two logits"):
        attack()(model(1), X, Y * 0)
