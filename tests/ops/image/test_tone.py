"""Tone operators against their formulas on values worked out by hand."""

import pytest
import torch

import robustaug


def values(*numbers: float) -> torch.Tensor:
    return torch.tensor(numbers).reshape(1, 1, 1, -1)


@pytest.mark.parametrize(
    ("name", "params", "given", "expected"),
    [
        ("brightness", {"factor": 1.5}, (0.0, 0.2, 0.8), (0.0, 0.3, 1.0)),
        ("contrast", {"factor": 0.5}, (0.0, 0.4, 0.8), (0.2, 0.4, 0.6)),
        ("contrast", {"factor": 0}, (0.0, 0.4, 0.8), (0.4, 0.4, 0.4)),
        ("gamma", {"gamma": 2}, (0.0, 0.5, 1.0), (0.0, 0.25, 1.0)),
        ("invert", {}, (0.0, 0.3, 1.0), (1.0, 0.7, 0.0)),
        ("solarize", {"threshold": 0.5}, (0.2, 0.5, 0.8), (0.2, 0.5, 0.2)),
        ("auto_contrast", {}, (0.2, 0.4, 0.6), (0.0, 0.5, 1.0)),
        ("auto_contrast", {}, (0.3, 0.3, 0.3), (0.3, 0.3, 0.3)),
    ],
)
def test_formulas(name, params, given, expected):
    out = robustaug.create(f"image.{name}", **params)(values(*given))
    assert torch.allclose(out, values(*expected), atol=1e-6)


def test_one_stop_doubles_the_light_not_the_value():
    out = robustaug.create("image.exposure", stops=1)(values(0.5))
    linear = ((0.5 + 0.055) / 1.055) ** 2.4
    assert out.item() == pytest.approx(1.055 * (2 * linear) ** (1 / 2.4) - 0.055, abs=1e-6)
    assert robustaug.create("image.exposure", stops=3)(values(0.9)).item() == pytest.approx(1)


@pytest.mark.parametrize("bits", range(1, 9))
def test_posterize_masks_every_level(bits):
    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16)
    out = robustaug.create("image.posterize", bits=bits)(levels)
    assert torch.equal(out, levels & (0xFF << (8 - bits)) % 256)


def test_equalize_spreads_a_narrow_ramp_over_all_levels():
    ramp = (100 + torch.arange(64) // 4).to(torch.uint8).reshape(1, 8, 8).repeat(1, 8, 8)
    out = robustaug.create("image.equalize")(ramp)
    assert out.min() == 0
    assert out.max() == 255
    assert len(out.unique()) == 16
    flat = torch.full((3, 16, 16), 77, dtype=torch.uint8)
    assert torch.equal(robustaug.create("image.equalize")(flat), flat)


def test_contrast_uses_each_samples_own_mean():
    pair = torch.cat([values(0.0, 0.2), values(0.6, 1.0)])
    out = robustaug.create("image.contrast", factor=0)(pair)
    assert torch.allclose(out, torch.tensor([0.1, 0.8]).reshape(2, 1, 1, 1).expand(2, 1, 1, 2))
