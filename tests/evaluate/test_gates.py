import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustaug.config import ConfigError, Strict, validate
from robustaug.evaluate.gates import FIGURES, GateResult, Limits, check_figures, check_gates, check_limits, split_name


class Config(Strict):
    gates: Limits = {}


def only(limits, figures):
    [result] = check_gates(limits, figures)
    return result


def test_a_broken_gate_names_figure_value_and_limit():
    assert only({"min_robust_accuracy": 0.4}, {"robust_accuracy": 0.312}) == GateResult(
        "min_robust_accuracy",
        "robust_accuracy",
        0.4,
        0.312,
        False,
        "min_robust_accuracy: robust_accuracy 0.312 is below 0.4",
    )
    assert only({"max_ece": 0.1}, {"ece": 0.25}).message == "max_ece: ece 0.25 is above 0.1"


def test_a_kept_gate_says_so():
    result = only({"min_clean_accuracy": 0.9}, {"clean_accuracy": 0.95})
    assert result.passed
    assert result.message == "min_clean_accuracy: clean_accuracy 0.95 keeps the limit 0.9"


def test_a_figure_at_its_limit_passes_up_to_rounding():
    assert only({"max_mean_corruption_error": 0.3}, {"mean_corruption_error": 1 - 0.7}).passed
    assert only({"min_clean_accuracy": 0.3}, {"clean_accuracy": 0.1 * 3 - 1e-16}).passed
    assert not only({"min_clean_accuracy": 0.3}, {"clean_accuracy": 0.3 - 1e-9}).passed


def test_close_numbers_are_shown_with_the_digits_that_tell_them_apart():
    assert only({"min_clean_accuracy": 0.4}, {"clean_accuracy": 0.3999999}).message.endswith("0.3999999 is below 0.4")


@pytest.mark.parametrize("name", ["min_ood_auroc", "max_ood_fpr95"])
def test_what_was_not_measured_fails(name):
    result = only({name: 0.5}, {"clean_accuracy": 1.0})
    assert (result.passed, result.value) == (False, None)
    assert result.message.endswith("was not measured")


@pytest.mark.parametrize("name", ["min_clean_accuracy", "max_clean_accuracy"])
def test_nan_fails(name):
    result = only({name: 0.5}, {"clean_accuracy": math.nan})
    assert (result.passed, result.value) == (False, None)
    assert "not a number" in result.message


def test_every_gate_is_judged_in_the_order_given():
    results = check_gates(
        {"max_ece": 0.1, "min_clean_accuracy": 0.9, "min_pgd@0.1": 0.2},
        {"clean_accuracy": 0.91, "ece": 0.2, "pgd@0.1": 0.5},
    )
    assert [(r.name, r.passed) for r in results] == [
        ("max_ece", False),
        ("min_clean_accuracy", True),
        ("min_pgd@0.1", True),
    ]
    assert check_gates({}, {}) == []


def test_a_misspelt_figure_is_an_error_with_the_nearest_names():
    with pytest.raises(ValueError) as caught:
        check_gates({"min_robst_accuracy": 0.4, "max_eces": 0.1}, {"clean_accuracy": 1.0, "pgd@0.1": 0.2})
    message = str(caught.value)
    assert "min_robst_accuracy: unknown figure 'robst_accuracy'; did you mean 'robust_accuracy'" in message
    assert "max_eces: unknown figure 'eces'" in message
    assert "known figures: " in message
    assert all(name in message for name in [*FIGURES, "pgd@0.1"])


def test_figures_of_a_run_are_known_besides_the_fixed_ones():
    check_figures({"min_gaussian_noise": 0.5, "min_robust_accuracy": 0.1}, ["gaussian_noise"])
    with pytest.raises(ValueError, match="unknown figure 'gaussian_noise'"):
        check_figures({"min_gaussian_noise": 0.5}, [])


@pytest.mark.parametrize("name", ["clean_accuracy", "mean_accuracy", "min_", "min", "minimum_ece", ""])
def test_a_gate_reads_min_or_max(name):
    with pytest.raises(ValueError, match="must read min_<figure> or max_<figure>"):
        split_name(name)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"max_ece": 5}, r"lies in \[0, 1\], so a limit of 5 can never fail; write 0.05 for 5 %"),
        ({"max_mean_corruption_error": 1.5}, "can never fail"),
        ({"min_ood_auroc": -0.1}, "can never fail$"),
        ({"min_clean_accuracy": math.nan}, "must be finite, got nan"),
        ({"max_nll": math.inf}, "must be finite, got inf"),
    ],
)
def test_a_limit_that_guards_nothing_is_refused(limits, message):
    with pytest.raises(ValueError, match=message):
        check_limits(limits)


def test_limits_that_can_fail_are_kept():
    limits = {"max_nll": 2.5, "max_brier": 1.5, "max_temperature": 3, "min_clean_accuracy": 1.01}
    assert check_limits(limits) == limits


def test_limits_in_a_config():
    config = validate({"gates": {"min_clean_accuracy": "9/10", "max_ece": 0.1}}, Config, "c.yaml")
    assert config.gates == {"min_clean_accuracy": 0.9, "max_ece": 0.1}


@pytest.mark.parametrize(
    ("gates", "message"),
    [
        ({"clean_accuracy": 0.9}, r"c\.yaml: gates: gate 'clean_accuracy' must read min_<figure>"),
        ({"max_ece": 10}, "gates: max_ece: ece lies in"),
        ({"max_ece": True}, r"gates\.max_ece: the limit must be a number, got True"),
        ({"max_ece": "low"}, r"gates\.max_ece: .*'low'"),
    ],
)
def test_wrong_limits_in_a_config_name_their_place(gates, message):
    with pytest.raises(ConfigError, match=message):
        validate({"gates": gates}, Config, "c.yaml")


@settings(max_examples=60, deadline=None)
@given(st.floats(0, 1), st.floats(0, 1))
def test_one_of_least_and_greatest_fails_unless_they_meet(value, limit):
    least, greatest = check_gates({"min_ece": limit, "max_ece": limit}, {"ece": value})
    assert least.passed == (value >= limit - 1e-12)
    assert greatest.passed == (value <= limit + 1e-12)
    assert least.passed or greatest.passed
