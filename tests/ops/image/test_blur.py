"""Blurs against their kernels: what one white pixel becomes is the kernel itself."""

import numpy as np
import pytest
import torch
from scipy import ndimage

import robustaug
from robustaug.ops.image.blur import gaussian_taps
from robustaug.ops.image.convolve import convolve, pad
from robustaug.rng import Keys

BLURS = ["image.gaussian_blur", "image.box_blur", "image.defocus_blur", "image.motion_blur"]


def point(side: int = 25) -> torch.Tensor:
    image = torch.zeros(1, 1, side, side, dtype=torch.float64)
    image[..., side // 2, side // 2] = 1
    return image


def picture(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("name", BLURS)
def test_a_blur_only_spreads_the_light(name):
    out = robustaug.create(name)(point())
    assert float(out.sum()) == pytest.approx(1, abs=1e-9)
    assert out.min() >= 0
    flat = torch.full((3, 2, 6, 9), 0.37)
    assert torch.allclose(robustaug.create(name)(flat), flat, atol=1e-6)


@pytest.mark.parametrize("rows, columns", [(0, 2), (3, 0), (1, 1), (9, 14)])
def test_reflection_of_any_width_agrees_with_numpy(rows, columns):
    image = picture(1, 1, 4, 6)
    expected = np.pad(image[0, 0].numpy(), ((rows, rows), (columns, columns)), mode="reflect")
    assert np.array_equal(pad(image, rows, columns)[0, 0].numpy(), expected)


@pytest.mark.parametrize("sigma", [0.4, 1.0, 2.6])
def test_gaussian_agrees_with_scipy(sigma):
    image = picture(1, 1, 20, 16)
    expected = ndimage.gaussian_filter(image[0, 0].numpy(), sigma, mode="mirror", truncate=4.0)
    out = robustaug.create("image.gaussian_blur", sigma_px=sigma)(image)
    assert np.abs(out[0, 0].numpy() - expected).max() < 1e-7


def test_a_narrow_kernel_does_not_notice_a_wide_one():
    taps = gaussian_taps(torch.tensor([0.5, 3.0]))
    alone = gaussian_taps(torch.tensor([0.5]))
    extra = (taps.shape[1] - alone.shape[1]) // 2
    assert torch.equal(taps[0, extra:-extra], alone[0])
    assert (taps[0, :extra] == 0).all()


@pytest.mark.parametrize("width", [1, 3, 5])
def test_box_of_odd_width_agrees_with_scipy(width):
    image = picture(1, 1, 11, 12)
    expected = ndimage.uniform_filter(image[0, 0].numpy(), width, mode="mirror")
    assert np.abs(robustaug.create("image.box_blur", width_px=width)(image)[0, 0].numpy() - expected).max() < 1e-12


def test_box_of_width_two_takes_half_of_the_outer_pixels():
    out = robustaug.create("image.box_blur", width_px=2)(point(5))
    assert torch.allclose(out[0, 0, 2, :], torch.tensor([0, 0.125, 0.25, 0.125, 0], dtype=torch.float64))


def published_disk(radius: float, alias: float) -> np.ndarray:
    """The published recipe: a disk on a 17 pixel grid, smoothed by a 3 x 3 Gaussian."""
    at = np.arange(-8, 9)
    disk = (at[:, None] ** 2 + at[None] ** 2 <= radius**2).astype(float)
    taps = np.exp(-0.5 * (np.arange(-1, 2) / alias) ** 2)
    taps /= taps.sum()
    disk /= disk.sum()
    return ndimage.convolve1d(ndimage.convolve1d(disk, taps, axis=0, mode="constant"), taps, axis=1, mode="constant")


@pytest.mark.parametrize("radius, alias", [(0.3, 0.4), (0.5, 0.6), (1, 0.2), (1.5, 0.1), (3, 0.5)])
def test_defocus_is_the_published_kernel(radius, alias):
    out = robustaug.create("image.defocus_blur", radius_px=radius, alias_px=alias)(point(17))
    assert np.abs(out[0, 0].numpy() - published_disk(radius, alias)).max() < 1e-7


def test_motion_leaves_a_trail_to_one_side():
    level = robustaug.create("image.motion_blur", sigma_px=2, angle_deg=0)(point())[0, 0]
    across = level.sum(dim=0)
    weights = torch.exp(-0.5 * (torch.arange(9, dtype=torch.float64) / 2) ** 2)
    assert torch.allclose(across[4:13].flip(0), weights / weights.sum(), atol=1e-9)
    assert across[13:].sum() == 0
    assert torch.allclose(level.sum(dim=1)[12], torch.tensor(1.0, dtype=torch.float64))
    upright = robustaug.create("image.motion_blur", sigma_px=2, angle_deg=90)(point())[0, 0]
    assert torch.allclose(upright, level.T, atol=1e-9)


def test_convolve_gives_every_sample_its_own_kernel():
    image = picture(2, 3, 6, 6)
    kernel = torch.zeros(2, 3, 3, dtype=torch.float64)
    kernel[0, 1, 1] = 1
    kernel[1, 1, 2] = 1  # the pixel to the right
    out = convolve(image, kernel)
    assert torch.equal(out[0], image[0])
    assert torch.equal(out[1, ..., :-1], image[1, ..., 1:])


def test_sharpening_a_ramp_leaves_it_and_an_edge_overshoots():
    ramp = torch.linspace(0.2, 0.8, 7, dtype=torch.float64).expand(1, 1, 5, 7)
    operator = robustaug.create("image.sharpness", factor=2.5)
    assert torch.allclose(operator(ramp), ramp)
    edge = torch.tensor([0.4, 0.4, 0.4, 0.6, 0.6, 0.6]).expand(1, 1, 5, 6)
    out = operator(edge)[0, 0, 2]
    assert out[2] < 0.4
    assert out[3] > 0.6


def test_parameters_differ_from_sample_to_sample():
    operator = robustaug.create("image.gaussian_blur", sigma_px=(0.2, 2))
    params = operator.sample(Keys.of(0, 8))
    peaks = operator.apply(point().expand(8, 1, -1, -1), params).amax(dim=(1, 2, 3))
    assert torch.equal(peaks.argsort(), params["sigma_px"].argsort(descending=True))
