"""Colour operators on colours whose answer is known."""

import colorsys
import itertools

import pytest
import torch

import robustaug

COLOURS = torch.tensor([*itertools.product((0.0, 0.25, 0.6, 1.0), repeat=3)])  # (64, 3)
IMAGE = COLOURS.T.reshape(3, 8, 8)


@pytest.mark.parametrize("turns", [-0.5, -0.2, 0, 0.1, 1 / 3, 0.5])
def test_hue_agrees_with_the_textbook(turns):
    out = robustaug.create("image.hue", shift_turns=turns)(IMAGE).reshape(3, -1).T
    for colour, shifted in zip(COLOURS.tolist(), out.tolist(), strict=True):
        h, s, v = colorsys.rgb_to_hsv(*colour)
        assert shifted == pytest.approx(colorsys.hsv_to_rgb((h + turns) % 1, s, v), abs=2e-6)


def test_a_third_of_a_turn_makes_red_green():
    red = torch.tensor([255, 0, 0], dtype=torch.uint8).reshape(3, 1, 1)
    assert robustaug.create("image.hue", shift_turns="1/3")(red).flatten().tolist() == [0, 255, 0]


def test_no_saturation_is_grayscale():
    plain = robustaug.create("image.grayscale")(IMAGE)
    assert torch.equal(plain[0], plain[1])
    assert torch.allclose(robustaug.create("image.saturation", factor=0)(IMAGE), plain, atol=1e-6)
    assert plain[0, -1, -1].item() == pytest.approx(0.9999, abs=1e-6)


def test_sepia_tints_white_towards_yellow():
    white = torch.ones(3, 1, 1)
    red, green, blue = robustaug.create("image.sepia", amount=1)(white).flatten().tolist()
    assert (red, green) == (1.0, 1.0)
    assert blue == pytest.approx(0.272 + 0.534 + 0.131, abs=1e-6)
    half = robustaug.create("image.sepia", amount=0.5)(white)
    assert half[2].item() == pytest.approx((1 + blue) / 2, abs=1e-6)


def test_channel_shuffle_gives_each_order_as_often():
    out = robustaug.create("image.channel_shuffle")(
        torch.tensor([0.0, 0.5, 1.0]).reshape(1, 3, 1, 1).expand(6000, 3, 1, 1)
    )
    orders, counts = out[:, :, 0, 0].unique(dim=0, return_counts=True)
    assert len(orders) == 6
    assert (counts.double() / 6000 - 1 / 6).abs().max() < 0.02
