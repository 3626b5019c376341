import pytest
import torch

import robustaug


def test_a_series_may_have_any_length():
    model = robustaug.create("model.series_cnn", channels=2, classes=3, width=2).eval()
    assert model(torch.zeros(2, 2, 9)).shape == model(torch.zeros(2, 2, 50)).shape == (2, 3)


def test_wrong_numbers_are_named():
    with pytest.raises(ValueError, match="channels must be a whole number >= 1"):
        robustaug.create("model.series_cnn", channels=1.5)
