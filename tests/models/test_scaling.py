import json

import pytest
import torch
from safetensors.torch import save_file

from robustaug.models.scaling import (
    METADATA_KEY,
    IsotonicScaling,
    PlattScaling,
    TemperatureScaling,
    VectorScaling,
    load_scaling,
    log_odds,
    save_scaling,
)


def test_each_against_its_formula():
    z = torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(TemperatureScaling(2.0)(z), z / 2)
    assert torch.equal(
        VectorScaling([1.0, 2.0, 3.0], [0.5, 0.0, 0.0])(z), z * torch.tensor([1, 2, 3]) + torch.tensor([0.5, 0, 0])
    )
    p = torch.softmax(z, dim=1)
    sigmoids = torch.sigmoid(2 * torch.log(p / (1 - p)) - 1)
    found = PlattScaling([2.0] * 3, [-1.0] * 3).probabilities(z)
    assert torch.allclose(found, sigmoids / sigmoids.sum(dim=1, keepdim=True))
    two = PlattScaling([2.0], [-1.0]).probabilities(z[:, :2])
    assert torch.allclose(two[:, 1], torch.sigmoid(2 * (z[:, 1] - z[:, 0]) - 1))


def test_a_curve_is_flat_beyond_its_ends_and_straight_between_its_points():
    curve = IsotonicScaling([0.2, 0.6], [0.1, 0.5], [2])
    p = torch.tensor([0.0001, 0.2, 0.4, 0.6, 0.9999], dtype=torch.float64)
    assert curve.probabilities(torch.stack([torch.log(1 - p), torch.log(p)], dim=1))[:, 1].tolist() == pytest.approx(
        [0.1, 0.1, 0.3, 0.5, 0.5]
    )


def test_curves_that_are_all_zero_say_nothing():
    nothing = IsotonicScaling([0.5] * 3, [0.0] * 3, [1, 1, 1])
    assert torch.allclose(nothing.probabilities(torch.randn(4, 3)), torch.full((4, 3), 1 / 3))


def test_log_odds_keep_their_digits_where_a_class_is_nearly_sure():
    z = torch.tensor([[80.0, 0.0, 0.0]], dtype=torch.float64)
    assert log_odds(z)[0].tolist() == pytest.approx([80 - 0.6931471805599453, -80, -80])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TemperatureScaling(0.0), "temperature must be one number > 0"),
        (lambda: TemperatureScaling(float("nan")), "temperature must be finite"),
        (lambda: VectorScaling([1.0], [1.0, 2.0]), r"one number a class, got shapes \(1,\) and \(2,\)"),
        (lambda: IsotonicScaling([0.5, 0.2], [0.1, 0.2], [2]), "x must rise"),
        (lambda: IsotonicScaling([0.2, 0.5], [0.1, 0.2], [3]), "as many points as sizes"),
        (lambda: VectorScaling([1.0] * 3, [0.0] * 3)(torch.zeros(1, 2)), "fitted on 3 classes, the model has 2"),
    ],
)
def test_what_is_no_scaling_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_files_that_hold_none_are_refused(tmp_path):
    file = tmp_path / "c.safetensors"
    with pytest.raises(FileNotFoundError, match="no scaling at"):
        load_scaling(file)
    with pytest.raises(ValueError, match=r"written as \.safetensors, got 'c\.pt'"):
        save_scaling(tmp_path / "c.pt", TemperatureScaling(1.0))
    file.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="damaged or cut short"):
        load_scaling(file)
    for said, message in (
        ({}, "holds no scaling"),
        ({METADATA_KEY: json.dumps({"kind": "temprature"})}, "did you mean 'temperature'"),
        ({METADATA_KEY: json.dumps({"kind": "vector"})}, "vector scaling holds weight, bias, got temperature"),
        ({METADATA_KEY: json.dumps({"kind": "temperature"})}, "one number > 0, got -1"),
    ):
        save_file({"temperature": torch.tensor(-1.0, dtype=torch.float64)}, file, said)
        with pytest.raises(ValueError, match=message):
            load_scaling(file)
