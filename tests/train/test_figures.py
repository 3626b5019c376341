import pytest

from robustaug.train.figures import step_shares


def test_shares_are_of_the_steps_of_all_epochs():
    short = {"seconds_data": 1.0, "seconds_update": 1.0, "seconds": 9.0}
    long = {"seconds_data": 1.0, "seconds_augment": 4.0, "seconds_update": 3.0, "seconds_attack": None}
    assert step_shares([short]) == {"data": 0.5, "update": 0.5}
    assert step_shares([short, long]) == pytest.approx({"data": 0.2, "augment": 0.4, "update": 0.4})
    assert step_shares([]) == {}
