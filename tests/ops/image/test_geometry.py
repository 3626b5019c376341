"""Geometry against transforms known exactly, and its matrices against its pixels."""

import math

import pytest
import torch

import robustaug
from robustaug.ops.image.motion import Warp
from robustaug.ops.image.resample import centred, inverse, resample, rotation, square_to_quad
from robustaug.rng import Keys

GEOMETRY = robustaug.list(kind="operator", modality="image", tag="geometry")
WARPS = [name for name in GEOMETRY if isinstance(robustaug.create(name), Warp)]
WITH_MATRIX = [name for name in GEOMETRY if name not in WARPS]
SIZES = [(1, 1), (5, 5), (8, 8), (7, 12), (31, 224)]


def picture(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (33, 33), (224, 224)])
@pytest.mark.parametrize("turns", [1, 2, 3, -1])
def test_quarter_turns_are_exact(size, turns):
    """Up to the rounding of float32 positions, which grows with the side."""
    image = picture(2, 3, *size)
    out = robustaug.create("image.rotate", angle_deg=90 * turns)(image)
    assert (out - image.rot90(turns, (2, 3))).abs().max() <= max(1e-5, 1e-7 * size[0])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["image.horizontal_flip", "image.vertical_flip"])
def test_flips_are_their_matrices(name, size):
    image = picture(2, 3, *size)
    operator = robustaug.create(name)
    dim = 3 if name == "image.horizontal_flip" else 2
    assert torch.equal(operator(image), image.flip(dim))
    assert (resample(image, operator.matrix(size), operator.outside) - image.flip(dim)).abs().max() <= 1e-5


@pytest.mark.parametrize("name", WITH_MATRIX)
def test_every_operator_is_one_resampling_of_its_matrix(name):
    operator = robustaug.create(name)
    image = picture(4, 2, 9, 9) if name == "image.rotate90" else picture(4, 2, 9, 13)
    params = operator.sample(Keys.of(1, 4))
    matrix = operator.matrix(image.shape[-2:], **params)
    assert matrix.shape[1:] == (3, 3)
    assert len(matrix) in (1, 4)
    assert matrix.dtype == torch.float64
    if name == "image.resize":
        return  # its antialiasing is no plain resampling; tests/conformance holds it to torchvision's
    again = resample(image, matrix, operator.outside, operator.size_after(image.shape[-2:]))
    assert (again - operator.apply(image, params)).abs().max() <= 1e-5


def test_whole_pixel_moves_are_exact_and_black_comes_in():
    image = picture(1, 1, 4, 8)
    out = robustaug.create("image.translate", x=0.25, y=-0.25)(image)  # right by 2, up by 1
    assert (out[..., :3, 2:] - image[..., 1:, :-2]).abs().max() <= 1e-6
    assert out[..., 3, :].abs().max() <= 1e-6
    assert out[..., :2].abs().max() <= 1e-6


def test_matrices_compose_in_the_documented_order():
    """First translate, then rotate: one resampling by `translate @ rotate` is both, away from the border."""
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    image = (torch.exp(-((x - 30) ** 2 + (y - 35) ** 2) / 60))[None, None]  # smooth: resampling twice stays close
    translate = robustaug.create("image.translate", x=0.1, y=0.05)
    rotate = robustaug.create("image.rotate", angle_deg=20)
    in_turn = rotate(translate(image))
    first = translate.matrix((64, 64), **translate.sample(Keys.of(0, 1)))
    second = rotate.matrix((64, 64), **rotate.sample(Keys.of(0, 1)))
    assert (resample(image, first @ second) - in_turn).abs().max() < 0.02
    assert (resample(image, second @ first) - in_turn).abs().max() > 0.05


def test_zoom_enlarges_about_the_centre():
    image = torch.zeros(1, 1, 9, 9)
    image[..., 3:6, 3:6] = 1
    out = robustaug.create("image.zoom", factor=3)(image)
    assert (out[..., 1:8, 1:8] - 1).abs().max() < 1e-5
    assert out[..., 0, 0] < 1
    small = robustaug.create("image.zoom", factor=1 / 3)(torch.ones(1, 1, 9, 9))
    assert abs(float(small.sum()) - 9) < 1e-4


def test_affine_with_one_part_is_that_part():
    image = picture(2, 3, 16, 20)
    still = {"angle_deg": 0, "x": 0, "y": 0, "factor": 1, "shear_deg": 0}
    for part, name, params in [
        ({"angle_deg": 25}, "image.rotate", {"angle_deg": 25}),
        ({"x": 0.1, "y": -0.2}, "image.translate", {"x": 0.1, "y": -0.2}),
        ({"factor": 1.3}, "image.zoom", {"factor": 1.3}),
        ({"shear_deg": 12}, "image.shear", {"x_deg": 12, "y_deg": 0}),
    ]:
        whole = robustaug.create("image.affine", **{**still, **part})
        assert (whole(image) - robustaug.create(name, **params)(image)).abs().max() <= 1e-5


def test_a_crop_of_a_quarter_shows_that_quarter():
    image = picture(1, 1, 8, 8)
    out = robustaug.create("image.resized_crop", area=0.25, aspect=1, x=1, y=0)(image)
    expected = torch.nn.functional.interpolate(image[..., :4, 4:], scale_factor=2, mode="bilinear")
    # inside the window; beyond its edge ours sees the image and interpolate repeats the edge
    assert (out[..., 1:-1, 1:-1] - expected[..., 1:-1, 1:-1]).abs().max() <= 1e-5
    assert (out[..., 0, -1] - image[..., 0, -1]).abs().max() <= 1e-5


def test_a_resized_crop_has_its_size_and_keeps_the_image_s_without_one():
    image = picture(5, 3, 20, 16)
    assert robustaug.create("image.resized_crop")(image).shape == (5, 3, 20, 16)
    sized = robustaug.create("image.resized_crop", size=(9, 30))
    assert sized.size_after((20, 16)) == (9, 30)
    assert sized(image).shape == (5, 3, 9, 30)
    assert eval(repr(sized), {"robustaug": robustaug}) == sized
    same = robustaug.create("image.resized_crop", size=(20, 16), p=0.5)
    assert torch.equal(same(image), robustaug.create("image.resized_crop", p=0.5)(image))
    with pytest.raises(ValueError, match=r"changes the size from \(20, 16\) to \(9, 30\), so it needs p=1"):
        robustaug.create("image.resized_crop", size=(9, 30), p=0.5)(image)
    with pytest.raises(ValueError, match=r"image\.resized_crop: size must be a whole number >= 1"):
        robustaug.create("image.resized_crop", size=0)


def test_the_homography_takes_corners_to_corners():
    quad = torch.tensor([[[0.1, 0.2], [0.9, 0.0], [1.0, 0.8], [0.05, 0.95]]], dtype=torch.float64)
    square = torch.tensor([[0.0, 0, 1], [1, 0, 1], [1, 1, 1], [0, 1, 1]], dtype=torch.float64)
    mapped = square @ square_to_quad(quad)[0].T
    assert torch.allclose(mapped[:, :2] / mapped[:, 2:], quad[0])
    product = inverse(square_to_quad(quad)) @ square_to_quad(quad)
    assert torch.allclose(product / product[:, 2:, 2:], torch.eye(3, dtype=torch.float64)[None])


def test_perspective_keeps_all_of_the_image_in_view():
    """The whole picture lies inside the moved corners: a white image loses area, not brightness."""
    out = robustaug.create("image.perspective", distortion=0.5, corners=1)(torch.ones(1, 1, 64, 64))
    # every corner moves by a quarter of the side: half of each side remains
    assert abs(float(out.mean()) - 0.25) < 0.01
    assert (out[..., 18:46, 18:46] - 1).abs().max() < 1e-5
    assert out[..., :14, :].max() == 0


def test_gradients_reach_the_parameters():
    image = picture(2, 1, 12, 12)
    operator = robustaug.create("image.affine")
    params = {k: v.requires_grad_() for k, v in operator.sample(Keys.of(3, 2)).items()}
    operator.apply(image, params).square().sum().backward()
    for key, value in params.items():
        assert value.grad is not None, key
        assert value.grad.abs().min() > 0, key


def test_a_rotation_by_its_matrix_and_back_is_the_identity():
    angle = torch.tensor([33.0])
    there, back = centred(rotation(angle), (10, 14)), centred(rotation(-angle), (10, 14))
    assert torch.allclose(there @ back, torch.eye(3, dtype=torch.float64)[None], atol=1e-12)
    centre = torch.tensor([6.5, 4.5, 1.0], dtype=torch.float64)
    assert torch.allclose(there[0] @ centre, centre)
    assert math.isclose(float(torch.linalg.det(there)), 1, abs_tol=1e-9)
