import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustaug.config import ConfigError, Strict, validate
from robustaug.evaluate.gates import (
    ERROR_RATE,
    FIGURES,
    GateResult,
    Limits,
    Verdict,
    check_figures,
    check_gates,
    check_limits,
    confidence_of_each,
    overall,
    split_name,
)
from robustaug.evaluate.statistics import Interval, wilson


class Config(Strict):
    gates: Limits = {}


PASS, FAIL, INCONCLUSIVE = Verdict


def only(limits, figures, intervals=None):
    [result] = check_gates(limits, figures, intervals or {})
    return result


def test_a_broken_gate_names_figure_value_and_limit():
    assert only({"min_robust_accuracy": 0.4}, {"robust_accuracy": 0.312}) == GateResult(
        "min_robust_accuracy",
        "robust_accuracy",
        0.4,
        0.312,
        0.312,
        0.312,
        FAIL,
        "min_robust_accuracy: robust_accuracy 0.312 is below 0.4",
    )
    assert only({"max_ece": 0.1}, {"ece": 0.25}).message == "max_ece: ece 0.25 is above 0.1"


def test_a_kept_gate_says_so():
    result = only({"min_clean_accuracy": 0.9}, {"clean_accuracy": 0.95})
    assert result.verdict is PASS
    assert result.message == "min_clean_accuracy: clean_accuracy 0.95 keeps the limit 0.9"


def test_a_figure_at_its_limit_passes_up_to_rounding():
    assert only({"max_mean_corruption_error": 0.3}, {"mean_corruption_error": 1 - 0.7}).verdict is PASS
    assert only({"min_clean_accuracy": 0.3}, {"clean_accuracy": 0.1 * 3 - 1e-16}).verdict is PASS
    assert only({"min_clean_accuracy": 0.3}, {"clean_accuracy": 0.3 - 1e-9}).verdict is FAIL


def test_close_numbers_are_shown_with_the_digits_that_tell_them_apart():
    assert only({"min_clean_accuracy": 0.4}, {"clean_accuracy": 0.3999999}).message.endswith("0.3999999 is below 0.4")


@pytest.mark.parametrize("name", ["min_ood_auroc", "max_ood_fpr95"])
def test_what_was_not_measured_fails(name):
    result = only({name: 0.5}, {"clean_accuracy": 1.0})
    assert (result.verdict, result.value) == (FAIL, None)
    assert result.message.endswith("was not measured")


@pytest.mark.parametrize("name", ["min_clean_accuracy", "max_clean_accuracy"])
def test_nan_fails(name):
    result = only({name: 0.5}, {"clean_accuracy": math.nan})
    assert (result.verdict, result.value) == (FAIL, None)
    assert "not a number" in result.message


def test_every_gate_is_judged_in_the_order_given():
    results = check_gates(
        {"max_ece": 0.1, "min_clean_accuracy": 0.9, "min_pgd@0.1": 0.2},
        {"clean_accuracy": 0.91, "ece": 0.2, "pgd@0.1": 0.5},
        {},
    )
    assert [(r.name, r.verdict) for r in results] == [
        ("max_ece", FAIL),
        ("min_clean_accuracy", PASS),
        ("min_pgd@0.1", PASS),
    ]
    assert check_gates({}, {}, {}) == []


@pytest.mark.parametrize(
    ("gate", "limit", "verdict"),
    [
        ("min", 0.7, PASS),
        ("min", 0.75, PASS),
        ("min", 0.8, INCONCLUSIVE),
        ("min", 0.85, INCONCLUSIVE),
        ("min", 0.9, FAIL),
        ("max", 0.9, PASS),
        ("max", 0.85, PASS),
        ("max", 0.8, INCONCLUSIVE),
        ("max", 0.7, FAIL),
    ],
)
def test_a_gate_is_decided_where_the_whole_interval_is_on_one_side(gate, limit, verdict):
    found = only({f"{gate}_ece": limit}, {"ece": 0.8}, {"ece": Interval(0.8, 0.75, 0.85)})
    assert (found.verdict, found.value, found.low, found.high) == (verdict, 0.8, 0.75, 0.85)
    assert "ece 0.8 (0.75 to 0.85)" in found.message
    assert ("measure more samples" in found.message) == (verdict is INCONCLUSIVE)


def test_one_failure_fails_all_and_one_open_gate_leaves_all_open():
    assert overall([PASS, INCONCLUSIVE, FAIL]) is FAIL
    assert overall([PASS, INCONCLUSIVE]) is INCONCLUSIVE
    assert overall([PASS]) is overall([]) is PASS


@pytest.mark.parametrize(("n", "limit"), [(40, 0.9), (400, 0.95), (2000, 0.5)])
def test_gates_on_a_figure_at_its_limit_are_wrong_no_more_often_than_stated(n, limit):
    """A/A: five models whose true accuracy is the limit, 4,000 times. Any verdict but "inconclusive" is an error; five
    gates are together held to ERROR_RATE, and a binomial count of 4,000 is within 4 deviations."""
    draw, gates = np.random.default_rng(0), 5
    each = {k: wilson(k, n, confidence_of_each(gates)) for k in range(n + 1)}
    said = {k: only({"min_ece": limit}, {"ece": k / n}, {"ece": interval}).verdict for k, interval in each.items()}
    wrong = np.array([said[k] is not INCONCLUSIVE for k in range(n + 1)])
    runs = wrong[draw.binomial(n, limit, (4000, gates))].any(axis=1).mean()
    assert runs <= ERROR_RATE + 4 * math.sqrt(ERROR_RATE / 4000) + (0.02 if n == 40 else 0)  # Wilson is not exact


def test_a_misspelt_figure_is_an_error_with_the_nearest_names():
    with pytest.raises(ValueError) as caught:
        check_gates({"min_robst_accuracy": 0.4, "max_eces": 0.1}, {"clean_accuracy": 1.0, "pgd@0.1": 0.2}, {})
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
    least, greatest = check_gates({"min_ece": limit, "max_ece": limit}, {"ece": value}, {})
    assert (least.verdict is PASS) == (value >= limit - 1e-12)
    assert (greatest.verdict is PASS) == (value <= limit + 1e-12)
    assert PASS in (least.verdict, greatest.verdict)
