"""The wider set of image operators against closed forms, Pillow, OpenCV, SciPy, albumentations and torchvision."""

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from sklearn.datasets import load_sample_images
from torchvision.transforms.v2 import functional as tv

import robustaug
from robustaug.ops.image.camera import DAYLIGHT_K, daylight
from robustaug.ops.image.hsv import chroma_share
from robustaug.ops.image.transmission import cosine_basis

cv2 = pytest.importorskip("cv2")


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    """(96, 128, 3) uint8: a temple."""
    return np.asarray(Image.fromarray(load_sample_images().images[0]).resize((128, 96))).copy()


def run(name: str, image: np.ndarray, seed: int = 0, **params) -> np.ndarray:
    """An (H, W, C) or (H, W) uint8 or floating picture through one operator."""
    chw = torch.from_numpy(image)[None] if image.ndim == 2 else torch.from_numpy(image).permute(2, 0, 1)
    out = robustaug.create(f"image.{name}", **params)(chw, seed=seed)
    return (out[0] if image.ndim == 2 else out.permute(1, 2, 0)).numpy()


def flat(level: float, *shape: int, n: int = 1) -> torch.Tensor:
    return torch.full((n, 3, *(shape or (64, 64))), level)


@pytest.mark.parametrize("size", [(40, 50), (96, 128), (200, 180), (30, 200)])
def test_resize_is_torchvisions(photo, size):
    image = torch.from_numpy(photo).permute(2, 0, 1).float() / 255
    want = tv.resize(image, [*size], antialias=True)
    assert (robustaug.create("image.resize", size=size)(image) - want).abs().max() < 1e-5


@pytest.mark.parametrize("size", [(40, 50), (95, 127), (96, 128), (1, 1)])
def test_center_crop_and_pad_are_torchvisions(photo, size):
    image = torch.from_numpy(photo).permute(2, 0, 1)
    assert torch.equal(robustaug.create("image.center_crop", size=size)(image), tv.center_crop(image, [*size]))
    small = robustaug.create("image.center_crop", size=size)(image)
    assert torch.equal(robustaug.create("image.pad", size=(96, 128))(small).sum(), small.sum())


def test_crops_are_windows_and_reach_every_place():
    ramp = torch.arange(20.0).reshape(1, 1, 4, 5).expand(400, 1, 4, 5) / 20
    out = robustaug.create("image.crop", size=(2, 3))(ramp)
    corners = {int(v) for v in (out[:, 0, 0, 0] * 20).round()}
    assert corners == {0, 1, 2, 5, 6, 7, 10, 11, 12}
    assert torch.allclose(out[:, 0, 1, 2] - out[:, 0, 0, 0], torch.tensor(7 / 20))
    with pytest.raises(ValueError, match="size 9 x 9 does not fit into an image of 4 x 5"):
        robustaug.create("image.crop", size=9)(ramp)
    with pytest.raises(ValueError, match="is less than the image's"):
        robustaug.create("image.pad", size=3)(ramp)
    with pytest.raises(ValueError, match="size must be a whole number >= 1"):
        robustaug.create("image.crop", size=(0, 3))


def test_turns_and_transposition():
    image = torch.rand(3, 3, 6, 6)
    for turns in (1, 2, 3):
        assert torch.equal(robustaug.create("image.rotate90", turns=turns)(image), image.rot90(turns, (2, 3)))
    assert torch.equal(robustaug.create("image.transpose")(image[..., :4]), image[..., :4].transpose(2, 3))


def test_pad_and_crop_of_cifar_moves_by_at_most_four_pixels():
    image = torch.zeros(300, 1, 32, 32)
    image[:, 0, 16, 16] = 1
    out = robustaug.create("image.pad_and_crop")(image)
    assert (out.sum((1, 2, 3)) == 1).all()
    place = out.flatten(1).argmax(1)
    assert (place // 32 - 16).abs().max() == 4
    assert (place % 32 - 16).abs().max() == 4


@pytest.mark.parametrize("width", [3, 5, 7])
def test_median_blur_is_opencvs(photo, width):
    assert (run("median_blur", photo, width_px=width) == cv2.medianBlur(photo, width)).all()


def test_median_blur_refuses_an_even_width():
    with pytest.raises(ValueError, match=r"image\.median_blur: width_px must be odd, got 4"):
        robustaug.create("image.median_blur", width_px=[3, 4])


@pytest.mark.parametrize("clip", [2.0, 4.0])
@pytest.mark.parametrize("size", [(128, 128), (144, 200), (250, 170)])
def test_clahe_is_opencvs(size, clip):
    """Where a side is a multiple of 8 and the other not, OpenCV pads both, so such sizes differ by design."""
    grey = np.asarray(Image.fromarray(load_sample_images().images[0]).convert("L").resize(size[::-1])).copy()
    want = cv2.createCLAHE(clip, (8, 8)).apply(grey).astype(int)
    apart = np.abs(run("clahe", grey, clip=clip).astype(int) - want)
    assert apart.max() <= 1
    assert apart.mean() < 0.02


def test_unsharp_mask_is_the_formula_written_out(photo):
    x = photo / 255.0
    soft = np.stack([ndimage.gaussian_filter(c, 1.2, mode="mirror") for c in np.moveaxis(x, 2, 0)], 2)
    assert np.abs(run("unsharp_mask", x, amount=1.5, sigma_px=1.2) - (x + 1.5 * (x - soft)).clip(0, 1)).max() < 1e-4


def test_emboss_leaves_flat_areas_and_lights_a_rising_diagonal():
    assert (robustaug.create("image.emboss")(flat(0.4)) - 0.4).abs().max() < 1e-6
    y, x = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    ramp = ((x + y) / 100 + 0.2)[None]
    out = robustaug.create("image.emboss", strength=0.5)(ramp)
    inner = (out - ramp)[0, 2:-2, 2:-2]
    assert (inner > 0.02).all()
    assert inner.std() < 1e-6


def test_zoom_blur_leaves_the_centre_and_ringing_keeps_the_mean(photo):
    image = torch.from_numpy(photo)[:95, :127].permute(2, 0, 1).float() / 255
    out = robustaug.create("image.zoom_blur", factor=1.2)(image)
    assert (out - image)[:, 47, 63].abs().max() < 0.05
    assert (out - image).abs().max() > 0.3
    step = torch.zeros(1, 1, 64)
    step[..., 32:] = 0.6
    rung = robustaug.create("image.ringing", cutoff=0.4)(step + 0.2)
    assert rung.max() > 0.83  # overshoot
    assert abs(float(rung.mean() - 0.5)) < 0.01


def test_salt_and_pepper_hits_whole_pixels_half_and_half():
    out = robustaug.create("image.salt_and_pepper", amount=0.2)(flat(0.5, 128, 128, n=4))
    hit = (out != 0.5).all(1)
    assert ((out != 0.5).any(1) == hit).all()
    assert abs(float(hit.float().mean()) - 0.2) < 0.01
    assert abs(float((out[:, 0] == 1).sum() / hit.sum()) - 0.5) < 0.02


def test_noise_has_its_declared_spread():
    level = flat(0.5, 128, 128, n=4)
    uniform = robustaug.create("image.uniform_noise", reach=0.2)(level) - level
    assert abs(float(uniform.std()) - 0.2 / math.sqrt(3)) < 0.002
    laplace = robustaug.create("image.laplace_noise", sigma=0.05)(level) - level
    assert abs(float(laplace.std()) - 0.05) < 0.001
    assert abs(float(laplace.abs().mean()) - 0.05 / math.sqrt(2)) < 0.001  # the mean distance of Laplace's law
    for brightness in (0.1, 0.4, 0.7):
        iso = robustaug.create("image.iso_noise", gain=0.004, floor=0.02)(flat(brightness, 128, 128, n=4))
        assert abs(float(iso.std()) - math.sqrt(0.004 * brightness + 0.02**2)) < 0.002


def test_banding_is_one_offset_a_line():
    out = robustaug.create("image.banding", sigma=0.05, columns=[False])(flat(0.5, n=16))
    assert (out.std(dim=3) < 1e-6).all()
    assert abs(float(out[:, 0, :, 0].std()) - 0.05) < 0.006
    across = robustaug.create("image.banding", sigma=0.05, columns=[True])(flat(0.5, n=16))
    assert (across.std(dim=2) < 1e-6).all()


def test_bit_errors_flip_bits_at_their_rate():
    levels = torch.randint(0, 256, (4, 3, 64, 64), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    out = robustaug.create("image.bit_error", rate=0.05)(levels)
    flipped = (levels ^ out).int()
    rate = sum(((flipped >> bit) & 1).double().mean() for bit in range(8)) / 8
    assert abs(float(rate) - 0.05) < 0.002


def test_webp_is_pillows(photo):
    stored = io.BytesIO()
    Image.fromarray(photo).save(stored, "WEBP", quality=30, method=2)
    assert (run("webp", photo, quality=30) == np.asarray(Image.open(stored).convert("RGB"))).all()


def test_chroma_subsampling_keeps_brightness_and_averages_colour(photo):
    out = run("chroma_subsampling", photo / 255.0, factor=4)
    weights = np.array([0.299, 0.587, 0.114])
    inside = (out.min(2) > 0) & (out.max(2) < 1)  # where no clamp interfered
    assert np.abs((out - photo / 255.0) @ weights)[inside].max() < 1e-3
    blue = (out[..., 2] - out @ weights)[:96, :128].reshape(24, 4, 32, 4)
    whole = inside.reshape(24, 4, 32, 4).all((1, 3))
    assert blue.std((1, 3))[whole].max() < 1e-3


def test_video_blocks_quantise_the_cosine_transform():
    basis = cosine_basis(8, torch.zeros(1, dtype=torch.float64))
    assert torch.allclose(basis @ basis.T, torch.eye(8, dtype=torch.float64), atol=1e-12)
    block = torch.rand(1, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 0.2 + 0.4
    out = robustaug.create("image.video_blocks", step=0.1, lost=0)(block)
    k = torch.arange(8, dtype=torch.float64)
    steps = 0.1 * (0.5 + (k[:, None] + k) / 4)
    frequency = basis @ out[0, 0] @ basis.T / steps
    assert (frequency - frequency.round()).abs().max() < 1e-5


def test_linear_light(photo):
    image = torch.from_numpy(photo).permute(2, 0, 1).double()[None] / 255
    out = robustaug.create("image.white_balance", red=1.3, blue=0.8)(image)

    def linear(v):
        return torch.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)

    assert torch.allclose(linear(out[:, 0]), (linear(image[:, 0]) * 1.3).clamp(max=1), atol=1e-6)
    assert torch.allclose(linear(out[:, 2]), linear(image[:, 2]) * 0.8, atol=1e-6)
    assert torch.equal(out[:, 1], image[:, 1])


def test_lower_temperatures_are_warmer_and_keep_luminance():
    kelvin = torch.tensor([2500.0, 4000, DAYLIGHT_K, 12000])
    light = daylight(kelvin)
    luminance = light @ torch.tensor([0.2126, 0.7152, 0.0722], dtype=torch.float64)
    assert (luminance - 1).abs().max() < 2e-3
    ratio = light[:, 0] / light[:, 2]
    assert (ratio.diff() < 0).all()
    assert light[2].std() < 0.05  # daylight is nearly white
    warm = robustaug.create("image.color_temperature", kelvin=3000)(flat(0.5))
    assert warm[0, 0].mean() > 0.5 > warm[0, 2].mean()


def test_the_camera_response_is_the_published_formula():
    x = torch.linspace(0, 1, 11).reshape(1, 1, 11)
    k = 2.0
    power = k**-0.3293
    want = (math.exp(1.1258 * (1 - power)) * x**power).clamp(0, 1)
    assert torch.allclose(robustaug.create("image.camera_response", ratio=k)(x), want, atol=1e-6)


def test_hsv_shifts_keep_the_other_two(photo):
    hsv = np.asarray(Image.fromarray(photo).convert("HSV")).astype(int)
    x = photo / 255.0
    brighter = run("value_shift", x, shift=0.1)
    assert np.abs(brighter.max(2) - (x.max(2) + 0.1).clip(0, 1)).max() < 1e-6
    again = np.asarray(Image.fromarray((brighter * 255).round().astype(np.uint8)).convert("HSV")).astype(int)
    colourful = hsv[..., 1] > 60
    hue = np.abs(again[..., 0] - hsv[..., 0])
    assert np.minimum(hue, 256 - hue)[colourful].max() <= 4
    image = torch.from_numpy(x).permute(2, 0, 1)[None]
    fuller = robustaug.create("image.saturation_shift", shift=0.2)(image)
    old, new = (chroma_share(x.amax(1), x.amax(1) - x.amin(1)) for x in (image, fuller))
    coloured = old > 0
    assert (new - (old + 0.2).clamp(max=1))[coloured].abs().max() < 1e-5
    assert torch.allclose(fuller.amax(1), image.amax(1))


def test_pca_lighting_moves_along_the_components():
    out = robustaug.create("image.pca_lighting", sigma=0.3)(flat(0.5, 2, 2, n=20000)) - 0.5
    shift = out[:, :, 0, 0].double()
    covariance = shift.T @ shift / len(shift)
    roots = torch.linalg.eigvalsh(covariance).flip(0)
    want = (0.3 * torch.tensor([0.2175, 0.0188, 0.0045]).double()) ** 2
    assert torch.allclose(roots, want, rtol=0.06, atol=1e-6)


def test_uneven_light():
    shade = robustaug.create("image.vignetting", strength=0.6, x=0.5, y=0.5)(flat(1.0, 65, 65))[0, 0]
    assert shade[32, 32] == pytest.approx(1, abs=1e-6)
    assert shade[0, 0] == pytest.approx(0.4, abs=0.02)
    ramp = robustaug.create("image.lighting_gradient", strength=0.5, angle_deg=0)(flat(0.5, 64, 64))[0, 0]
    assert torch.allclose(ramp[:, 0], torch.tensor(0.25), atol=0.01)
    assert torch.allclose(ramp[:, -1], torch.tensor(0.75), atol=0.01)
    dark = robustaug.create("image.shadow", darkness=0.7, angle_deg=90, x=0.5, width=0.5, softness=0.001)(flat(1.0))[
        0, 0
    ]
    assert abs(float((dark < 0.5).float().mean()) - 0.5) < 0.03
    assert dark.min() == pytest.approx(0.3, abs=1e-5)


@pytest.mark.parametrize("name", ["fog", "frost", "snow", "rain", "spatter", "sun_flare"])
def test_weather_is_as_strong_at_any_resolution(name, photo):
    small = torch.from_numpy(photo).permute(2, 0, 1).float()[None] / 255
    large = torch.nn.functional.interpolate(small, scale_factor=3, mode="bilinear")
    amounts = []
    for image in (small, large):
        batch = image.expand(12, -1, -1, -1)
        amounts.append(float((robustaug.create(f"image.{name}", severity=4)(batch) - batch).abs().mean()))
    assert amounts[0] == pytest.approx(amounts[1], rel=0.4)


def test_fog_follows_koschmieders_law():
    """Through equal mist, two surfaces differ by e^-depth of what they did."""
    dark, bright = (robustaug.create("image.fog", strength=0.4)(flat(v), seed=1) for v in (0.1, 0.5))
    seen = (bright - dark) / 0.4
    assert (seen > 0).all()
    assert (torch.log(seen) > -3 * 0.4 - 1e-4).all()
    assert (torch.log(seen) < -3 * 0.4 * 0.4 + 1e-4).all()
    assert torch.allclose(dark, 0.1 * seen + 0.9 * (1 - seen), atol=1e-5)


def test_holes_pixels_stripes_and_patches():
    white = flat(1.0, n=64)
    holes = robustaug.create("image.coarse_dropout", holes=5, side=0.125)(white)
    assert ((holes == 0).sum((1, 2, 3)) <= 5 * 64 * 3).all()
    assert ((holes == 0).sum((1, 2, 3)) > 64 * 3).all()
    pixels = robustaug.create("image.pixel_dropout", amount=0.1)(white)
    assert abs(float((pixels == 0).float().mean()) - 0.1) < 0.003
    stripes = robustaug.create("image.stripes", width=0.25, upright=[True])(white)
    assert ((stripes == 0).float().mean((1, 2, 3)) == 0.25).all()
    assert (stripes.std(dim=2) == 0).all()
    image = torch.rand(2, 3, 12, 12)
    shuffled = robustaug.create("image.patch_shuffle", patch=4)(image)
    tiles = [t.unfold(2, 4, 4).unfold(3, 4, 4).flatten(4).sort(dim=4).values for t in (image, shuffled)]
    assert torch.equal(*tiles)
    assert not torch.equal(image, shuffled)


def test_a_sticker_covers_its_area_and_a_watermark_is_see_through():
    out = robustaug.create("image.sticker", side=0.5, x=0.5, y=0.5)(flat(0.0, 100, 100, n=20), seed=3)
    covered = (out > 0).any(1).float().mean((1, 2))
    assert (covered - 0.25).abs().max() < 0.03
    mark = robustaug.create("image.watermark", opacity=0.4, ink=1.0)(flat(0.5))
    levels = mark.unique()
    assert torch.allclose(levels, torch.tensor([0.5, 0.7]))


def test_channels():
    image = torch.rand(200, 3, 4, 4) * 0.5 + 0.25
    dropped = robustaug.create("image.channel_drop")(image)
    lost = (dropped == 0).all(dim=(2, 3))
    assert (lost.sum(1) == 1).all()
    assert lost.any(0).all()
    shift = robustaug.create("image.channel_shift", reach=0.2)(image) - image
    assert (shift.std(dim=(2, 3)) < 1e-6).all()
    assert 0.15 < shift.abs().amax() <= 0.2 + 1e-6


def test_colour_jitter_is_its_four_operators_in_turn():
    image = torch.rand(4, 3, 8, 8)
    both = robustaug.create("image.color_jitter", brightness=1.2, contrast=0.7, saturation=1.4, hue=0.05)(image)
    chain = robustaug.Pipeline(
        [
            {"image.brightness": {"factor": 1.2}},
            {"image.contrast": {"factor": 0.7}},
            {"image.saturation": {"factor": 1.4}},
            {"image.hue": {"shift_turns": 0.05}},
        ]
    )(image)
    assert torch.allclose(both, chain, atol=1e-6)


def test_grid_distortion_keeps_the_border_and_lens_distortion_the_centre():
    y, x = torch.meshgrid(torch.arange(41.0), torch.arange(41.0), indexing="ij")
    ramp = torch.stack([x, y])[None] / 40
    grid = robustaug.create("image.grid_distortion", strength=0.8)(ramp)
    assert (grid - ramp)[..., 0, 0].abs().max() < 0.03
    assert (grid - ramp).abs().max() > 0.05
    lens = robustaug.create("image.lens_distortion", k=0.2)(ramp)
    assert (lens - ramp)[..., 20, 20].abs().max() < 1e-6
    # half way to the corner, r = 1/2, is read at r (1 + 0.2 / 4)
    assert lens[0, 0, 30, 30] == pytest.approx((20 + 10 * (1 + 0.2 * 200 / (2 * 20.5**2))) / 40, abs=1e-3)


def test_rolling_shutter_moves_rows_as_wholes():
    ramp = (torch.arange(64.0) / 63).expand(1, 32, 64)
    out = robustaug.create("image.rolling_shutter", amplitude=0.05, sways=1, phase=0)(ramp)
    shift = (out - ramp)[0, :, 20:40] * 63
    assert shift.std(dim=1).max() < 1e-3
    want = 0.05 * 64 * torch.sin(2 * math.pi * (torch.arange(32) + 0.5) / 32)
    assert torch.allclose(shift.mean(1), want, atol=1e-2)
