"""Decoding with care: formats, damage, depth, orientation, size."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from robustaug.data.decode import UnreadableError, check_form, decode, to_pixels


def encoded(picture, form="PNG", **options):
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


GRADIENT = Image.fromarray(np.arange(12 * 20 * 3, dtype=np.uint8).reshape(12, 20, 3))


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "PPM"])
def test_lossless_formats_come_back_exactly(form):
    pixels = to_pixels(decode(encoded(GRADIENT, form)), 3)
    assert torch.equal(pixels, torch.from_numpy(np.array(GRADIENT)).permute(2, 0, 1))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty file"),
        (b"hello, this is text", "not a picture of a known format"),
        (encoded(GRADIENT, "JPEG")[:-200], "cannot be decoded: .*[Tt]runcated"),
        (encoded(GRADIENT)[:-40], "cannot be decoded"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a picture of a known format"),
    ],
    ids=["empty", "text", "cut JPEG", "cut PNG", "PostScript"],
)
def test_damage_has_a_reason(content, reason):
    with pytest.raises(UnreadableError, match=reason):
        decode(content)


@pytest.mark.parametrize("pixels", [(200, 240), (200, 500)], ids=["Pillow warns", "Pillow raises"])
def test_a_decompression_bomb_is_refused(monkeypatch, pixels):
    bomb = encoded(Image.new("L", pixels))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40_000)
    with pytest.raises(UnreadableError, match="too many pixels"):
        decode(bomb)


def test_sixteen_bit_grey_is_scaled_and_not_clipped():
    deep = Image.fromarray(np.array([[0, 128, 32896, 65535]], dtype=np.uint16))
    assert to_pixels(decode(encoded(deep)), 1).flatten().tolist() == [0, 0, 128, 255]


def test_floating_pixels_are_refused():
    with pytest.raises(UnreadableError, match="no declared range"):
        to_pixels(Image.new("F", (2, 2)), 1)


def test_a_photo_is_turned_as_its_camera_was():
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned by a quarter
    assert decode(encoded(GRADIENT, "JPEG", exif=exif)).size == (12, 20)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGBA", "CMYK", "LA"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_mode_becomes_the_channels_asked_for(mode, channels):
    pixels = to_pixels(GRADIENT.convert("RGB").convert("L" if mode == "LA" else mode).convert(mode), channels)
    assert (pixels.shape, pixels.dtype) == ((channels, 12, 20), torch.uint8)


def test_size_keeps_the_centre_and_the_aspect():
    wide = np.zeros((10, 30, 3), dtype=np.uint8)
    wide[:, 10:20] = 200  # the centred square is white, the wings are black
    small = to_pixels(Image.fromarray(wide), 3, size=5)
    assert (small[..., 1:-1] == 200).all(), "only the edges blend with what was cut off"
    assert (small > 150).all()
    assert to_pixels(Image.fromarray(wide), 1, size=40).shape == (1, 40, 40)


@pytest.mark.parametrize(
    ("size", "channels", "message"),
    [(0, 3, "size must be"), (2.5, 3, "size must be"), (True, 3, "size must be"), (8, 2, "channels must be 1")],
)
def test_forms_are_checked(size, channels, message):
    with pytest.raises(ValueError, match=message):
        check_form(size, channels)
