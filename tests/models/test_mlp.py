import pytest
import torch

import robustaug


def test_rows_of_another_length_name_the_parameter_to_set():
    with pytest.raises(ValueError, match=r"takes rows of 4 numbers.*set features=3"):
        robustaug.create("model.mlp", features=4)(torch.zeros(2, 3))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"features": 0}, "features must be a whole number >= 1"),
        ({"features": 2, "dropout": 1.0}, "dropout must be in"),
    ],
)
def test_wrong_numbers_are_named(params, message):
    with pytest.raises(ValueError, match=message):
        robustaug.create("model.mlp", **params)
