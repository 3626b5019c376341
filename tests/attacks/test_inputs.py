"""Bad input: one clear line each, before any attack starts."""

import math

import pytest
import torch
from torch import nn

import robustaug
from robustaug.attacks.driver import perturb
from robustaug.attacks.inputs import eps_rows
from robustaug.attacks.threat import NORMS, Threat
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
        (8, r"eps must be <= 1, the whole box of width 1 in Linf, got 8; did you mean 8/255\?"),
        (-0.1, "eps must be a finite number >= 0"),
        ("eight", "fraction such as '8/255', got 'eight'"),
        (math.nan, "finite"),
        (math.inf, "finite"),  # no nearest point is looked for
        (torch.tensor([0.1, 0.2, math.inf, 0.1]), "finite"),
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
    with pytest.raises(ValueError, match=r"eps must be <= 2.82843, the whole box of width 1 in L2, got 3$"):
        attack(norm="L2", eps=3.0)(model(), X, Y)


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"eps": 8}, ValueError, r"got 8; did you mean 8/255\?"),
        ({"norm": "l2"}, ValueError, "norm must be one of 'Linf', 'L2', 'L1', got 'l2'"),
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


@pytest.mark.parametrize(
    ("norm", "most"), [("L1", "8, the whole box of width 1 in L1"), ("L2", "2.82843"), ("Linf", "1, the whole box")]
)
def test_budgets_are_judged_in_their_norm(norm, most):
    with pytest.raises(ValueError, match=f"eps must be <= {most}"):
        attack(norm=norm, eps=0.5)(model(), X, Y, eps=9)


def test_an_l0_budget_counts_values_whatever_the_box():
    threat = Threat(NORMS["L0"], 0.0, 300.0)
    assert eps_rows(8, threat, X).tolist() == [8.0] * 4
    with pytest.raises(ValueError, match="eps must be <= 8, the whole box of width 300 in L0, got 9"):
        eps_rows(9, threat, X)


@pytest.mark.parametrize(
    ("box", "message"),
    [
        (
            (torch.zeros(3), torch.ones(3)),
            r"box must hold numbers, or tensors that broadcast to one sample \(2, 4\), got",
        ),
        ((torch.zeros(4, 2, 4), torch.ones(4, 2, 4)), r"got shape \(4, 2, 4\)"),
        ((torch.zeros(2, 1), torch.tensor([1.0, 0.4, 1.0, 1.0])), r"x must lie in the box \[0, 1\]"),
    ],
)
def test_boxes_that_do_not_fit_the_samples(box, message):
    with pytest.raises(ValueError, match=message):
        attack(box=box)(model(), X, Y)


def test_rounding_beside_a_narrow_box_is_judged_by_that_box():
    """A column a million wide does not let one that is a thousandth wide out of its own."""
    low, high = torch.zeros(8), torch.full((8,), 1e6)
    high[0] = 1e-3
    x = torch.zeros(2, 8)
    x[:, 0] = torch.tensor([1e-3, 2e-3])
    rows = torch.zeros(2, dtype=torch.int64)
    assert attack(eps=0.1, box=(low, high))(model(), x[:1], rows[:1]).verified.shape == (1,)
    with pytest.raises(ValueError, match="x must lie in the box"):
        attack(eps=0.1, box=(low, high))(model(), x, rows)


@pytest.mark.parametrize(
    ("mask", "error", "message"),
    [
        (
            torch.ones(4, 2, 4),
            TypeError,
            "mask must be a bool tensor, true where values may be changed, got torch.float32",
        ),
        ([True], TypeError, "got list"),
        (torch.ones(3, 4, dtype=torch.bool), ValueError, r"mask must broadcast to x \(4, 2, 4\), got \(3, 4\)"),
    ],
)
def test_bad_masks(mask, error, message):
    with pytest.raises(error, match=message):
        attack()(model(), X, Y, mask=mask)


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
    with pytest.raises(ValueError, match="the whole box of width 1 in L2, got 9"):
        perturb(attack(norm="L2", eps=9), model(), X, Y, Keys.of(0, 4))


def test_one_output_is_not_two_classes():
    with pytest.raises(ValueError, match="for two classes return two logits"):
        attack()(model(1), X, Y * 0)
