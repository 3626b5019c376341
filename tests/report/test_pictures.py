import base64
import io

import numpy as np
import pytest
from PIL import Image

from robustaug.report import contact_sheet
from robustaug.report.pictures import change, data_uri


def decoded(uri):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,")))))


def draw(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_a_picture_keeps_every_pixel(channels):
    image = draw(channels, 8, 12)
    back = decoded(data_uri(image))
    np.testing.assert_array_equal(back, image[:3].transpose(1, 2, 0) if channels >= 3 else image[0])


def test_large_pictures_shrink():
    assert decoded(data_uri(draw(3, 400, 200))).shape == (96, 48, 3)


@pytest.mark.parametrize("image", [draw(8, 8), draw(3, 8, 8).astype(float), draw(3, 0, 8)])
def test_what_is_no_picture_is_refused(image):
    with pytest.raises(ValueError, match=r"image must be uint8 of shape \(C, H, W\)"):
        data_uri(image)


def test_a_change_is_amplified_around_grey():
    before = np.full((1, 1, 3), 100, np.uint8)
    shown, factor = change(before, np.array([[[90, 100, 105]]], np.uint8))
    assert factor == pytest.approx(12.7)
    assert shown.ravel().tolist() == [1, 128, 192]
    assert change(before, before)[1] == 0


def test_a_sheet_shows_pixels_enlarged_in_rows_and_columns(tmp_path):
    originals, inverted = draw(3, 1, 8, 8), 255 - draw(3, 1, 8, 8)
    path = contact_sheet(originals, [("inverted", inverted)], tmp_path / "sheet.png", scale=4)
    sheet = np.asarray(Image.open(path))
    top, tile, gap = 16, 32, 8
    left = sheet.shape[1] - 16 - 3 * tile - 2 * gap
    for row, images in enumerate((originals, inverted)):
        for column, image in enumerate(images):
            y, x = top + row * (tile + gap), left + column * (tile + gap)
            found = sheet[y : y + tile, x : x + tile, 0]
            np.testing.assert_array_equal(found, image[0].repeat(4, 0).repeat(4, 1))
    labels = sheet[:, : left - 8]
    assert (labels < 128).any(), "the labels are drawn"


def test_a_sheet_never_leaves_half_a_file(tmp_path):
    target = tmp_path / "sheet.png"
    contact_sheet(draw(2, 3, 8, 8), [], target)
    before = target.read_bytes()
    for originals, rows, scale, message in [
        (draw(2, 3, 8, 8), [("a", draw(3, 3, 8, 8))], None, "'a' has 3 images; the originals are 2"),
        (draw(2, 3, 8, 8), [("a", draw(2, 8, 8))], None, "'a' must be uint8 of shape"),
        (draw(2, 3, 8, 8).astype(float), [], None, "'original' must be uint8"),
        (draw(2, 3, 8, 8), [], 0, "scale must be >= 1, got 0"),
    ]:
        with pytest.raises(ValueError, match=message):
            contact_sheet(originals, rows, target, scale)
    assert target.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.png"]
