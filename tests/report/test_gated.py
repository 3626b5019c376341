"""Gates in words on the page."""

import pytest

from robustaug.evaluate.gates import check_gates
from robustaug.evaluate.statistics import Interval
from robustaug.report.gated import sentence

SPACE = "\u202f"


def of(limits, value, *ends):
    figure = next(iter(limits)).removeprefix("min_").removeprefix("max_")
    [found] = check_gates(limits, {figure: value}, {figure: Interval(value, *ends)} if ends else {})
    return sentence(found._asdict()).replace(SPACE, " ")


@pytest.mark.parametrize(
    ("said", "limits", "figures"),
    [
        ("98.6 % (96.7 % to 99.4 %) keeps the limit of 90.0 %", {"min_clean_accuracy": 0.9}, (0.986, 0.967, 0.994)),
        ("31.2 % is below the limit of 40.0 %", {"min_clean_accuracy": 0.4}, (0.312,)),
        ("4.0 % (1.0 % to 7.0 %) cannot be told from the limit of 5.0 %", {"max_cue_gap": 0.05}, (0.04, 0.01, 0.07)),
        ("ECE 0.120 is above the limit of 0.100", {"max_ece": 0.1}, (0.12,)),
        ("drop of clean accuracy 0.4 % keeps the limit of 1.0 %", {"max_drop_clean_accuracy": 0.01}, (0.004,)),
    ],
)
def test_a_gate_is_said_with_the_digits_of_the_page(said, limits, figures):
    assert said in of(limits, *figures)


def test_digits_that_tell_nothing_apart_are_not_used():
    assert of({"min_clean_accuracy": 0.9}, 0.89999) == "min_clean_accuracy: clean_accuracy 0.89999 is below 0.9"


def test_what_older_runs_say_is_kept():
    assert (
        sentence({"name": "max_ece", "message": "max_ece: ece 0.1 keeps the limit"})
        == "max_ece: ece 0.1 keeps the limit"
    )
    assert sentence({"name": "max_ece"}) == "max ece"
